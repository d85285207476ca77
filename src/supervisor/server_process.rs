//! Starts one server process, sends it the state and heartbeats over the control channel, and ends it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::common::{BootTime, ProcessKind};
use crate::messages::FRAME_END;
use crate::server::THREAD_STACK_BYTES;

/// Heartbeat interval. Heartbeats use the control channel, so that a full accept queue cannot delay them. A server that
/// answers none of 3 is replaced when the fourth is due, after 2.8 s: long enough for a server that is merely short of CPU.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(700);
const MAX_MISSED_HEARTBEATS: u32 = 3;
/// Kill timeout of the server at shutdown; must be longer than the server's drain time for open requests.
const KILL_TIMEOUT: Duration = Duration::from_millis(800);

pub struct ServerProcess {
    pub pid: Pid,
    pub started: BootTime,
    pub next_heartbeat: BootTime,
    /// Heartbeats sent since the server last answered.
    missed: u32,
    channel: UnixStream,
}

impl ServerProcess {
    /// Starts a server on the listening socket. The server inherits no environment variable of the supervisor.
    pub fn start(listener: &TcpListener, now: BootTime) -> io::Result<Self> {
        let (channel, theirs) = UnixStream::pair()?;
        channel.set_nonblocking(true)?;
        let child = ProcessKind::Server
            .command()
            .env_clear()
            .env("RUST_MIN_STACK", THREAD_STACK_BYTES.to_string())
            .stdin(OwnedFd::from(listener.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .spawn()?;
        Ok(ServerProcess {
            pid: Pid::from_child(&child),
            started: now,
            next_heartbeat: now.after(HEARTBEAT_INTERVAL),
            missed: 0,
            channel,
        })
    }

    /// Sends a whole frame without waiting. A full socket buffer is an error, because it means that the server hangs.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.channel.write_all(frame)
    }

    /// Sends an empty frame, which the server answers. If the socket buffer is full, the heartbeat is lost and counts as
    /// missed. Returns false if the server has missed `MAX_MISSED_HEARTBEATS` in a row, which means that it hangs.
    pub fn send_heartbeat(&mut self, now: BootTime) -> bool {
        _ = self.channel.write(&[FRAME_END]);
        self.next_heartbeat = now.after(HEARTBEAT_INTERVAL);
        self.missed += 1;
        self.missed <= MAX_MISSED_HEARTBEATS
    }

    /// The control channel, to poll for heartbeat answers.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.channel, PollFlags::IN)
    }

    pub fn receive_answers(&mut self) {
        if self.channel.read(&mut [0; 64]).is_ok_and(|length| length > 0) {
            self.missed = 0;
        }
    }

    /// Tells the server to accept no more connections, answer its open requests and end; kills it after `KILL_TIMEOUT`.
    pub fn end(&self) {
        _ = self.channel.shutdown(Shutdown::Write);
        // Wait until the server ends: then the channel hangs up, which `poll` reports even with empty flags.
        let mut hang_up = [PollFd::new(&self.channel, PollFlags::empty())];
        _ = poll(&mut hang_up, Timespec::try_from(KILL_TIMEOUT).ok().as_ref());
        self.kill();
        // This wait is short: the server reads files only in /proc, which cannot hang, so a killed server ends at once.
        _ = waitpid(Some(self.pid), WaitOptions::empty());
    }

    /// Kills the server without waiting for its end; the poll loop reaps it.
    pub fn kill(&self) {
        _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}
