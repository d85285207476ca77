//! Keeps one server running, with the current state, and replaces a server that ends or does not answer heartbeats.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::child_process::Ended;
use super::failures::Failures;
use crate::common::{BootTime, ProcessKind, limit, log};
use crate::messages::{FRAME_END, ServerState, ServerUpdate, to_frame};
use crate::server::THREAD_STACK_BYTES;

/// Heartbeat interval. Heartbeats use the control channel, so that a full accept queue cannot delay them. A server that answers
/// none of three is replaced when the fourth is due, after 2.8 s. A server that is merely short of CPU answers within that time.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(700);
const MAX_MISSED_HEARTBEATS: u32 = 3;
/// Kill timeout of the server at shutdown; must be longer than the server's drain time for open requests.
const KILL_TIMEOUT: Duration = Duration::from_millis(800);

/// Maximum time for which the first server's start waits for the first fetches. It must stay below 1 s, because clients wait in
/// the backlog meanwhile, and some SDKs time out after 1 s.
const FIRST_OUTCOME: Duration = Duration::from_millis(400);
/// A server that ends within this time after its start counts as short-lived: the cause may be that it cannot start at all, not
/// a request. A start takes 5 ms, but much longer on a busy or throttled processor.
const SHORT_LIFE: Duration = Duration::from_millis(500);
/// After this number of short-lived servers in a row, the next start is delayed by `FIRST_PAUSE`. Each further short-lived server
/// doubles the delay, up to `MAX_PAUSE`.
const SHORT_LIVES_FORGIVEN: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

pub struct ServerSupervisor {
    pub listener: TcpListener,
    state: ServerState,
    server: Option<Server>,
    next_start: BootTime,
    awaits_token: bool,
    failures: Failures,
    short_lives: u32,
}

/// A server process and the supervisor's end of its control channel.
struct Server {
    pid: Pid,
    started: BootTime,
    next_heartbeat: BootTime,
    /// Heartbeats sent since the server last answered.
    missed: u32,
    channel: UnixStream,
}

impl ServerSupervisor {
    /// The first server's start waits for the end of the first credential fetch, and for the container token if one is
    /// configured. It waits for at most `FIRST_OUTCOME`.
    pub fn new(listener: TcpListener, state: ServerState, now: BootTime) -> Self {
        ServerSupervisor {
            listener,
            awaits_token: state.container_token.is_some(),
            state,
            server: None,
            next_start: now.after(FIRST_OUTCOME),
            failures: Failures::default(),
            short_lives: 0,
        }
    }

    /// Starts a server if none runs and the next start is due.
    pub fn start_if_due(&mut self, now: BootTime) {
        if self.server.is_some() || now < self.next_start {
            return;
        }
        match Server::start(&self.listener, now) {
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

    /// Sends a whole frame without waiting. If the socket buffer is full, the server is replaced, because it hangs.
    fn send(&mut self, frame: &[u8], now: BootTime) {
        if let Some(server) = &mut self.server
            && server.channel.write_all(frame).is_err()
        {
            server.kill();
            self.replace("it does not receive its state", now);
        }
    }

    /// Sends a heartbeat if one is due: an empty frame, which the server answers. If the socket buffer is full, the heartbeat is
    /// lost, and counts as missed. After `MAX_MISSED_HEARTBEATS` in a row, no more are sent: the server hangs, and is replaced.
    pub fn send_heartbeat_if_due(&mut self, now: BootTime) {
        let Some(server) = self.server.as_mut().filter(|it| now >= it.next_heartbeat) else {
            return;
        };
        if server.missed == MAX_MISSED_HEARTBEATS {
            server.kill();
            return self.replace("it does not answer", now);
        }
        _ = server.channel.write(&[FRAME_END]);
        server.next_heartbeat = now.after(HEARTBEAT_INTERVAL);
        server.missed += 1;
    }

    /// When the next start or heartbeat is due.
    pub fn due(&self) -> BootTime {
        self.server.as_ref().map_or(self.next_start, |server| server.next_heartbeat)
    }

    /// The control channel, to poll for heartbeat answers.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.server.as_ref().map(|server| PollFd::new(&server.channel, PollFlags::IN))
    }

    /// Receives heartbeat answers. If the server has ended, schedules the next start.
    pub fn receive(&mut self, ended: &Ended, now: BootTime) {
        let Some(server) = &mut self.server else {
            return;
        };
        if server.channel.read(&mut [0; 64]).is_ok_and(|length| length > 0) {
            server.missed = 0;
        }
        if let Some(how) = ended.get(&server.pid) {
            self.replace(how, now);
        }
    }

    /// Logs why the server is replaced, and schedules the next start. The server has ended, or the caller has killed it.
    fn replace(&mut self, why: &str, now: BootTime) {
        let Some(server) = self.server.take() else {
            return;
        };
        log::warning(&format!(
            "server replaced ({}): {why}; if it recurs, look for an error above, or check the memory limit",
            server.pid
        ));
        self.short_lives =
            if now.left(server.started) < SHORT_LIFE { self.short_lives + 1 } else { 0 };
        let excess = self.short_lives.checked_sub(SHORT_LIVES_FORGIVEN);
        let pause = excess.map(|excess| (FIRST_PAUSE * 2u32.pow(excess.min(10))).min(MAX_PAUSE));
        self.next_start = now.after(pause.unwrap_or_default());
    }

    pub fn end(&self) {
        self.server.iter().for_each(Server::end);
    }
}

impl Server {
    /// Starts a server on the listening socket. The server inherits no environment variable of the supervisor.
    fn start(listener: &TcpListener, now: BootTime) -> io::Result<Self> {
        let (channel, theirs) = UnixStream::pair()?;
        channel.set_nonblocking(true)?;
        let child = ProcessKind::Server
            .command()
            .env_clear()
            .env("RUST_MIN_STACK", THREAD_STACK_BYTES.to_string())
            .stdin(OwnedFd::from(listener.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .spawn()?;
        Ok(Server {
            pid: Pid::from_child(&child),
            started: now,
            next_heartbeat: now.after(HEARTBEAT_INTERVAL),
            missed: 0,
            channel,
        })
    }

    /// Tells the server to accept no more connections, answer its open requests and end; kills it after `KILL_TIMEOUT`.
    fn end(&self) {
        _ = self.channel.shutdown(Shutdown::Write);
        // Wait until the server ends: then the channel hangs up, which `poll` reports even with empty flags.
        let mut hang_up = [PollFd::new(&self.channel, PollFlags::empty())];
        _ = poll(&mut hang_up, Timespec::try_from(KILL_TIMEOUT).ok().as_ref());
        self.kill();
        // This wait is short: the server reads files only in /proc, which cannot hang, so a killed server ends at once.
        _ = waitpid(Some(self.pid), WaitOptions::empty());
    }

    /// Kills the server without waiting for its end; the poll loop reaps it.
    fn kill(&self) {
        _ = kill_process(self.pid, Signal::KILL);
    }
}
