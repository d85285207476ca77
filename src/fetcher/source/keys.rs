//! Finds an access key in the environment's variables, or in a profile's section of one shared file.

use super::context::Context;
use crate::common::{Fault, Secret};
use crate::fetcher::setting::Setting;
use crate::fetcher::source_credential::SourceCredential;

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name: &str| context.settings.variable(name);
    let names =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"];
    find_in(variable, names, "the environment's variables")
}

/// Finds an access key with its session token. `setting` returns the setting with a name; the names are those of the access key
/// id, the secret access key, the session token, and the session token's old name.
pub fn find_in<'a>(
    setting: impl Fn(&str) -> Option<Setting<'a>>,
    [key_id, secret, token, old_token]: [&str; 4],
    origin: &str,
) -> Result<Option<SourceCredential>, Fault> {
    let session_token = setting(token).or_else(|| setting(old_token));
    let lone = |set: Setting, unset: &str| {
        set.wrong(&format!("it is set, {unset} is not; set both or neither"))
    };
    match (setting(key_id), setting(secret), session_token) {
        (Some(key_id), Some(secret), token) => Ok(Some(SourceCredential {
            access_key_id: key_id.key()?.to_owned(),
            secret_access_key: Secret::new(secret.key()?),
            session_token: token.map(|token| token.key().map(Secret::new)).transpose()?,
            origin: origin.to_owned(),
        })),
        (None, None, None) => Ok(None),
        (Some(set), None, _) => lone(set, secret),
        (None, Some(set), _) => lone(set, key_id),
        (None, None, Some(token)) => {
            token.wrong(&format!("it is set, {key_id} and {secret} are not; set all three or none"))
        }
    }
}
