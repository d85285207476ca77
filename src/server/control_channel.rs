//! The server's end of the control channel: the supervisor sends state and heartbeats, the server answers each heartbeat.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::messages::frame::{from_frame, take_frame};
use crate::messages::server_state::{ServerState, ServerUpdate};

/// The supervisor's end is closed: the supervisor ends, or has ended.
pub struct Closed;

pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Channel {
    /// Waits for the first message, the whole state, which the supervisor sends at the start. Later calls never wait.
    pub fn open(stream: UnixStream) -> Option<(Self, ServerState)> {
        let mut channel = Channel { stream, received: Vec::new() };
        let mut piece = [0; 4096];
        let (mut state, metadata): (ServerState, Option<Vec<u8>>) = loop {
            match channel.stream.read(&mut piece).ok()? {
                0 => return None,
                length => channel.received.extend_from_slice(&piece[..length]),
            }
            if let Some(frame) = take_frame(&mut channel.received) {
                break from_frame(frame)?;
            }
        };
        state.snapshot = metadata.and_then(from_frame);
        channel.stream.set_nonblocking(true).ok()?;
        // No event will tell of what is already read.
        let updates = channel.receive().ok()?;
        updates.into_iter().for_each(|update| state.apply(update));
        Some((channel, state))
    }

    /// Receives all that the supervisor has sent, and answers: the answer is the sign of life that the supervisor waits for.
    pub fn receive(&mut self) -> Result<Vec<ServerUpdate>, Closed> {
        match self.stream.read_to_end(&mut self.received) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Also an error: unread answers in the supervisor's end reset the connection when it closes.
            Ok(_) | Err(_) => return Err(Closed),
        }
        // The buffer is full only if the supervisor has many answers to read yet.
        _ = self.stream.write(b".");
        let frames = std::iter::from_fn(|| take_frame(&mut self.received));
        // A heartbeat is no update.
        Ok(frames.filter_map(from_frame).collect())
    }
}
