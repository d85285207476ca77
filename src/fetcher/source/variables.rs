//! `AWS_ACCESS_KEY_ID` and its companions.

use super::context::Context;
use crate::common::credential::SourceCredential;
use crate::common::fault::{Fault, permanent};
use crate::common::secret::Secret;

const TOKENS: [&str; 2] = ["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"];

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name| context.environment.get(name);
    let (key, secret) = match (
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
    ) {
        (None, None) => return only_a_token(context),
        (Some(key), Some(secret)) => (key, secret),
        (Some(_), None) => {
            return permanent(
                "AWS_ACCESS_KEY_ID: it is set, AWS_SECRET_ACCESS_KEY is not; set both or neither",
            );
        }
        (None, Some(_)) => {
            return permanent(
                "AWS_SECRET_ACCESS_KEY: it is set, AWS_ACCESS_KEY_ID is not; set both or neither",
            );
        }
    };
    Ok(Some(SourceCredential {
        access_key_id: key.to_owned(),
        secret_access_key: Secret::new(secret),
        session_token: TOKENS.into_iter().find_map(variable).map(Secret::new),
        origin: "the environment's variables".to_owned(),
    }))
}

fn only_a_token(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let is_set = |name: &&str| context.environment.get(name).is_some();
    match TOKENS.into_iter().find(is_set) {
        None => Ok(None),
        Some(name) => permanent(format!(
            "{name}: it is set, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not; set all three or none"
        )),
    }
}
