//! The sources of the host's own credential, in the SDKs' order. Each fetcher reads them again, because files and services rotate
//! their credentials (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).

mod container;
mod context;
mod credential_process;
pub mod instance;
mod shared_files;
mod web_identity;

pub use context::Context;

use crate::common::{Fault, permanent, transient};
use crate::fetcher::aws_settings::AwsSettings;
use crate::fetcher::source_credential::{Found, SourceCredential};

/// Returns the host's credential; an error if the credential found is the one that this server serves.
pub fn find(context: &Context) -> Result<SourceCredential, Fault> {
    let found = find_first(context)?;
    if context.orders.serving.as_deref() == Some(found.keys.access_key_id()) {
        return transient(format!(
            "{}: this is the credential that this server serves; give ec2-role the host's own",
            found.origin
        ));
    }
    Ok(found)
}

/// Returns the credential of the first source that has one. An incomplete source is an error, because the next source may have
/// other rights than the user intends.
fn find_first(context: &Context) -> Result<SourceCredential, Fault> {
    let AwsSettings { config, profile } = context.settings;
    let sources = [find_in_variables, web_identity::find, shared_files::find, container::find];
    // A profile that `--profile` names wins over the first two sources, which read keys and a web identity from variables.
    let first = if config.profile.is_some() { 2 } else { 0 };
    for source in &sources[first..] {
        if let Some(found) = source(context)? {
            return Ok(found);
        }
    }
    if config.environment.is_on("AWS_EC2_METADATA_DISABLED").or_else(permanent)? {
        // This error is transient, because a shared file may be written or mounted later.
        return transient(format!(
            "no source has a credential (profile {:?} has none), and AWS_EC2_METADATA_DISABLED is true; give keys in variables \
             or a profile, or unset it",
            profile.name
        ));
    }
    instance::find(context)
}

fn find_in_variables(context: &Context) -> Found {
    let variable = |name: &str| context.settings.variable(name);
    let names =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"];
    SourceCredential::find(variable, names, "the environment's variables")
}
