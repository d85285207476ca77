//! The settings, orders and clients of one fetch of a credential.

use crate::common::Fault;
use crate::fetcher::aws_settings::AwsSettings;
use crate::fetcher::imds_client::ImdsClient;
use crate::fetcher::sts::Client;
use crate::messages::{FetchOrders, FetchReport, Report};

pub struct Context<'a> {
    pub settings: &'a AwsSettings<'a>,
    /// The supervisor's orders. A source that is an HTTP service passes a session token of its endpoint to `orders.is_own_token`,
    /// to detect that the endpoint is ec2-role itself.
    pub orders: &'a FetchOrders,
    pub report: Report<'a>,
    /// Returns the client of the host's metadata service; the first call connects it.
    pub host: &'a dyn Fn() -> Result<&'a ImdsClient, Fault>,
    pub sts: &'a Client,
}

impl Context<'_> {
    pub fn step(&self, step: &str) {
        (self.report)(FetchReport::Step(step.to_owned()));
    }
}
