//! One client's connection: reads a request head, writes a response, drains further input.

use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};

use super::request_head::{self, RequestHead};

/// Maximum lifetime of a connection, from accept to close. This is enough for SDKs, because they send their request at once, and
/// time out after one or two seconds.
pub const MAX_LIFETIME: Duration = Duration::from_secs(3);
/// Lingering close: maximum number of unread bytes that are drained before the close. A close with unread data sends RST, which
/// can destroy the response.
const MAX_DRAINED_BYTES: usize = 64 * 1024;

/// The read buffer. All connections share it, because they are read one after the other.
pub type Buffer = [u8; request_head::MAX_BYTES];

pub struct Connection {
    pub id: u64,
    pub deadline: Instant,
    /// The client's address. For an IPv4 client of an IPv6 socket it is the IPv4 address, not the IPv4-mapped one.
    pub peer: IpAddr,
    pub stream: TcpStream,
    state: State,
}

enum State {
    ReadingHead(Vec<u8>),
    WritingResponse {
        unsent: Vec<u8>,
        has_more_input: bool,
    },
    /// The response is sent. Input is read and discarded until the close; this is the number of bytes discarded so far.
    Draining(usize),
}

/// The state of a connection after `advance`.
pub enum Progress {
    /// The request head is complete; the caller sends the response.
    Request(RequestHead),
    /// The connection waits until its socket is ready for these events.
    Pending(EventFlags),
}

impl Connection {
    pub fn new(id: u64, stream: TcpStream, peer: IpAddr, now: Instant) -> Self {
        Connection {
            id,
            deadline: now + MAX_LIFETIME,
            peer,
            stream,
            state: State::ReadingHead(Vec::new()),
        }
    }

    /// The address that the client connected to.
    pub fn local_address(&self) -> Option<IpAddr> {
        let local = self.stream.local_addr().ok()?;
        Some(local.ip().to_canonical())
    }

    /// Memory held for an incomplete head or an unsent response.
    pub fn buffered_bytes(&self) -> usize {
        match &self.state {
            State::ReadingHead(bytes) | State::WritingResponse { unsent: bytes, .. } => {
                bytes.capacity()
            }
            State::Draining(_) => 0,
        }
    }

    /// Closes the connection with RST, which frees the socket at once: an orderly close would keep it until the client
    /// acknowledges.
    pub fn abort(self) {
        _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }

    /// Sets the response, which [`Connection::advance`] writes. If the client sends more than the request head
    /// (`has_more_input`), `advance` then drains the rest.
    pub fn set_response(&mut self, response: Vec<u8>, has_more_input: bool) {
        self.state = State::WritingResponse { unsent: response, has_more_input };
    }

    /// Writes the unsent response as far as the socket allows. If nothing is left to write, reads once: bytes of the head or,
    /// after the response, bytes to discard. Returns `None` if the connection is finished or lost; the caller then closes it.
    pub fn advance(&mut self, buffer: &mut Buffer) -> Option<Progress> {
        if let State::WritingResponse { unsent, has_more_input } = &mut self.state {
            // MORE saves a packet: the kernel holds back the last bytes, and sends them with the FIN that follows at once.
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let written = unless_lost(send(&self.stream, unsent, flags))?;
            unsent.drain(..written);
            if !unsent.is_empty() {
                return Some(Progress::Pending(EventFlags::OUT));
            }
            if !*has_more_input {
                return None;
            }
            self.stream.shutdown(Shutdown::Write).ok()?;
            self.state = State::Draining(0);
        }
        let room = match &self.state {
            State::ReadingHead(head) => &mut buffer[head.len()..],
            _ => &mut buffer[..],
        };
        let read = match rustix::io::read(&self.stream, &mut *room) {
            Ok(0) => return None,
            result => &room[..unless_lost(result)?],
        };
        match &mut self.state {
            State::ReadingHead(head) => {
                if let Some(request) = extend_head(head, read) {
                    return Some(Progress::Request(request));
                }
            }
            State::Draining(drained) if *drained + read.len() <= MAX_DRAINED_BYTES => {
                *drained += read.len();
            }
            _ => return None,
        }
        Some(Progress::Pending(EventFlags::IN))
    }
}

/// Parses the head if it may be complete. If it is incomplete, keeps the bytes read in `head`.
fn extend_head(head: &mut Vec<u8>, read: &[u8]) -> Option<RequestHead> {
    // The first bytes are usually the whole head, so parse them without a copy.
    if head.is_empty()
        && let Some(request) = RequestHead::parse(read)
    {
        return Some(request);
    }
    // Parsing after every byte of a slow client would be costly. Parse only after a newline, which may end the head, or at the
    // maximum size, where an incomplete head is refused.
    head.extend_from_slice(read);
    let may_be_complete = read.contains(&b'\n') || head.len() == request_head::MAX_BYTES;
    may_be_complete.then(|| RequestHead::parse(head)).flatten()
}

/// The number of bytes transferred, 0 if the socket is not ready; `None` if the connection is lost.
fn unless_lost(transferred: Result<usize, Errno>) -> Option<usize> {
    match transferred {
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        transferred => transferred.ok(),
    }
}
