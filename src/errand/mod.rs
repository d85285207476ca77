//! One errand: a credential, or the host's other metadata. As a process of its own it may hang; nobody waits for it.

mod destination;
mod fetch;
mod reading;
mod report;

use std::io::{Read, Write};
use std::time::Duration;

pub use fetch::Fetched;
pub use report::{Orders, Report, Task};

use crate::arguments::Arguments;
use crate::clock::Boot;
use crate::environment::Environment;
use crate::fault::Fault;
use crate::host_metadata::HostMetadata;
use crate::log;

/// The keeper ends an errand that takes longer. A credential_process has 45 s and one call of STS that answers in pieces at the last
/// moment as long again; whatever is slow then says so itself.
pub const DEADLINE: Duration = Duration::from_secs(75);

/// Runs as the keeper's errand: orders on stdin, reports on stdout.
pub fn run(arguments: &Arguments, environment: &Environment) {
    let report = |report: Report| {
        // If nobody listens any more there is nobody to tell.
        _ = std::io::stdout().write_all(report.to_line().as_bytes());
    };
    let mut line = String::new();
    let orders = std::io::stdin()
        .read_to_string(&mut line)
        .ok()
        .and_then(|_| Orders::from_line(&line));
    let Some(orders) = orders else { return };
    let outcome = match orders.task {
        Task::Credential => {
            fetch::fetch(arguments, environment, &orders, &report).map(Report::Fetched)
        }
        Task::Metadata => read_metadata(arguments, environment, &orders),
    };
    report(outcome.unwrap_or_else(Report::Failed));
}

/// Runs as the user's command: prints the credential as SDKs read it from a `credential_process`.
pub fn print(arguments: &Arguments, environment: &Environment) -> Result<String, Fault> {
    let report = |report: Report| {
        if let Report::Notice(text) = report {
            log::event(&text);
        }
    };
    let fetched = fetch::fetch(arguments, environment, &Orders::default(), &report)?;
    Ok(fetched.credential.process_document())
}

fn read_metadata(
    arguments: &Arguments,
    environment: &Environment,
    orders: &Orders,
) -> Result<Report, Fault> {
    let own = orders.own_tokens();
    let session = HostMetadata::open(environment, own.as_ref())?;
    let snapshot = reading::read(
        &session,
        arguments.pass_through.unwrap_or_default(),
        Boot::now(),
    )?;
    Ok(Report::Metadata(snapshot))
}
