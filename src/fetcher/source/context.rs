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
    /// The supervisor's orders. They hold the key of this server's session tokens, by which a source detects that its endpoint is
    /// this server itself.
    pub orders: &'a FetchOrders,
    /// Reports the current step of the fetcher.
    pub report_step: &'a dyn Fn(&str),
    /// STS client that exchanges a web identity token.
    pub sts: &'a Client,
}
