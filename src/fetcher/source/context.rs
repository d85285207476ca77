//! What the sources need.

use crate::common::environment::Environment;
use crate::common::fault::Fault;
use crate::common::role::RoleArn;
use crate::fetcher::imds_client::HostMetadata;
use crate::fetcher::profile::Profile;
use crate::fetcher::source_credential::SourceCredential;

pub struct Context<'a> {
    pub environment: &'a Environment,
    pub profile: &'a Profile,
    /// Whether an option names the profile, which then wins over the variables with keys.
    pub profile_is_option: bool,
    pub host: &'a HostMetadata<'a>,
    /// Reports what the fetcher does now.
    pub report_step: &'a dyn Fn(&str),
    /// Calls AssumeRoleWithWebIdentity with a role, a session name and a token.
    pub web_identity: &'a dyn Fn(&RoleArn, &str, &str) -> Result<SourceCredential, Fault>,
}
