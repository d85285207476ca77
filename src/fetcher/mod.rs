//! The fetcher process: fetches one credential or the host's other metadata. It may hang, so the supervisor gives it a deadline.

pub mod aws_settings;
pub mod credential;
pub mod http_client;
pub mod imds_client;
pub mod metadata;
pub mod profile;
mod proxy;
mod setting;
pub mod source;
pub mod source_credential;
pub mod sts;

use std::io::{Read, Write};
use std::time::Duration;

use crate::common::clock::BootTime;
use crate::common::config::Config;
use crate::common::environment::Environment;
use crate::common::fault::Fault;
use crate::common::log;
use crate::fetcher::imds_client::ImdsClient;
use crate::messages::fetch::{FetchOrders, FetchReport, Task};

/// The supervisor kills a fetcher that takes longer. A credential_process may take 45 s, and a call to STS 25 s: each limit within
/// the fetcher is reached first, so that the error names what is slow.
pub const DEADLINE: Duration = Duration::from_secs(75);

/// Runs as the supervisor's fetcher: orders on stdin, reports on stdout.
pub fn run(arguments: &Config, environment: &Environment) {
    let report = |report: FetchReport| {
        // If nobody listens any more there is nobody to tell.
        _ = std::io::stdout().write_all(report.to_line().as_bytes());
    };
    let mut line = String::new();
    let orders = std::io::stdin()
        .read_to_string(&mut line)
        .ok()
        .and_then(|_| FetchOrders::from_line(&line));
    let Some(orders) = orders else { return };
    let outcome = match orders.task {
        Task::Credential => {
            credential::fetch(arguments, environment, &orders, &report).map(FetchReport::Fetched)
        }
        Task::Metadata => read_metadata(arguments, environment, &orders),
    };
    report(outcome.unwrap_or_else(FetchReport::Failed));
}

/// Runs as the user's command: prints the credential as SDKs read it from a `credential_process`.
pub fn print(arguments: &Config, environment: &Environment) -> Result<String, Fault> {
    let report = |report: FetchReport| {
        if let FetchReport::Notice(text) = report {
            log::event(&text);
        }
    };
    let fetched = credential::fetch(arguments, environment, &FetchOrders::default(), &report)?;
    Ok(fetched.credential.process_document())
}

fn read_metadata(
    arguments: &Config,
    environment: &Environment,
    orders: &FetchOrders,
) -> Result<FetchReport, Fault> {
    let own_tokens = orders.own_tokens();
    let client = ImdsClient::connect(environment, own_tokens.as_ref())?;
    let snapshot = metadata::read(
        &client,
        arguments.pass_through.unwrap_or_default(),
        BootTime::now(),
    )?;
    Ok(FetchReport::Metadata(snapshot))
}
