//! The host's own credentials, in the SDKs' order; read again for every errand, because files and services rotate theirs
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).

mod container;
pub mod instance;
mod process;
mod shared_files;
mod variables;
mod web_identity;

use std::path::Path;

use serde_json::Value;

use crate::credential::SourceCredential;
use crate::environment::Environment;
use crate::fault::{Fault, lasting};
use crate::host_metadata::Host;
use crate::profile::Profile;
use crate::role::RoleArn;
use crate::secret::Secret;

/// What the sources look at.
pub struct Context<'a> {
    /// The variables.
    pub environment: &'a Environment,
    /// The profile of the shared files.
    pub profile: &'a Profile,
    /// Whether the profile was named by an option: it then goes before the variables.
    pub profile_is_option: bool,
    /// The host's metadata service.
    pub host: &'a Host<'a>,
    /// Told what is begun, for whoever waits.
    pub progress: &'a dyn Fn(&str),
    /// Calls AssumeRoleWithWebIdentity: role, session name, token.
    pub web_identity: &'a dyn Fn(&RoleArn, &str, &str) -> Result<SourceCredential, Fault>,
}

/// The first source that has credentials. One that is only half there is a fault, not passed over: what follows it would be
/// other rights than the user meant.
pub fn find(context: &Context) -> Result<SourceCredential, Fault> {
    let sources = [
        variables::find,
        web_identity::find,
        shared_files::find,
        container::find,
    ];
    let first = if context.profile_is_option { 2 } else { 0 };
    for source in &sources[first..] {
        if let Some(found) = source(context)? {
            return Ok(found);
        }
    }
    instance::find(context)
}

/// Reads a file that the user named by `what`.
fn read_file(what: &str, path: impl AsRef<Path>) -> Result<String, Fault> {
    let path = path.as_ref();
    std::fs::read_to_string(path).or_else(|error| {
        lasting(format!(
            "{what} {}: it cannot be read: {error}; name a file that ec2-role's user can read",
            path.display()
        ))
    })
}

/// A role's credential from the JSON document of a service; `None` if a part is missing: without its token it is none, to SDKs too.
fn role_from_document(json: &Value, origin: &str) -> Option<SourceCredential> {
    from_document(json, "Token", origin).filter(|found| found.session_token.is_some())
}

/// A credential from one of the JSON documents that AWS's sources use; `None` if a key is missing.
fn from_document(json: &Value, token_key: &str, origin: &str) -> Option<SourceCredential> {
    let text = |key: &str| json[key].as_str().filter(|text| !text.is_empty());
    Some(SourceCredential {
        access_key_id: text("AccessKeyId")?.to_owned(),
        secret_access_key: Secret::new(text("SecretAccessKey")?),
        session_token: text(token_key).map(Secret::new),
        origin: origin.to_owned(),
    })
}
