//! What the sources need.

use crate::common::environment::Environment;
use crate::common::fault::Fault;
use crate::fetcher::imds_client::ImdsClient;
use crate::fetcher::profile::Profile;
use crate::fetcher::sts::Client;
use crate::messages::fetch_orders::FetchOrders;

pub struct Context<'a> {
    pub environment: &'a Environment,
    pub profile: &'a Profile,
    /// Whether an option names the profile, which then wins over the variables with keys.
    pub profile_is_option: bool,
    /// Connects to the host's metadata service, at the first call.
    pub host: &'a dyn Fn() -> Result<&'a ImdsClient, Fault>,
    /// Recognize this server.
    pub orders: &'a FetchOrders,
    /// Reports what the fetcher does now.
    pub report_step: &'a dyn Fn(&str),
    /// Exchanges a web identity.
    pub sts: &'a Client,
}
