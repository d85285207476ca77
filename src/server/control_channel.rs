//! The server's end of the control channel: the supervisor sends state and heartbeats, and the server answers them.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::messages::{FRAME_END, ServerState, ServerUpdate, from_frame, take_frame};

pub struct Channel {
    stream: BufReader<UnixStream>,
    received: Vec<u8>,
}

impl Channel {
    /// Waits for the first message, in which the supervisor sends the whole state. `None` if the channel closes before this
    /// message is complete. Later messages are received with [`Self::receive`], which does not wait.
    pub fn open(stream: UnixStream) -> Option<(Self, ServerState)> {
        let (mut stream, mut frame) = (BufReader::new(stream), Vec::new());
        stream.read_until(FRAME_END, &mut frame).ok()?;
        let mut state: ServerState = from_frame(frame)?;
        stream.get_ref().set_nonblocking(true).ok()?;
        let mut channel = Channel { stream, received: Vec::new() };
        // Frames that are already in the buffer cause no epoll event, so apply them now.
        let updates = channel.receive()?;
        updates.into_iter().for_each(|update| state.apply(update));
        Some((channel, state))
    }

    /// Receives all pending messages, and sends an answer, which the supervisor takes as proof that the server is alive. `None`
    /// if the supervisor's end of the channel is closed: the supervisor is ending or has ended.
    pub fn receive(&mut self) -> Option<Vec<ServerUpdate>> {
        match self.stream.read_to_end(&mut self.received) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Any other error means a closed channel too: the read fails with ECONNRESET if the supervisor closed its end without
            // reading all answers.
            Ok(_) | Err(_) => return None,
        }
        // An error is ignored: if the socket's buffer is full, the supervisor has unread answers, and each of them proves that
        // the server is alive.
        _ = self.stream.get_mut().write(b".");
        let frames = std::iter::from_fn(|| take_frame(&mut self.received));
        // A heartbeat frame holds no update, and is skipped.
        Some(frames.filter_map(from_frame).collect())
    }
}
