//! The fetcher process: fetches one credential or the host's other metadata. It may hang, so the supervisor gives it a deadline.

pub mod aws_settings;
pub mod credential;
pub mod http_client;
pub mod imds_client;
pub mod metadata;
mod panic_report;
pub mod profile;
mod proxy;
mod resolver;
pub mod setting;
pub mod shared_file;
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
use crate::messages::fetch_orders::{FetchOrders, Task};
use crate::messages::fetch_report::{FetchReport, FetchedMetadata};
use crate::messages::frame::{from_frame, to_frame};

/// The supervisor kills a fetcher that takes longer. A credential_process may take 45 s, and a call to STS 25 s: each limit within
/// the fetcher is reached first, so that the error names what is slow.
pub const DEADLINE: Duration = Duration::from_secs(75);

/// Runs as a fetcher of the supervisor: orders on stdin, reports on stdout.
pub fn run(arguments: &Config, environment: &Environment) {
    panic_report::install(|fault| report(FetchReport::Failed(fault)));
    let mut frame = Vec::new();
    let orders: Option<FetchOrders> = std::io::stdin()
        .read_to_end(&mut frame)
        .ok()
        .and_then(|_| from_frame(frame));
    let Some(orders) = orders else { return };
    let outcome = match orders.task {
        Task::Credential => {
            credential::fetch(arguments, environment, &orders, &report).map(FetchReport::Fetched)
        }
        Task::Metadata => read_metadata(arguments, environment, &orders),
    };
    report(outcome.unwrap_or_else(FetchReport::Failed));
}

/// Reports to the supervisor. Without one, nobody is left to report to.
pub fn report(report: FetchReport) {
    _ = std::io::stdout().write_all(&to_frame(&report));
}

/// Runs as the user's command: prints the credential as SDKs read it from a `credential_process`.
pub fn print(arguments: &Config, environment: &Environment) -> Result<String, Fault> {
    panic_report::install(|fault| log::event(fault.text()));
    let report = |report: FetchReport| {
        if let FetchReport::Notice(text) = report {
            log::warning(&text);
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
    let what = arguments.pass_through.unwrap_or_default();
    let snapshot = metadata::read(&client, what, BootTime::now())?;
    Ok(FetchReport::Metadata(FetchedMetadata {
        items: snapshot.items.len(),
        left_out: snapshot.left_out,
        snapshot: to_frame(&snapshot),
    }))
}
