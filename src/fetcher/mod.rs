//! The fetcher process: fetches one credential, the host's other metadata, or the token of the container form. It may hang, so the supervisor gives it a deadline.

mod assume_role_call;
pub mod aws_settings;
mod container_token;
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

use std::io::{BufRead, Read, Write};
use std::thread::Builder;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process_group};

use crate::common::clock::BootTime;
use crate::common::config::Config;
use crate::common::environment::Environment;
use crate::common::fault::{Fault, transient};
use crate::common::limit;
use crate::common::log;
use crate::fetcher::imds_client::ImdsClient;
use crate::messages::fetch_orders::{FetchOrders, Task};
use crate::messages::fetch_report::{FetchReport, FetchedMetadata};
use crate::messages::frame::{END, from_frame, to_frame};

/// The supervisor kills a fetcher that takes longer. A credential_process may take 45 s, and a call to STS 25 s: each limit within
/// the fetcher is reached first, so that the error names what is slow.
pub const DEADLINE: Duration = Duration::from_secs(75);

/// The thread that watches the supervisor needs little; std would reserve 2 MiB.
const THREAD_STACK_BYTES: usize = 64 * 1024;

/// Runs as a fetcher of the supervisor: orders on stdin, reports on stdout.
pub fn run(config: &Config, environment: &Environment) {
    panic_report::install(|fault| report(FetchReport::Failed(fault)));
    let mut frame = Vec::new();
    let orders: Option<FetchOrders> =
        std::io::stdin().lock().read_until(END, &mut frame).ok().and_then(|_| from_frame(frame));
    let Some(orders) = orders else { return };
    let outcome = end_with_supervisor().and_then(|()| match orders.task {
        Task::Credential => {
            credential::fetch(config, environment, &orders, &report).map(FetchReport::Fetched)
        }
        Task::Metadata => fetch_metadata(config, environment, &orders),
        Task::ContainerToken => container_token::watch(config, &report),
    });
    report(outcome.unwrap_or_else(FetchReport::Failed));
}

/// The supervisor keeps this process's stdin open as long as it lives and waits for the outcome. Then this process ends together
/// with those that it has started, such as a credential_process: all are in its process group.
fn end_with_supervisor() -> Result<(), Fault> {
    let watch = || {
        _ = std::io::stdin().read(&mut [0]);
        // Only a group that this process leads, as the supervisor starts it.
        _ = kill_process_group(getpid(), Signal::KILL);
        std::process::exit(1);
    };
    match Builder::new().stack_size(THREAD_STACK_BYTES).spawn(watch) {
        Ok(_) => Ok(()),
        Err(error) => transient(format!("fetcher: no thread: {}", limit::name(&error))),
    }
}

/// Reports to the supervisor. Without one, nobody is left to report to.
pub fn report(report: FetchReport) {
    let mut stdout = std::io::stdout().lock();
    // Flushed: std sends whole lines only, which frames are not.
    _ = stdout.write_all(&to_frame(&report)).and_then(|()| stdout.flush());
}

/// Runs as the user's command: prints the credential as SDKs read it from a `credential_process`.
pub fn print(config: &Config, environment: &Environment) -> Result<String, Fault> {
    panic_report::install(|fault| log::event(fault.text()));
    let report = |report: FetchReport| {
        if let FetchReport::Notice(text) = report {
            log::warning(&text);
        }
    };
    let fetched = credential::fetch(config, environment, &FetchOrders::default(), &report)?;
    Ok(fetched.credential.process_document())
}

fn fetch_metadata(
    config: &Config,
    environment: &Environment,
    orders: &FetchOrders,
) -> Result<FetchReport, Fault> {
    let client = ImdsClient::connect(environment, orders)?;
    let what = config.pass_through.unwrap_or_default();
    let snapshot = metadata::read(&client, what, BootTime::now())?;
    Ok(FetchReport::Metadata(FetchedMetadata {
        items: snapshot.items.len(),
        left_out: snapshot.left_out,
        snapshot: to_frame(&snapshot),
    }))
}
