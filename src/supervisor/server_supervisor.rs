//! Keeps one server running, with the current state, and replaces a server that ends or does not answer heartbeats.

use std::net::TcpListener;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;

use super::child_process;
use super::retry::Failures;
use super::server_process::ServerProcess;
use crate::common::{BootTime, limit, log};
use crate::messages::{ServerState, ServerUpdate, to_frame};

/// Maximum time that the start of the first server waits for the first fetch. It must stay below 1 s, after which SDKs time out,
/// because clients wait in the backlog meanwhile.
const FIRST_OUTCOME: Duration = Duration::from_millis(400);
/// A server that ends sooner than this counts as a short life: it probably failed by itself, as hardly any client had time to
/// send a request.
const SHORT_LIFE: Duration = Duration::from_millis(50);
/// Number of short lives in a row from which starts back off: first 10 ms, doubled each time, at most 1 s.
const SHORT_LIVES_FORGIVEN: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Heartbeat interval. Heartbeats use the control channel, so that a full accept queue cannot delay them. A server that misses 3
/// in a row is replaced after 2.8 s; a server that is merely short of CPU answers in time.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(700);
const MAX_MISSED_HEARTBEATS: u32 = 3;

pub struct ServerSupervisor {
    listener: TcpListener,
    state: ServerState,
    /// The host's metadata, still encoded: the supervisor only forwards it.
    metadata: Option<Vec<u8>>,
    server: Option<ServerProcess>,
    next_start: BootTime,
    awaits_credential: bool,
    awaits_token: bool,
    starts: u64,
    failures: Failures,
    short_lives: u32,
    next_heartbeat: BootTime,
    /// Heartbeats sent since the server last answered.
    missed: u32,
}

impl ServerSupervisor {
    /// The first server starts when the first fetch has ended and the container token, if one is configured, is received; at the
    /// latest after `FIRST_OUTCOME`.
    pub fn new(listener: TcpListener, state: ServerState, now: BootTime) -> Self {
        let awaits_token = state.container_token.is_some();
        ServerSupervisor {
            listener,
            state,
            metadata: None,
            server: None,
            next_start: now.after(FIRST_OUTCOME),
            awaits_credential: true,
            awaits_token,
            starts: 0,
            failures: Failures::default(),
            short_lives: 0,
            next_heartbeat: now,
            missed: 0,
        }
    }

    /// Starts a server if none runs and the next start is due.
    pub fn start_if_due(&mut self, now: BootTime) {
        if self.server.is_some() || now < self.next_start {
            return;
        }
        self.state.counts.server_restarts = self.starts;
        match ServerProcess::start(&self.listener, now) {
            Ok(server) => {
                self.server = Some(server);
                self.starts += 1;
                self.failures = Failures::default();
                (self.next_heartbeat, self.missed) = (now.after(HEARTBEAT_INTERVAL), 0);
                self.send(&to_frame(&(&self.state, &self.metadata)), now);
            }
            Err(error) => {
                let cause = limit::name(&error);
                self.failures.warn(&format!("server cannot be started: {cause}"), now);
                self.next_start = now.after(MAX_PAUSE);
            }
        }
    }

    /// Applies an update to the state, here and in the server. The first server starts once the first credential fetch has ended
    /// and the container token is received.
    pub fn update(&mut self, update: ServerUpdate, now: BootTime) {
        match update {
            ServerUpdate::Fetched(_) | ServerUpdate::FetchFailed => self.awaits_credential = false,
            ServerUpdate::ContainerToken(_) => self.awaits_token = false,
            ServerUpdate::Region(_) | ServerUpdate::Metadata(_) => {}
        }
        if self.starts == 0 && !self.awaits_credential && !self.awaits_token {
            self.next_start = now;
        }
        if self.server.is_some() {
            self.send(&to_frame(&update), now);
        }
        match update {
            ServerUpdate::Metadata(snapshot) => self.metadata = Some(snapshot),
            update => self.state.apply(update),
        }
    }

    fn send(&mut self, frame: &[u8], now: BootTime) {
        if let Some(server) = &mut self.server
            && server.send(frame).is_err()
        {
            self.replace("it does not receive its state", now);
        }
    }

    /// Sends a heartbeat if one is due. A server that has missed `MAX_MISSED_HEARTBEATS` in a row is replaced instead.
    pub fn send_heartbeat_if_due(&mut self, now: BootTime) {
        let Some(server) = self.server.as_mut().filter(|_| now >= self.next_heartbeat) else {
            return;
        };
        if self.missed == MAX_MISSED_HEARTBEATS {
            self.replace("it does not answer", now);
        } else {
            server.send_heartbeat();
            (self.next_heartbeat, self.missed) = (now.after(HEARTBEAT_INTERVAL), self.missed + 1);
        }
    }

    /// When the next start or heartbeat is due.
    pub fn due(&self) -> BootTime {
        match self.server {
            None => self.next_start,
            Some(_) => self.next_heartbeat,
        }
    }

    pub fn pid(&self) -> Option<Pid> {
        self.server.as_ref().map(|server| server.pid)
    }

    /// The control channel, to poll for heartbeat answers.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let server = self.server.as_ref();
        server.map(|server| PollFd::new(server.channel(), PollFlags::IN))
    }

    /// Receives heartbeat answers. If the server has ended, reaps it and schedules the next start.
    pub fn receive(&mut self, now: BootTime) {
        let Some(server) = &mut self.server else {
            return;
        };
        if server.is_alive() {
            self.missed = 0;
        }
        let Some(how) = child_process::reap(server.pid) else {
            return;
        };
        self.short_lives =
            if now.left(server.started) < SHORT_LIFE { self.short_lives + 1 } else { 0 };
        self.replace(&how, now);
        if let Some(excess) = self.short_lives.checked_sub(SHORT_LIVES_FORGIVEN) {
            let pause = (FIRST_PAUSE * 2u32.pow(excess.min(10))).min(MAX_PAUSE);
            self.next_start = now.after(pause);
        }
    }

    /// Kills the server if it still runs, and makes the next start due now.
    fn replace(&mut self, why: &str, now: BootTime) {
        if let Some(server) = self.server.take() {
            log::warning(&format!("server replaced ({}): {why}", server.pid));
            if child_process::reap(server.pid).is_none() {
                server.kill();
            }
            self.next_start = now;
        }
    }

    /// Tells the server to accept no more connections, answer its open requests and end.
    pub fn close(&mut self) -> Option<ServerProcess> {
        let server = self.server.take()?;
        server.close();
        Some(server)
    }
}
