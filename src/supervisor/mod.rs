//! The supervisor: owns the listening socket, the server's state and the token key; runs the server and the fetchers.
//!
//! The supervisor is one poll loop, which never blocks on the network, on name resolution or on another program. Code that can
//! hang runs in a fetcher and code that clients can attack runs in the server; the supervisor replaces either process when it
//! fails.

mod child_process;
mod credential_refresh;
mod failures;
mod fetcher_process;
mod host_refresh;
mod jitter;
mod listen;
mod poll_loop;
mod refresh;
pub mod schedule;
mod sd_notify;
mod server_supervisor;
mod signals;
mod token_key_file;

use std::net::TcpListener;
use std::time::Duration;

use crate::common::{
    BootTime, Config, Fault, Secret, TokenKey, limit,
    log::{self, writer::LogWriter},
    transient,
};
use crate::messages::{Counts, FetchOrders, ServerState, Task};
use credential_refresh::CredentialRefresh;
use failures::until_success;
use fetcher_process::Fetcher;
use host_refresh::HostRefresh;
use listen::listen;
use poll_loop::Supervisor;
use refresh::Refresh;
use sd_notify::SdNotify;
use server_supervisor::ServerSupervisor;
use signals::{Order, Signals};
use token_key_file::token_key;

/// Pause before a retry of a failed step at the start: for example, a bridge's address does not exist until Docker starts.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until a signal ends the program. The error is one that the user has to correct.
pub fn run(config: &Config, log_writer: &mut LogWriter) -> Result<(), String> {
    let watch =
        || Signals::watch().or_else(|it| transient(format!("signals: {}", limit::name(&it))));
    let signals = until_success(|| std::thread::sleep(PAUSE), watch)?;
    let pause = || {
        signals.wait(std::iter::empty(), PAUSE);
        // As PID 1, the supervisor becomes the parent of every orphan and has to reap it.
        child_process::reap();
    };
    // Returns `Ok(Err(NAME))` if a signal ends the program before it listens; an outer `Err` is a failure.
    let start = || {
        while let Some(order) = signals.order() {
            if let Order::End(signal) = order {
                return Ok(Err(signal));
            }
        }
        let token_key = token_key(config.token_key_file.as_ref()).map_err(Fault::Transient)?;
        let (listener, address) = listen(config.listen)?;
        Ok(Ok((token_key, listener, address)))
    };
    let signal = match until_success(pause, start)? {
        Ok((token_key, listener, address)) => {
            log::event(&format!("listening on {address} for {}", config.role));
            prepare(config, listener, token_key, log_writer).run(&signals)?
        }
        Err(signal) => signal,
    };
    log::event(&format!("ended by {signal}"));
    Ok(())
}

fn prepare<'a>(
    config: &Config,
    listener: TcpListener,
    file_key: TokenKey,
    log_writer: &'a mut LogWriter,
) -> Supervisor<'a> {
    // Derive the key from the file's key and the boot's id, so that a session token is valid in one boot only. Tokens expire by
    // CLOCK_BOOTTIME, which starts again at a reboot, so with the file's key alone an expired token could become valid again.
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let token_key = file_key.derive(&boot_id);
    let now = BootTime::now();
    let orders = FetchOrders { token_key: Some(token_key.clone()), ..FetchOrders::default() };
    let credential = CredentialRefresh::new(config.role.clone(), orders.clone(), now);
    let mut refreshes: Vec<Box<dyn Refresh>> = vec![Box::new(credential)];
    if config.server.pass_through.is_some() {
        refreshes.push(Box::new(HostRefresh::new(Task::Metadata, orders.clone(), now)));
    }
    let mut container_token = None;
    if config.container_token_file.is_some() {
        refreshes.push(Box::new(HostRefresh::new(Task::ContainerToken, orders, now)));
        // A placeholder that no client knows: all requests for the container form get 401 until the first token is read.
        container_token = Some(Secret::new(token_key.derive("container token").to_hex()));
    }
    let state = ServerState {
        role: config.role.clone(),
        config: config.server.clone(),
        token_key,
        log_format: log::format().clone(),
        region: None,
        container_token,
        metadata: None,
        counts: Counts::default(),
        credential: None,
    };
    Supervisor {
        refreshes: refreshes.into_iter().map(|refresh| (refresh, Fetcher::default())).collect(),
        server: ServerSupervisor::new(listener, state, now),
        notify: SdNotify::new(&config.environment, std::process::id(), now),
        log_writer,
    }
}
