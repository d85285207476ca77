//! One server process, and the supervisor's end of its control channel.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal};

use crate::common::{BootTime, ProcessKind};
use crate::messages::FRAME_END;
use crate::server::THREAD_STACK_BYTES;

pub struct ServerProcess {
    pub pid: Pid,
    pub started: BootTime,
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
            .stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        Ok(ServerProcess { pid: Pid::from_child(&child), started: now, channel })
    }

    /// Sends a whole frame without waiting. A full socket buffer is an error, because it means that the server hangs.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.channel.write_all(frame)
    }

    /// Sends an empty message, which the server answers. If the socket buffer is full, the heartbeat is lost.
    pub fn send_heartbeat(&mut self) {
        _ = self.channel.write(&[FRAME_END]);
    }

    /// The control channel, which becomes readable when the server answers.
    pub fn channel(&self) -> &UnixStream {
        &self.channel
    }

    /// Whether the server has answered a heartbeat since the last call.
    pub fn is_alive(&mut self) -> bool {
        self.channel.read(&mut [0; 64]).is_ok_and(|length| length > 0)
    }

    /// Tells the server to answer its open requests and end.
    pub fn close(&self) {
        _ = self.channel.shutdown(std::net::Shutdown::Both);
    }

    /// Kills the server without waiting for its end; the poll loop reaps it.
    pub fn kill(&self) {
        _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}
