//! What faces containers: a server at any time, and a knock at its door now and then.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitStatus};

use super::knock::{self, Heard, Knock};
use super::server_process::ServerProcess;
use crate::clock::Boot;
use crate::hand_over::HandOver;
use crate::{log, own_door};

/// Clients that come before the first credential wait in the backlog for it, but no longer than their own patience allows.
const FIRST_OUTCOME: Duration = Duration::from_millis(400);
/// A server that lives no longer than this was not hit by chance …
const SHORT_LIFE: Duration = Duration::from_millis(50);
/// … and after some of them in a row the next start waits: 10 ms, doubling, to a second.
const SHORT_LIVES_FORGIVEN: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

pub struct Front {
    listener: TcpListener,
    own_address: SocketAddr,
    server: Option<ServerProcess>,
    next_start: Boot,
    starts: u64,
    short_lives: u32,
    knock: Option<Knock>,
    next_knock: Boot,
    knocks_in_vain: u32,
}

impl Front {
    /// On a listening socket, which has `address`. The first server starts when it is told that it may, or soon.
    pub fn new(listener: TcpListener, address: SocketAddr, now: Boot) -> Self {
        Front {
            listener,
            own_address: own_door::reachable(address),
            server: None,
            next_start: now.after(FIRST_OUTCOME),
            starts: 0,
            short_lives: 0,
            knock: None,
            next_knock: now,
            knocks_in_vain: 0,
        }
    }

    /// There is something to serve, or the reason why not: the first server need not wait longer.
    pub fn may_start(&mut self, now: Boot) {
        if self.starts == 0 {
            self.next_start = now;
        }
    }

    /// Starts a server if there is none.
    pub fn start_if_due(&mut self, hand_over: &mut HandOver, now: Boot) {
        if self.server.is_some() || now < self.next_start {
            return;
        }
        hand_over.counts.server_restarts = self.starts;
        match ServerProcess::start(&self.listener, hand_over, now) {
            Ok(server) => {
                self.server = Some(server);
                self.starts += 1;
                self.next_knock = now.after(knock::INTERVAL);
                (self.knock, self.knocks_in_vain) = (None, 0);
            }
            Err(error) => {
                log::event(&format!(
                    "the server cannot be started: {error}; is there memory, and room for a process?"
                ));
                self.next_start = now.after(MAX_PAUSE);
            }
        }
    }

    /// Knocks if it is time to. Whether it was.
    pub fn knock_if_due(&mut self, path: &str, now: Boot) -> bool {
        let is_due = self.server.is_some() && self.knock.is_none() && now >= self.next_knock;
        if is_due {
            self.knock = Knock::begin(self.own_address, path, now);
            self.next_knock = now.after(knock::INTERVAL);
        }
        is_due
    }

    /// Hands over to the server that is there; one that does not take it is replaced.
    pub fn hand_over(&mut self, hand_over: &HandOver, now: Boot) {
        if let Some(server) = &mut self.server
            && server.hand_over(hand_over).is_err()
        {
            self.replace("it does not take the new credential", now);
        }
    }

    /// When the next thing is to be done here.
    pub fn due(&self) -> Boot {
        match (&self.server, &self.knock) {
            (None, _) => self.next_start,
            (Some(_), Some(knock)) => knock.deadline,
            (Some(_), None) => self.next_knock,
        }
    }

    /// What to poll for an answer to the knock.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.knock.as_ref().map(|knock| {
            let until = if knock.has_asked {
                PollFlags::IN
            } else {
                PollFlags::OUT
            };
            PollFd::new(&knock.stream, until)
        })
    }

    /// Takes the answer to the knock; replaces a server that gives none.
    pub fn hear(&mut self, now: Boot) {
        let Some(knock) = &mut self.knock else { return };
        match knock.go_on() {
            Heard::Waiting if now < knock.deadline => return,
            Heard::Answer => self.knocks_in_vain = 0,
            Heard::Waiting | Heard::Nothing => self.knocks_in_vain += 1,
        }
        self.knock = None;
        if self.knocks_in_vain >= knock::MAX_IN_VAIN {
            self.replace("it does not answer", now);
        }
    }

    /// Ends the server that is there; the next starts in the same turn of the loop.
    fn replace(&mut self, why: &str, now: Boot) {
        if let Some(server) = self.server.take() {
            log::event(&format!("server replaced ({}): {why}", server.pid));
            server.kill();
            self.next_start = now;
        }
    }

    /// A child has ended; if it was the server, the next is due.
    pub fn child_ended(&mut self, pid: Pid, status: WaitStatus, now: Boot) {
        let Some(server) = self.server.take_if(|server| server.pid == pid) else {
            return;
        };
        log::event(&format!(
            "server replaced ({pid}): {}",
            super::ending(status)
        ));
        let lived = Duration::from_millis(now.0 - server.started.0);
        self.short_lives = if lived < SHORT_LIFE {
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
