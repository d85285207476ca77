//! The server's end of the channel to the supervisor.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::messages::server_state::ServerState;

/// The supervisor's end of the channel is closed: it ends, or has ended.
pub struct Closed;

pub struct Channel {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Channel {
    /// Waits for the first hand-over, which the supervisor sends with the start; afterwards nothing here waits.
    pub fn open(stream: UnixStream) -> Option<(Self, ServerState)> {
        let mut channel = Channel {
            stream,
            read: Vec::new(),
        };
        let first = loop {
            match channel.read_piece() {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            if let Some(first) = channel.take_newest() {
                break first;
            }
        };
        channel.stream.set_nonblocking(true).ok()?;
        Some((channel, first))
    }

    /// Reads all that the supervisor has said, and says that it was heard: that is how the supervisor knows that this process goes on.
    /// Gives the newest complete hand-over, if there is one.
    pub fn hear(&mut self) -> Result<Option<ServerState>, Closed> {
        loop {
            match self.read_piece() {
                Ok(0) => return Err(Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // An end that was closed before all was read is a reset.
                Err(_) => return Err(Closed),
            }
        }
        // A supervisor that does not read it has enough of them.
        _ = self.stream.write(b".");
        Ok(self.take_newest())
    }

    fn read_piece(&mut self) -> std::io::Result<usize> {
        let mut piece = [0; 4096];
        let length = self.stream.read(&mut piece)?;
        self.read.extend_from_slice(&piece[..length]);
        Ok(length)
    }

    fn take_newest(&mut self) -> Option<ServerState> {
        let end = self.read.iter().rposition(|byte| *byte == b'\n')?;
        let mut lines = self.read[..end].rsplit(|byte| *byte == b'\n');
        // An empty one is a question, and no more.
        let newest = lines
            .find(|line| !line.is_empty())
            .and_then(|line| std::str::from_utf8(line).ok())
            .and_then(ServerState::from_line);
        self.read.drain(..=end);
        newest
    }
}
