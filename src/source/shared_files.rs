//! The profile of the shared config and credentials files: static keys, a web identity, or a `credential_process`.

use super::{Context, process, web_identity};
use crate::credential::SourceCredential;
use crate::fault::{Fault, lasting};
use crate::secret::Secret;

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let profile = context.profile;
    let named = |what: &str| format!("profile {:?}: {what}", profile.name);
    if let (Some(file), Some(role)) = (
        profile.get("web_identity_token_file"),
        profile.get("role_arn"),
    ) {
        let (file_from, role_from) = (named("web_identity_token_file"), named("role_arn"));
        return web_identity::exchange(
            context,
            &file_from,
            file,
            &role_from,
            role,
            profile.get("role_session_name"),
        )
        .map(Some);
    }
    let key_that_needs_a_process = ["role_arn", "sso_session", "sso_start_url", "login_session"]
        .into_iter()
        .find(|key| profile.get(key).is_some());
    if let Some(key) = key_that_needs_a_process
        && profile.get("aws_access_key_id").is_none()
        && profile.get("credential_process").is_none()
    {
        return lasting(named(&format!(
            "{key}: ec2-role does not follow it by itself; set credential_process = aws configure export-credentials --profile {} in another profile, \
             and name that one",
            profile.name
        )));
    }
    match (
        profile.get("aws_access_key_id"),
        profile.get("aws_secret_access_key"),
    ) {
        (Some(key), Some(secret)) => Ok(Some(SourceCredential {
            access_key_id: key.to_owned(),
            secret_access_key: Secret::new(secret),
            session_token: profile.get("aws_session_token").map(Secret::new),
            origin: format!("profile {:?}", profile.name),
        })),
        (None, None) => match profile.get("credential_process") {
            Some(command) => process::run(context, &profile.name, command).map(Some),
            None => Ok(None),
        },
        _ => lasting(named(
            "it has only one of aws_access_key_id and aws_secret_access_key; give both or neither",
        )),
    }
}
