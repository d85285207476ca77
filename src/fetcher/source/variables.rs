//! Finds a credential in the environment's variables.

use super::context::Context;
use crate::common::{Fault, Secret};
use crate::fetcher::setting::Setting;
use crate::fetcher::source_credential::SourceCredential;

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
/// Names of the session token's variable; the second is the old name.
const TOKENS: [&str; 2] = ["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"];

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name| Setting::variable(&context.config.environment, name);
    let token = TOKENS.into_iter().find_map(variable);
    let lone = |set: &Setting, unset| {
        set.wrong(&format!("it is set, {unset} is not; set both or neither"))
    };
    match (variable(KEY_ID), variable(SECRET), token) {
        (Some(key_id), Some(secret), token) => Ok(Some(SourceCredential {
            access_key_id: key_id.key()?.to_owned(),
            secret_access_key: Secret::new(secret.key()?),
            session_token: token.map(|token| token.key().map(Secret::new)).transpose()?,
            origin: "the environment's variables".to_owned(),
        })),
        (None, None, None) => Ok(None),
        (Some(key_id), None, _) => lone(&key_id, SECRET),
        (None, Some(secret), _) => lone(&secret, KEY_ID),
        (None, None, Some(token)) => {
            token.wrong(&format!("it is set, {KEY_ID} and {SECRET} are not; set all three or none"))
        }
    }
}
