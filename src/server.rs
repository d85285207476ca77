//! The server: a blocking loop on tiny_http, and the only file that knows tiny_http.
//!
//! tiny_http by itself survives no hostile client. What this loop does about it: one request per connection; every socket has
//! time limits; a body that is announced but not wanted is never touched; whatever else goes wrong ends this process, and the
//! keeper starts the next on the same listening socket.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::answer;
use crate::clock::Boot;
use crate::hand_over::HandOver;
use crate::heap;
use crate::http::{Refusal, Remark, Request, Response, Status};
use crate::log;
use crate::metrics::{self, Metrics};
use crate::token::TokenAuthority;

/// The loop turns at least this often, to take what the keeper hands over.
const TURN: Duration = Duration::from_secs(1);
/// A peer that is silent for this long is dropped. SDKs send at once, and give up after one or two seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// A write that waits at all has a peer that does not read: one answer fits into any socket's buffer.
const WRITE_TIMEOUT: Duration = Duration::from_millis(10);
/// So many stalled writes in a row are an attack on the loop: a fresh process has none of its connections.
const MAX_STALLED_WRITES: u32 = 3;
/// A connection is answered once, as the answer says. So many are remembered, which is longer than a client's port can come
/// again: at 8,000 requests a second one has some 28,000 ports.
const REMEMBERED_PEERS: usize = 256;
/// tiny_http reads a body of up to so many bytes by itself; a larger one it would read, or allocate, when the request is dropped.
const MAX_BODY: usize = 1024;
/// Each unwanted body, and each peer that goes too early, costs a thread and two descriptors until the process ends, which it
/// does at this many.
const MAX_LOST_THREADS: u32 = 128;
/// Two descriptors, a thread and some 12 KB for each connection: enough for a crowd of 1,000, and a bound for a hostile one.
const MAX_DESCRIPTORS: u64 = 2200;
/// A connection needs some 3 KB of heap, a header line as much as its client sends. At half of it the process goes by itself.
const MAX_HEAP_BYTES: usize = 8 * 1024 * 1024;
/// The stack of each connection's thread. tiny_http needs a few KiB; std would reserve 2 MiB.
pub const THREAD_STACK_BYTES: usize = 64 * 1024;
/// When the process ends, requests that were already read are still answered; it waits this long for one more …
const LAST_REQUEST: Duration = Duration::from_millis(20);
/// … and this long for all of them.
const LAST_REQUESTS: Duration = Duration::from_millis(200);

/// Runs the server on the listening socket that is its stdin, fed through the channel that is its stdout, until the keeper
/// closes that channel or something goes wrong.
pub fn run() {
    let (Ok(listener), Ok(channel)) = (inherited(std::io::stdin()), inherited(std::io::stdout()))
    else {
        return;
    };
    let Some((mut channel, first)) = Channel::open(UnixStream::from(channel)) else {
        return;
    };
    let Some(server) = listen(listener) else {
        return;
    };
    contain_panics();
    heap::limit(MAX_HEAP_BYTES);
    let mut turn = Turn {
        served: Served::new(first),
        metrics: Metrics::default(),
        answered: VecDeque::with_capacity(REMEMBERED_PEERS),
        stalled_writes: 0,
        unwanted_bodies: 0,
    };
    loop {
        let request = server.recv_timeout(TURN);
        match channel.newest() {
            Ok(Some(hand_over)) => turn.served = Served::new(hand_over),
            Ok(None) => {}
            Err(Closed) => break turn.answer_last(request.ok().flatten(), &server),
        }
        match request {
            Ok(Some(request)) => turn.answer(request),
            Ok(None) => {}
            // No descriptor left, or nobody came for READ_TIMEOUT: either way tiny_http accepts no more.
            Err(_) => break turn.answer_last(None, &server),
        }
        let lost = turn.unwanted_bodies + STOPPED.load(Ordering::Relaxed);
        let is_worn = turn.stalled_writes >= MAX_STALLED_WRITES || lost >= MAX_LOST_THREADS;
        if is_worn || heap::in_use() > MAX_HEAP_BYTES / 2 {
            break turn.answer_last(None, &server);
        }
    }
    // Not by returning: tiny_http's destructor would connect to its own address and wait.
    std::process::exit(0);
}

fn inherited(stream: impl AsFd) -> std::io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

fn listen(listener: OwnedFd) -> Option<tiny_http::Server> {
    let limit = rustix::process::Rlimit {
        current: Some(MAX_DESCRIPTORS),
        maximum: Some(MAX_DESCRIPTORS),
    };
    // A lower limit than ours stays.
    let present = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if present.is_none_or(|present| present > MAX_DESCRIPTORS) {
        _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    }
    // Accepted sockets inherit the time limits of the listening one. std sets them on streams only, but they belong to the
    // socket and not to the type.
    let socket = TcpStream::from(listener);
    socket.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT)).ok()?;
    tiny_http::Server::from_listener(TcpListener::from(OwnedFd::from(socket)), None).ok()
}

/// The connections whose threads were stopped in a panic.
static STOPPED: AtomicU32 = AtomicU32::new(0);
/// The requests answered, for whoever must know whether there are more.
static ANSWERED: AtomicU32 = AtomicU32::new(0);

/// A panic in client.rs is one connection's: its peer had gone before tiny_http asked for its address. Its thread is stopped
/// there, where it holds no lock; to unwind would cost 200 KB of tables, and to abort every other connection. Any other panic is
/// the accepting thread's, for want of descriptors, or unknown: the process ends when it has answered what it has read.
fn contain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let is_one_connection = panic
            .location()
            .is_some_and(|location| location.file().ends_with("client.rs"));
        if is_one_connection {
            STOPPED.fetch_add(1, Ordering::Relaxed);
            loop {
                std::thread::park();
            }
        }
        let begun = Instant::now();
        loop {
            let before = ANSWERED.load(Ordering::Relaxed);
            std::thread::sleep(LAST_REQUEST);
            if ANSWERED.load(Ordering::Relaxed) == before || begun.elapsed() > LAST_REQUESTS {
                std::process::exit(0);
            }
        }
    }));
}

/// What is served in this turn, with what is made from it once and not for every request.
struct Served {
    hand_over: HandOver,
    tokens: TokenAuthority,
}

impl Served {
    fn new(hand_over: HandOver) -> Self {
        let tokens = TokenAuthority::new(&hand_over.token_key, &hand_over.boot_id);
        Served { hand_over, tokens }
    }
}

struct Turn {
    served: Served,
    metrics: Metrics,
    /// The peers answered last.
    answered: VecDeque<SocketAddr>,
    stalled_writes: u32,
    unwanted_bodies: u32,
}

impl Turn {
    fn answer_last(&mut self, request: Option<tiny_http::Request>, server: &tiny_http::Server) {
        request.into_iter().for_each(|request| self.answer(request));
        let begun = Instant::now();
        while begun.elapsed() < LAST_REQUESTS
            && let Ok(Some(request)) = server.recv_timeout(LAST_REQUEST)
        {
            self.answer(request);
        }
    }

    fn answer(&mut self, request: tiny_http::Request) {
        ANSWERED.fetch_add(1, Ordering::Relaxed);
        let (begun, now) = (Instant::now(), SystemTime::now());
        let method = request.method().to_string();
        let peer = request.remote_addr().copied();
        let has_body = announces_a_body(&request);
        if !self.is_first_of(peer) && !has_body {
            // Not dropped as it is: that would answer 500.
            drop(request.into_writer());
            return;
        }
        let request_line = format!("{method} {} HTTP/{}", request.url(), request.http_version());
        let is_knock = request.url() == self.served.hand_over.knock;
        let (status, body_length) = if has_body {
            self.unwanted_bodies += 1;
            self.metrics.count(Some(Remark::Refused(Refusal::Body)));
            refuse_body(request)
        } else {
            let response = if is_knock {
                Response::text("")
            } else {
                self.response(&method, &request)
            };
            self.write(request, &response.to_bytes(method == "HEAD", now));
            (response.status.code(), response.body.len())
        };
        if !self.served.hand_over.quiet && !is_knock {
            log::access(
                peer.map(|peer| peer.ip()),
                now,
                &request_line,
                status,
                body_length,
                begun.elapsed(),
            );
        }
    }

    /// Whether a request is the first on its connection: an answer says that the connection is closed.
    fn is_first_of(&mut self, peer: Option<SocketAddr>) -> bool {
        let Some(peer) = peer else { return true };
        if self.answered.contains(&peer) {
            return false;
        }
        if self.answered.len() == REMEMBERED_PEERS {
            self.answered.pop_front();
        }
        self.answered.push_back(peer);
        true
    }

    fn response(&mut self, method: &str, request: &tiny_http::Request) -> Response {
        let Served { hand_over, tokens } = &self.served;
        if hand_over.metrics
            && request.url() == metrics::PATH
            && request.remote_addr().is_some_and(is_own)
        {
            return self.metrics.answer(hand_over);
        }
        let headers: Vec<(&str, &str)> = request
            .headers()
            .iter()
            .map(|header| (header.field.as_str().as_str(), header.value.as_str()))
            .collect();
        let request = Request {
            method,
            target: request.url(),
            headers: &headers,
        };
        let response = answer::answer(&request, hand_over, tokens, Boot::now());
        self.metrics.count(response.remark);
        response
    }

    fn write(&mut self, request: tiny_http::Request, bytes: &[u8]) {
        let mut writer = request.into_writer();
        match writer.write_all(bytes).and_then(|()| writer.flush()) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.stalled_writes += 1
            }
            _ => self.stalled_writes = 0,
        }
    }
}

/// Whether a peer is this machine itself: the address from which one would talk to it is its own. Nothing is sent.
fn is_own(peer: &SocketAddr) -> bool {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let from = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(peer)?;
        socket.local_addr()
    };
    peer.ip().to_canonical().is_loopback() || from().is_ok_and(|from| from.ip() == peer.ip())
}

fn announces_a_body(request: &tiny_http::Request) -> bool {
    request
        .body_length()
        .is_some_and(|length| length > MAX_BODY)
        || request
            .headers()
            .iter()
            .any(|header| header.field.equiv("Transfer-Encoding") || header.field.equiv("Expect"))
}

/// No request here has a body. To drop the request would read the body, or allocate it; to upgrade it gives the stream out,
/// and the stream is kept for good.
fn refuse_body(request: tiny_http::Request) -> (u16, usize) {
    let status = Status::PayloadTooLarge.code();
    let stream = request.upgrade("close", tiny_http::Response::empty(status));
    std::mem::forget(stream);
    (status, 0)
}

/// The keeper's end of the channel is closed: it ends, or has ended.
struct Closed;

struct Channel {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Channel {
    /// Waits for the first hand-over, which the keeper sends with the start; afterwards nothing here waits.
    fn open(stream: UnixStream) -> Option<(Self, HandOver)> {
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

    /// The newest complete hand-over since the last call, if there is one.
    fn newest(&mut self) -> Result<Option<HandOver>, Closed> {
        loop {
            match self.read_piece() {
                Ok(0) => return Err(Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(self.take_newest()),
            }
        }
    }

    fn read_piece(&mut self) -> std::io::Result<usize> {
        let mut piece = [0; 4096];
        let length = self.stream.read(&mut piece)?;
        self.read.extend_from_slice(&piece[..length]);
        Ok(length)
    }

    fn take_newest(&mut self) -> Option<HandOver> {
        let end = self.read.iter().rposition(|byte| *byte == b'\n')?;
        let begin = self.read[..end]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let newest = std::str::from_utf8(&self.read[begin..end])
            .ok()
            .and_then(HandOver::from_line);
        self.read.drain(..=end);
        newest
    }
}
