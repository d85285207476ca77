//! What the sources need.

use crate::common::environment::Environment;
use crate::fetcher::imds_client::HostMetadata;
use crate::fetcher::profile::Profile;
use crate::fetcher::sts::Client;

pub struct Context<'a> {
    pub environment: &'a Environment,
    pub profile: &'a Profile,
    /// Whether an option names the profile, which then wins over the variables with keys.
    pub profile_is_option: bool,
    pub host: &'a HostMetadata<'a>,
    /// Reports what the fetcher does now.
    pub report_step: &'a dyn Fn(&str),
    /// Exchanges a web identity.
    pub sts: &'a Client,
}
