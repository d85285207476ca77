//! Keys in the environment's variables.

use super::context::Context;
use crate::common::fault::{Fault, permanent};
use crate::common::secret::Secret;
use crate::fetcher::source_credential::SourceCredential;

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
/// The second is its old name.
const TOKENS: [&str; 2] = ["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"];

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name| Some((name, context.environment.get(name)?));
    let token = TOKENS.into_iter().find_map(variable);
    match (variable(KEY_ID), variable(SECRET), token) {
        (Some((_, key_id)), Some((_, secret)), token) => Ok(Some(SourceCredential {
            access_key_id: key_id.to_owned(),
            secret_access_key: Secret::new(secret),
            session_token: token.map(|(_, token)| Secret::new(token)),
            origin: "the environment's variables".to_owned(),
        })),
        (None, None, None) => Ok(None),
        (Some(_), None, _) => permanent(format!(
            "{KEY_ID}: it is set, {SECRET} is not; set both or neither"
        )),
        (None, Some(_), _) => permanent(format!(
            "{SECRET}: it is set, {KEY_ID} is not; set both or neither"
        )),
        (None, None, Some((name, _))) => permanent(format!(
            "{name}: it is set, {KEY_ID} and {SECRET} are not; set all three or none"
        )),
    }
}
