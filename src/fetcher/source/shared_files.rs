//! The profile of the shared config and credentials files: a web identity, static keys, or a `credential_process`.

use super::context::Context;
use super::{process, web_identity};
use crate::common::credential::SourceCredential;
use crate::common::fault::{Fault, permanent};
use crate::common::secret::Secret;
use crate::fetcher::profile::{File, Profile};

/// What names a source that takes further steps. SDKs take it before any keys beside it, which may have other rights.
const ROLE_KEYS: [&str; 3] = ["role_arn", "source_profile", "credential_source"];
/// Likewise; but a `credential_process` beside these is there for whoever cannot follow them, and gives the same role.
const SSO_KEYS: [&str; 5] = [
    "sso_session",
    "sso_start_url",
    "sso_region",
    "sso_account_id",
    "sso_role_name",
];

/// The order is botocore's (`ProfileProviderBuilder.providers`), so that the rights are those that the user has elsewhere: a command
/// in either file goes before keys in the config file, and after keys in the credentials file.
pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let profile = context.profile;
    if let Some(file) = profile.get("web_identity_token_file") {
        return exchange(context, file).map(Some);
    }
    let command = profile.get("credential_process");
    let sso_keys = SSO_KEYS.iter().filter(|_| command.is_none());
    for key in ROLE_KEYS.iter().chain(sso_keys) {
        refuse(profile, key)?;
    }
    if let Some(keys) = keys(profile, File::Credentials)? {
        return Ok(Some(keys));
    }
    refuse(profile, "login_session")?;
    match command {
        Some(command) => process::run(context, &profile.name, command).map(Some),
        None => keys(profile, File::Config),
    }
}

fn exchange(context: &Context, file: &str) -> Result<SourceCredential, Fault> {
    let profile = context.profile;
    let Some(role) = profile.get("role_arn") else {
        return permanent(named(
            profile,
            "web_identity_token_file: it is set, role_arn is not; set both (role_arn is the first role, which assumes the served one)",
        ));
    };
    web_identity::exchange(
        context,
        &named(profile, "web_identity_token_file"),
        file,
        &named(profile, "role_arn"),
        role,
        profile.get("role_session_name"),
    )
}

fn refuse(profile: &Profile, key: &str) -> Result<(), Fault> {
    if profile.get(key).is_none() {
        return Ok(());
    }
    permanent(named(
        profile,
        &format!(
            "{key}: ec2-role does not follow it by itself; set credential_process = aws configure export-credentials --profile {} in \
             another profile, and name that one",
            profile.name
        ),
    ))
}

/// The keys of one file: a token of the other one would not be theirs.
fn keys(profile: &Profile, file: File) -> Result<Option<SourceCredential>, Fault> {
    let get = |key| profile.get_in(file, key);
    let token = get("aws_session_token").or(get("aws_security_token"));
    match (get("aws_access_key_id"), get("aws_secret_access_key")) {
        (Some(key), Some(secret)) => Ok(Some(SourceCredential {
            access_key_id: key.to_owned(),
            secret_access_key: Secret::new(secret),
            session_token: token.map(Secret::new),
            origin: format!("profile {:?}", profile.name),
        })),
        (None, None) if token.is_none() => Ok(None),
        (None, None) => permanent(named(
            profile,
            &format!(
                "it has a session token and no keys in the {file} file; give all three or none there"
            ),
        )),
        _ => permanent(named(
            profile,
            &format!(
                "it has only one of aws_access_key_id and aws_secret_access_key in the {file} file; give both or neither there"
            ),
        )),
    }
}

fn named(profile: &Profile, what: &str) -> String {
    format!("profile {:?}: {what}", profile.name)
}
