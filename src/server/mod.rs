//! The server: a blocking loop on tiny_http, and the only one that knows tiny_http.
//!
//! tiny_http by itself survives no hostile client. What this loop does about it: one request per connection; every socket has
//! time limits; a body that is announced but not wanted is never touched; whatever else goes wrong ends this process, and the
//! keeper starts the next on the same listening socket.

mod channel;
mod containment;

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use crate::answer;
use crate::clock::Boot;
use crate::hand_over::HandOver;
use crate::http::{Refusal, Remark, Request, Response, Status};
use crate::log;
use crate::metrics::{self, Metrics};
use crate::own_door;
use crate::token::TokenAuthority;
use channel::{Channel, Closed};
use containment::LeastHeld;

/// The loop turns at least this often, to take what the keeper hands over, and to free who waits for a thread before the least
/// patient SDK gives up (Go's, after 500 ms).
const TURN: Duration = Duration::from_millis(250);
/// While a connection is held: who waits for its thread is freed so soon that nobody notices.
const HURRIED_TURN: Duration = Duration::from_millis(40);
/// A peer that is silent for this long is dropped. SDKs send at once, and give up after one or two seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// A write that waits at all has a peer that does not read: one answer fits into any socket's buffer.
const WRITE_TIMEOUT: Duration = Duration::from_millis(10);
/// So many stalled writes in a row are an attack on the loop: a fresh process has none of its connections.
const MAX_STALLED_WRITES: u32 = 3;
/// A connection is answered once, as the answer says. So many are remembered, for as long as one may be silent: after that the
/// same address and port are another connection, of a container that has its predecessor's address.
const REMEMBERED_PEERS: usize = 256;
/// tiny_http reads a body of up to so many bytes by itself; a larger one it would read, or allocate, when the request is dropped.
const MAX_BODY: usize = 1024;
/// The stack of each connection's thread. tiny_http needs a few KiB; std would reserve 2 MiB.
pub const THREAD_STACK_BYTES: usize = 64 * 1024;
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
    let own_address = own_address(&listener);
    containment::stay_on_one_processor();
    let Some(server) = listen(listener) else {
        return;
    };
    containment::contain();
    let mut turn = Turn {
        served: Served::new(first),
        metrics: Metrics::default(),
        answered: VecDeque::with_capacity(REMEMBERED_PEERS),
        stalled_writes: 0,
        unwanted_bodies: 0,
    };
    let (mut freed, mut pause) = (Instant::now(), TURN);
    let mut least_held = LeastHeld::new();
    let last = loop {
        let received = server.recv_timeout(pause);
        if freed.elapsed() >= pause {
            freed = Instant::now();
            let held = containment::free_those_who_wait(own_address);
            pause = if held > 0 { HURRIED_TURN } else { TURN };
            if least_held.is_lost(held) {
                break received;
            }
        }
        match channel.newest() {
            Ok(Some(hand_over)) => turn.served = Served::new(hand_over),
            Ok(None) => {}
            Err(Closed) => break received,
        }
        match received {
            Ok(Some(request)) => turn.answer(request),
            Ok(None) => {}
            // No descriptor left, or nobody came for READ_TIMEOUT: either way tiny_http accepts no more.
            Err(error) => break Err(error),
        }
        // Its thread is held for good.
        if turn.unwanted_bodies > 0 {
            pause = HURRIED_TURN;
        }
        if turn.stalled_writes >= MAX_STALLED_WRITES || containment::is_worn(turn.unwanted_bodies) {
            break Ok(None);
        }
    };
    containment::stop_accepting(own_address);
    turn.answer_last(last, &server, &mut channel);
    // Not by returning: tiny_http's destructor would connect to its own address and wait.
    std::process::exit(0);
}

fn inherited(stream: impl AsFd) -> std::io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

fn own_address(listener: &OwnedFd) -> Option<SocketAddr> {
    let address = rustix::net::getsockname(listener).ok()?;
    Some(own_door::reachable(SocketAddr::try_from(address).ok()?))
}

fn listen(listener: OwnedFd) -> Option<tiny_http::Server> {
    containment::limit_descriptors();
    containment::count_descriptors();
    // Accepted sockets inherit the time limits of the listening one. std sets them on streams only, but they belong to the
    // socket and not to the type.
    let socket = TcpStream::from(listener);
    socket.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT)).ok()?;
    tiny_http::Server::from_listener(TcpListener::from(OwnedFd::from(socket)), None).ok()
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
    answered: VecDeque<(SocketAddr, Instant)>,
    stalled_writes: u32,
    unwanted_bodies: u32,
}

impl Turn {
    /// Answers what tiny_http has accepted: until it accepts no more, which the keeper is told, and nothing comes any more.
    fn answer_last(
        &mut self,
        mut received: std::io::Result<Option<tiny_http::Request>>,
        server: &tiny_http::Server,
        channel: &mut Channel,
    ) {
        let begun = Instant::now();
        let mut accepts = true;
        while begun.elapsed() < containment::LAST_REQUESTS {
            match received {
                Ok(Some(request)) => self.answer(request),
                Ok(None) if accepts => {}
                Ok(None) => break,
                Err(_) => {
                    accepts = false;
                    channel.say_going();
                }
            }
            received = server.recv_timeout(containment::LAST_REQUEST);
        }
    }

    fn answer(&mut self, request: tiny_http::Request) {
        containment::count_request();
        let (begun, now) = (Instant::now(), SystemTime::now());
        let method = request.method().to_string();
        let peer = request.remote_addr().copied();
        let has_body = announces_a_body(&request);
        if !is_last(&request) && !self.is_first_of(peer) && !has_body {
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
        let is_past = |answered: &Instant| answered.elapsed() > READ_TIMEOUT;
        while let Some((_, answered)) = self.answered.front()
            && (is_past(answered) || self.answered.len() == REMEMBERED_PEERS)
        {
            self.answered.pop_front();
        }
        if self.answered.iter().any(|(answered, _)| *answered == peer) {
            return false;
        }
        self.answered.push_back((peer, Instant::now()));
        true
    }

    fn response(&mut self, method: &str, request: &tiny_http::Request) -> Response {
        let Served { hand_over, tokens } = &self.served;
        let peer = request.remote_addr();
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
        if hand_over.metrics
            && metrics::is_asked_for(&request, &hand_over.allow_hosts)
            && peer.is_some_and(is_own)
        {
            return self.metrics.answer(hand_over);
        }
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

/// Whether tiny_http itself reads no more from the connection: then its client's port may come again at once.
fn is_last(request: &tiny_http::Request) -> bool {
    let connection = request
        .headers()
        .iter()
        .find(|header| header.field.equiv("Connection"));
    let says = |word| {
        connection.is_some_and(|header| header.value.as_str().to_ascii_lowercase().contains(word))
    };
    says("close") || (*request.http_version() == (1, 0) && !says("keep-alive"))
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
    // An upgrade's answer has no length, and a client would wait for its end: so the length comes in with another header's value.
    const WITH_ITS_LENGTH: &str = "close\r\nContent-Length: 0\r\nConnection: close";
    let status = Status::PayloadTooLarge.code();
    let stream = request.upgrade(WITH_ITS_LENGTH, tiny_http::Response::empty(status));
    std::mem::forget(stream);
    (status, 0)
}
