//! The supervisor: owns the listening socket, the state of the server and the token key; runs fetchers and the server.
//!
//! One poll loop. It does no network I/O, resolves no name and waits for no program: what can hang is in a fetcher, what can be
//! attacked is in the server, and both are processes that the supervisor replaces.

mod child_process;
mod container_token;
mod credential_refresh;
mod fetcher_process;
mod jitter;
mod listen;
mod metadata_refresh;
mod poll_loop;
mod refresh;
pub mod schedule;
mod sd_notify;
mod server_process;
mod server_supervisor;
mod signals;
mod token_key_file;

use std::net::TcpListener;

use crate::common::clock::BootTime;
use crate::common::config::Config;
use crate::common::environment::Environment;
use crate::common::log;
use crate::common::session_token::TokenKey;
use crate::messages::fetch_orders::FetchOrders;
use crate::messages::server_state::{Counts, ServerState};
use container_token::ContainerToken;
use credential_refresh::CredentialRefresh;
use fetcher_process::Fetcher;
use listen::listen;
use metadata_refresh::MetadataRefresh;
use poll_loop::Supervisor;
use refresh::Refresh;
use sd_notify::SdNotify;
use server_supervisor::ServerSupervisor;
use signals::Signals;
use token_key_file::token_key;

/// Serves until SIGTERM or SIGINT. `words` are the arguments as given, for the fetchers. The error is for the user to correct.
pub fn run(config: &Config, words: &[String], environment: &Environment) -> Result<(), String> {
    let signals = Signals::watch()
        .map_err(|error| format!("signals: {error}; this system cannot run ec2-role"))?;
    let token_key = token_key(config.token_key_file.as_ref())?;
    let listener = listen(config.listen, |pause| {
        signals.wait(std::iter::empty(), pause);
        // As PID 1 the supervisor gets every orphan.
        while child_process::reap().is_some() {}
        signals.end().is_none()
    })?;
    let signal = match listener {
        Some(listener) => {
            Some(prepare(config, words, environment, listener, token_key)?.run(&signals)?)
        }
        None => signals.end(),
    };
    if let Some(signal) = signal {
        log::event(&format!("ended by {signal}"));
    }
    Ok(())
}

fn prepare<'a>(
    config: &Config,
    words: &'a [String],
    environment: &Environment,
    listener: TcpListener,
    token_key: TokenKey,
) -> Result<Supervisor<'a>, String> {
    let address = listener
        .local_addr()
        .map_err(|error| format!("--listen: {error}"))?;
    let token_file = config.container_token_file.clone();
    let (container_token, token) = token_file.map(ContainerToken::open).transpose()?.unzip();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot_id = boot_id.trim().to_owned();
    let now = BootTime::now();
    let credential = CredentialRefresh::new(config.role.clone(), now);
    let mut refreshes: Vec<(Box<dyn Refresh>, Fetcher)> =
        vec![(Box::new(credential), Fetcher::default())];
    if config.pass_through.is_some() {
        refreshes.push((Box::new(MetadataRefresh::new(now)), Fetcher::default()));
    }
    let orders = FetchOrders {
        token_key: Some(token_key.clone()),
        boot_id: boot_id.clone(),
        ..FetchOrders::default()
    };
    let state = ServerState {
        role: config.role.clone(),
        role_name: config.role_name.clone(),
        http_tokens: config.http_tokens,
        token_key,
        boot_id,
        quiet: config.quiet,
        log_format: log::format(),
        same_network: config.same_network,
        allow_hosts: config.allow_hosts.clone(),
        metrics: config.metrics,
        region: None,
        container_token: token,
        both_forms: config.both_forms,
        pass_through: config.pass_through,
        snapshot: None,
        counts: Counts::default(),
        credential: None,
    };
    log::event(&format!("listening on {address} for {}", config.role));
    Ok(Supervisor {
        words,
        orders,
        refreshes,
        server: ServerSupervisor::new(listener, state, now),
        container_token,
        notify: SdNotify::new(environment, std::process::id(), now),
    })
}
