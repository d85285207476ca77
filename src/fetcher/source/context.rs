//! The settings, orders and clients that every source gets.

use crate::common::{Config, Fault};
use crate::fetcher::imds_client::ImdsClient;
use crate::fetcher::profile::Profile;
use crate::fetcher::sts::Client;
use crate::messages::FetchOrders;

pub struct Context<'a> {
    pub config: &'a Config,
    pub profile: &'a Profile,
    /// Returns the client of the host's metadata service; the first call connects it.
    pub host: &'a dyn Fn() -> Result<&'a ImdsClient, Fault>,
    /// Orders of the supervisor; with them a source detects that a service is this server.
    pub orders: &'a FetchOrders,
    /// Reports the current step of the fetcher.
    pub report_step: &'a dyn Fn(&str),
    /// STS client that exchanges a web identity token.
    pub sts: &'a Client,
}
