//! Finds a credential in the profile of the shared files: a web identity, static keys, or a `credential_process`.

use super::context::Context;
use super::{credential_process, web_identity};
use crate::common::Fault;
use crate::fetcher::profile::Profile;
use crate::fetcher::setting::Setting;
use crate::fetcher::shared_file::Settings;
use crate::fetcher::source_credential::{Found, SourceCredential};

/// Profile keys of an assumed role, which ec2-role does not support. In a profile without a web identity they are an error, even
/// next to static keys: SDKs prefer the role, so the keys could give other rights.
const ROLE_KEYS: [&str; 3] = ["role_arn", "source_profile", "credential_source"];
/// Profile keys of an SSO sign-in, which ec2-role does not support. They are an error, except next to a `credential_process`,
/// which users add for programs that cannot sign in.
const SSO_KEYS: [&str; 5] =
    ["sso_session", "sso_start_url", "sso_region", "sso_account_id", "sso_role_name"];
const LOGIN_KEY: &str = "login_session";

/// Finds the profile's credential. In this order: a web identity, static keys in the credentials file, a `credential_process` in
/// either file, static keys in the config file. botocore has the same order (`ProfileProviderBuilder.providers`), so the user has
/// the same rights as with the AWS CLI.
pub fn find(context: &Context) -> Found {
    let profile = &context.settings.profile;
    profile.access.clone()?;
    let keys = ["web_identity_token_file", "role_arn", "role_session_name"];
    if let Some(found) = web_identity::find_in(context, |key| profile.setting(key), keys)? {
        return Ok(Some(found));
    }
    let command = profile.get("credential_process");
    refuse(profile, &ROLE_KEYS, "to another profile, and name that one")?;
    let refuse_sign_in = |keys: &[&str]| match command {
        Some(_) => Ok(()),
        None => refuse(profile, keys, "to this one"),
    };
    refuse_sign_in(&SSO_KEYS)?;
    if let Some(keys) = static_keys(profile, &profile.credentials, "credentials")? {
        return Ok(Some(keys));
    }
    refuse_sign_in(&[LOGIN_KEY])?;
    match command {
        Some(command) => credential_process::run(context, &profile.name, command).map(Some),
        None => static_keys(profile, &profile.config, "config"),
    }
}

/// Returns an error if the profile has one of `keys`.
fn refuse(profile: &Profile, keys: &[&str], place: &str) -> Result<(), Fault> {
    let set = keys.iter().find_map(|key| profile.setting(key));
    let Some(setting) = set else { return Ok(()) };
    setting.wrong(&format!(
        "ec2-role does not support it; where the AWS CLI 2 is installed, add credential_process = aws configure export-credentials \
         --profile {} {place}",
        shlex::try_quote(&profile.name).unwrap_or_default()
    ))
}

/// Finds static keys in the `settings` of one file. Their session token is taken from the same file only: a token in the other
/// file belongs to other keys.
fn static_keys(profile: &Profile, settings: &Settings, file: &str) -> Found {
    let setting = |key: &str| {
        let origin = format!("{} in the {file} file", profile.origin(key));
        Some(Setting::in_file(origin, settings.get(key)?))
    };
    let names =
        ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_security_token"];
    SourceCredential::find(setting, names, &format!("profile {:?}", profile.name))
}
