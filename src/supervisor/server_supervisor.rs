//! Keeps one server running, with the current state, and replaces a server that ends or does not answer heartbeats.

use std::net::TcpListener;
use std::time::Duration;

use rustix::event::PollFd;

use super::child_process::Ended;
use super::failures::Failures;
use super::server_process::ServerProcess;
use crate::common::{BootTime, limit, log};
use crate::messages::{ServerState, ServerUpdate, to_frame};

/// Maximum time for which the first server's start waits for the first fetches. It must stay below 1 s, because clients wait in
/// the backlog meanwhile, and some SDKs time out after 1 s.
const FIRST_OUTCOME: Duration = Duration::from_millis(400);
/// A server that ends within this time after its start is short-lived: its start may have failed, before any client's request.
/// A start takes 5 ms, but much longer on a busy or throttled processor.
const SHORT_LIFE: Duration = Duration::from_millis(500);
/// After this number of short-lived servers in a row, the next start is delayed by `FIRST_PAUSE`. Each further short-lived server
/// doubles the delay, up to `MAX_PAUSE`.
const SHORT_LIVES_FORGIVEN: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

pub struct ServerSupervisor {
    pub listener: TcpListener,
    state: ServerState,
    server: Option<ServerProcess>,
    next_start: BootTime,
    awaits_token: bool,
    failures: Failures,
    short_lives: u32,
}

impl ServerSupervisor {
    /// The first server's start waits for the end of the first credential fetch, and for the container token if one is
    /// configured. It waits for at most `FIRST_OUTCOME`.
    pub fn new(listener: TcpListener, state: ServerState, now: BootTime) -> Self {
        let awaits_token = state.container_token.is_some();
        ServerSupervisor {
            listener,
            state,
            server: None,
            next_start: now.after(FIRST_OUTCOME),
            awaits_token,
            failures: Failures::default(),
            short_lives: 0,
        }
    }

    /// Starts a server if none runs and the next start is due.
    pub fn start_if_due(&mut self, now: BootTime) {
        if self.server.is_some() || now < self.next_start {
            return;
        }
        match ServerProcess::start(&self.listener, now) {
            Ok(server) => {
                self.server = Some(server);
                self.state.counts.server_starts += 1;
                self.failures = Failures::default();
                self.send(&to_frame(&self.state), now);
            }
            Err(error) => {
                let cause = limit::name(&error);
                self.failures.warn(&format!("server cannot be started: {cause}"), now);
                self.next_start = now.after(MAX_PAUSE);
            }
        }
    }

    /// Applies an update to `state`, and sends it to the server if one runs. The first server is started once the updates
    /// that it waits for have arrived; [`ServerSupervisor::new`] lists them.
    pub fn update(&mut self, update: ServerUpdate, now: BootTime) {
        self.send(&to_frame(&update), now);
        self.awaits_token &= !matches!(update, ServerUpdate::ContainerToken(_));
        self.state.apply(update);
        let counts = &self.state.counts;
        let has_fetched = counts.refreshes + counts.failures > 0;
        if counts.server_starts == 0 && has_fetched && !self.awaits_token {
            self.next_start = now;
        }
    }

    fn send(&mut self, frame: &[u8], now: BootTime) {
        if let Some(server) = &mut self.server
            && server.send(frame).is_err()
        {
            server.kill();
            self.replace("it does not receive its state", now);
        }
    }

    /// Sends a heartbeat if one is due; a server that has missed too many is replaced instead.
    pub fn send_heartbeat_if_due(&mut self, now: BootTime) {
        if let Some(server) = self.server.as_mut().filter(|it| now >= it.next_heartbeat)
            && !server.send_heartbeat(now)
        {
            server.kill();
            self.replace("it does not answer", now);
        }
    }

    /// When the next start or heartbeat is due.
    pub fn due(&self) -> BootTime {
        self.server.as_ref().map_or(self.next_start, |server| server.next_heartbeat)
    }

    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.server.as_ref().map(ServerProcess::poll_fd)
    }

    /// Receives heartbeat answers. If the server has ended, schedules the next start.
    pub fn receive(&mut self, ended: &Ended, now: BootTime) {
        let Some(server) = &mut self.server else {
            return;
        };
        server.receive_answers();
        if let Some(how) = ended.get(&server.pid) {
            self.replace(how, now);
        }
    }

    /// Logs why the server is replaced, and schedules the next start. The server has ended, or the caller has killed it.
    fn replace(&mut self, why: &str, now: BootTime) {
        let Some(server) = self.server.take() else {
            return;
        };
        log::warning(&format!("server replaced ({}): {why}", server.pid));
        self.short_lives =
            if now.left(server.started) < SHORT_LIFE { self.short_lives + 1 } else { 0 };
        let pause = match self.short_lives.checked_sub(SHORT_LIVES_FORGIVEN) {
            Some(excess) => (FIRST_PAUSE * 2u32.pow(excess.min(10))).min(MAX_PAUSE),
            None => Duration::ZERO,
        };
        self.next_start = now.after(pause);
    }

    /// Gives the server a limited time to answer its open requests, and ends it ([`ServerProcess::end`]).
    pub fn end(&self) {
        self.server.iter().for_each(ServerProcess::end);
    }
}
