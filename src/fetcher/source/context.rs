//! What the sources look at.

use crate::common::credential::SourceCredential;
use crate::common::environment::Environment;
use crate::common::fault::Fault;
use crate::common::role::RoleArn;
use crate::fetcher::imds_client::Host;
use crate::fetcher::profile::Profile;

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
