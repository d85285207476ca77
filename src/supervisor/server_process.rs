//! The server as the supervisor sees it: a process, and the channel to it.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal};

use crate::common::clock::BootTime;
use crate::common::process::ProcessKind;
use crate::messages::server_state::ServerState;
use crate::server::THREAD_STACK_BYTES;

pub struct ServerProcess {
    pub pid: Pid,
    pub started: BootTime,
    channel: UnixStream,
}

impl ServerProcess {
    /// Starts one on the listening socket, with nothing of the environment, and hands over.
    pub fn start(listener: &TcpListener, state: &ServerState, now: BootTime) -> io::Result<Self> {
        let (channel, theirs) = UnixStream::pair()?;
        channel.set_nonblocking(true)?;
        let child = ProcessKind::Server
            .command()
            .env_clear()
            .env("RUST_MIN_STACK", THREAD_STACK_BYTES.to_string())
            .stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        let pid = Pid::from_child(&child);
        let mut server = ServerProcess {
            pid,
            started: now,
            channel,
        };
        server.state(state)?;
        Ok(server)
    }

    /// Hands over without waiting; an error means that it does not take it.
    pub fn state(&mut self, state: &ServerState) -> io::Result<()> {
        let line = state.to_line();
        match self.channel.write(line.as_bytes())? {
            length if length == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Asks whether it goes on, without waiting. One that does not take the question will not answer it.
    pub fn ask(&mut self) {
        _ = self.channel.write(b"\n");
    }

    /// To be polled for reading: what it says on it says that it goes on.
    pub fn channel(&self) -> &UnixStream {
        &self.channel
    }

    /// Whether it has said so since the last call.
    pub fn is_alive(&mut self) -> bool {
        self.channel
            .read(&mut [0; 64])
            .is_ok_and(|length| length > 0)
    }

    /// Tells it to answer whoever is in, and go.
    pub fn close(&self) {
        _ = self.channel.shutdown(std::net::Shutdown::Both);
    }

    /// Ends it at once. It is reaped like any child.
    pub fn kill(&self) {
        _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}
