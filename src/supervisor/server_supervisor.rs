//! What faces containers: a server at any time, which is asked now and then whether it goes on.

use std::net::TcpListener;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitStatus};

use super::child;
use super::server_process::ServerProcess;
use crate::common::clock::BootTime;
use crate::common::log;
use crate::messages::server_state::ServerState;

/// Clients that come before the first credential wait in the backlog for it, but no longer than their own patience allows.
const FIRST_OUTCOME: Duration = Duration::from_millis(400);
/// A server that lives no longer than this was not hit by chance …
const SHORT_LIFE: Duration = Duration::from_millis(50);
/// … and after some of them in a row the next start waits: 10 ms, doubling, to a second.
const SHORT_LIVES_FORGIVEN: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How often to ask. On the channel and not at the door, where a crowd may stand before the question. Three in vain and the time
/// until the next make a server that was stopped be replaced within 3 s …
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(700);
/// … and one that only had to wait for a processor go on.
const MAX_MISSED_HEARTBEATS: u32 = 3;

pub struct ServerSupervisor {
    listener: TcpListener,
    server: Option<ServerProcess>,
    next_start: BootTime,
    starts: u64,
    short_lives: u32,
    next_heartbeat: BootTime,
    /// Questions since the server was last heard.
    missed: u32,
}

impl ServerSupervisor {
    /// On a listening socket. The first server starts when it is told that it may, or soon.
    pub fn new(listener: TcpListener, now: BootTime) -> Self {
        ServerSupervisor {
            listener,
            server: None,
            next_start: now.after(FIRST_OUTCOME),
            starts: 0,
            short_lives: 0,
            next_heartbeat: now,
            missed: 0,
        }
    }

    /// There is something to serve, or the reason why not: the first server need not wait longer.
    pub fn start_now(&mut self, now: BootTime) {
        if self.starts == 0 {
            self.next_start = now;
        }
    }

    /// Starts a server if there is none.
    pub fn start_if_due(&mut self, state: &mut ServerState, now: BootTime) {
        if self.server.is_some() || now < self.next_start {
            return;
        }
        state.counts.server_restarts = self.starts;
        match ServerProcess::start(&self.listener, state, now) {
            Ok(server) => {
                self.server = Some(server);
                self.starts += 1;
                (self.next_heartbeat, self.missed) = (now.after(HEARTBEAT_INTERVAL), 0);
            }
            Err(error) => {
                log::event(&format!(
                    "the server cannot be started: {error}; is there memory, and room for a process?"
                ));
                self.next_start = now.after(MAX_PAUSE);
            }
        }
    }

    /// Asks the server whether it goes on, if it is time to; replaces one that was asked in vain. Whether it was time.
    pub fn send_heartbeat_if_due(&mut self, now: BootTime) -> bool {
        let Some(server) = self.server.as_mut().filter(|_| now >= self.next_heartbeat) else {
            return false;
        };
        if self.missed == MAX_MISSED_HEARTBEATS {
            self.replace("it does not answer", now);
        } else {
            server.ask();
            (self.next_heartbeat, self.missed) = (now.after(HEARTBEAT_INTERVAL), self.missed + 1);
        }
        true
    }

    /// Hands over to the server that is there; one that does not take it is replaced.
    pub fn state(&mut self, state: &ServerState, now: BootTime) {
        if let Some(server) = &mut self.server
            && server.state(state).is_err()
        {
            self.replace("it does not take what is handed over", now);
        }
    }

    /// When the next thing is to be done here.
    pub fn due(&self) -> BootTime {
        match self.server {
            None => self.next_start,
            Some(_) => self.next_heartbeat,
        }
    }

    /// What to poll for an answer of the server's.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let server = self.server.as_ref();
        server.map(|server| PollFd::new(server.channel(), PollFlags::IN))
    }

    /// Takes what the server says.
    pub fn hear(&mut self) {
        if self.server.as_mut().is_some_and(ServerProcess::is_alive) {
            self.missed = 0;
        }
    }

    /// Ends the server that is there; the next is due at once.
    fn replace(&mut self, why: &str, now: BootTime) {
        if let Some(server) = self.server.take() {
            log::event(&format!("server replaced ({}): {why}", server.pid));
            server.kill();
            self.next_start = now;
        }
    }

    /// A child has ended; if it was the server, the next is due.
    pub fn child_ended(&mut self, pid: Pid, status: WaitStatus, now: BootTime) {
        let Some(server) = self.server.take_if(|server| server.pid == pid) else {
            return;
        };
        log::event(&format!(
            "server replaced ({pid}): {}",
            child::ending(status)
        ));
        self.short_lives = if now.left(server.started) < SHORT_LIFE {
            self.short_lives + 1
        } else {
            0
        };
        let pause = match self.short_lives.checked_sub(SHORT_LIVES_FORGIVEN) {
            None => Duration::ZERO,
            Some(excess) => (FIRST_PAUSE * 2u32.pow(excess.min(10))).min(MAX_PAUSE),
        };
        self.next_start = now.after(pause);
    }

    /// Lets nobody in any more. The server that is there answers whoever is in, and goes.
    pub fn close(&mut self) -> Option<ServerProcess> {
        let server = self.server.take()?;
        server.close();
        Some(server)
    }
}
