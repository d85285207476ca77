//! The supervisor: owns the listening socket, the server's state and the token key; runs the server and the fetchers.
//!
//! The supervisor is one poll loop, which never blocks on the network, on name resolution or on another program. Code that can
//! hang runs in a fetcher and code that clients can attack runs in the server; the supervisor replaces either process when it
//! fails.

mod child_process;
mod credential_refresh;
mod fetcher_process;
mod host_refresh;
mod jitter;
mod listen;
mod poll_loop;
mod refresh;
pub mod schedule;
mod sd_notify;
mod server_process;
mod server_supervisor;
mod signals;
mod token_key_file;

use std::net::TcpListener;
use std::time::Duration;

use crate::common::{BootTime, Config, Environment, Secret, TokenKey, limit, log};
use crate::messages::{Counts, FetchOrders, ServerState, Task};
use credential_refresh::CredentialRefresh;
use fetcher_process::Fetcher;
use host_refresh::HostRefresh;
use listen::listen;
use poll_loop::Supervisor;
use refresh::Refresh;
use sd_notify::SdNotify;
use server_supervisor::ServerSupervisor;
use signals::{Order, Signals};
use token_key_file::{random, token_key};

/// Time between two tries after a system limit, such as that of open files, was reached.
const LIMIT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until SIGTERM, SIGINT or SIGQUIT. `words` are the command-line arguments, which every fetcher parses again. The error
/// is one that the user has to correct.
pub fn run(config: &Config, words: &[String], environment: &Environment) -> Result<(), String> {
    let signals = watch_signals()?;
    let token_key = token_key(config.token_key_file.as_ref())?;
    let mut signal = "";
    let listener = listen(config.listen, |pause| {
        signals.wait(std::iter::empty(), pause);
        // As PID 1, the supervisor becomes the parent of every orphan and has to reap it.
        child_process::reap_others(&[]);
        if let Some(Order::End(name)) = signals.order() {
            signal = name;
        }
        signal.is_empty()
    })?;
    if let Some(listener) = listener {
        signal = prepare(config, words, environment, listener, token_key)?.run(&signals)?;
    }
    log::event(&format!("ended by {signal}"));
    Ok(())
}

fn watch_signals() -> Result<Signals, String> {
    let mut last = String::new();
    loop {
        match Signals::watch() {
            Ok(signals) => return Ok(signals),
            Err(error) if limit::is_limit(&error) => {
                let cause = limit::name(&error);
                log::warning_once(&mut last, &format!("signals: {cause}; trying again"));
                std::thread::sleep(LIMIT_PAUSE);
            }
            Err(error) => {
                return Err(format!("signals: {error}; this system cannot run ec2-role"));
            }
        }
    }
}

fn prepare<'a>(
    config: &Config,
    words: &'a [String],
    environment: &Environment,
    listener: TcpListener,
    token_key: TokenKey,
) -> Result<Supervisor<'a>, String> {
    let address = listener.local_addr().map_err(|error| format!("--listen: {error}"))?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot_id = boot_id.trim().to_owned();
    let now = BootTime::now();
    let asked = Duration::from_secs(config.assume_role.duration_seconds.into());
    let credential = CredentialRefresh::new(config.role.clone(), asked, now);
    let mut refreshes: Vec<Box<dyn Refresh>> = vec![Box::new(credential)];
    if config.server.pass_through.is_some() {
        refreshes.push(Box::new(HostRefresh::new(Task::Metadata, now)));
    }
    // Until the token file is read, a random token stands in, which no client knows: requests are answered 401.
    let mut container_token = None;
    if config.container_token_file.is_some() {
        refreshes.push(Box::new(HostRefresh::new(Task::ContainerToken, now)));
        container_token = Some(Secret::new(random()?.to_hex()));
    }
    let orders = FetchOrders {
        token_key: Some(token_key.clone()),
        boot_id: boot_id.clone(),
        ..FetchOrders::default()
    };
    let state = ServerState {
        role: config.role.clone(),
        config: config.server.clone(),
        token_key,
        boot_id,
        log_format: log::format().clone(),
        region: None,
        container_token,
        snapshot: None,
        counts: Counts::default(),
        credential: None,
    };
    log::event(&format!("listening on {address} for {}", config.role));
    Ok(Supervisor {
        words,
        orders,
        refreshes: refreshes.into_iter().map(|refresh| (refresh, Fetcher::default())).collect(),
        server: ServerSupervisor::new(listener, state, now),
        notify: SdNotify::new(environment, std::process::id(), now),
    })
}
