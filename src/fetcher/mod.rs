//! The fetcher process: fetches one credential, the host's metadata for `--pass-through`, or the container token. The network or
//! a file system can make a fetcher hang, so the supervisor kills it at a deadline.

mod assume_role_call;
pub mod aws_settings;
mod container_token;
pub mod credential;
pub mod http_client;
pub mod imds_client;
pub mod metadata;
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

use crate::common::{Config, Fault, limit, log, transient};
use crate::messages::{FRAME_END, FetchOrders, FetchReport, Task, from_frame, to_frame};

/// Time after which the supervisor kills a fetcher. The limits of a credential_process (45 s) and of each phase of a call to STS
/// (at most 10 s) are shorter, so that the fetcher itself can report a timeout.
pub const DEADLINE: Duration = Duration::from_secs(75);

/// Stack size of the thread that watches the supervisor. The thread needs a few KiB, and std's default would reserve 2 MiB.
const THREAD_STACK_BYTES: usize = 64 * 1024;

/// Runs as a fetcher of the supervisor: reads orders from stdin and writes reports to stdout.
pub fn run(config: &Config) {
    let mut frame = Vec::new();
    // A read error leaves an incomplete frame, which `from_frame` rejects.
    _ = std::io::stdin().lock().read_until(FRAME_END, &mut frame);
    let Some(orders) = from_frame::<FetchOrders>(frame) else { return };
    let outcome = end_with_supervisor().and_then(|()| match orders.task {
        Task::Credential => credential::fetch(config, &orders, &report).map(FetchReport::Fetched),
        Task::Metadata => {
            report(FetchReport::Step("reading the host's metadata".to_owned()));
            metadata::fetch(config, &orders)
        }
        Task::ContainerToken => container_token::watch(config, &report),
    });
    report(outcome.unwrap_or_else(FetchReport::Failed));
}

/// Starts a thread that kills this process's group when stdin closes, because the supervisor has then died or no longer waits.
/// The group includes processes that this one has started, such as a credential_process.
fn end_with_supervisor() -> Result<(), Fault> {
    let watch = || {
        _ = std::io::stdin().read(&mut [0]);
        // A fetcher that the supervisor did not start may lead no process group. Then the kill fails, and `exit` ends the
        // process.
        _ = kill_process_group(getpid(), Signal::KILL);
        std::process::exit(1);
    };
    match Builder::new().stack_size(THREAD_STACK_BYTES).spawn(watch) {
        Ok(_) => Ok(()),
        Err(error) => transient(format!("fetcher: no thread: {}", limit::name(&error))),
    }
}

/// Sends a report to the supervisor. A write error is ignored, because it means that the supervisor is gone.
fn report(report: FetchReport) {
    let mut stdout = std::io::stdout().lock();
    // Flush, because std's stdout holds text back until a line ends, and a frame ends without a newline.
    _ = stdout.write_all(&to_frame(&report)).and_then(|()| stdout.flush());
}

/// Fetches a credential for a user who runs ec2-role as a command; returns the JSON that SDKs expect from a `credential_process`.
pub fn print(config: &Config) -> Result<String, Fault> {
    let report = |report: FetchReport| {
        if let FetchReport::Notice(text) = report {
            log::warning(&text);
        }
    };
    let fetched = credential::fetch(config, &FetchOrders::default(), &report)?;
    Ok(fetched.credential.process_document())
}
