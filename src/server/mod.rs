//! The server process. One blocking loop takes requests from the connection table, has tiny_http parse them, and sends the
//! responses.
//!
//! The loop withstands hostile clients: it never waits for one client, `connections` bounds the time and memory of all clients,
//! and tiny_http receives complete heads only. A fault of the server itself ends this process, and the supervisor starts a new
//! server on the same listening socket.

mod access_log;
mod confinement;
mod connection;
mod connections;
mod control_channel;
pub mod protocol;
pub mod request_head;
mod subnet;
pub mod tiny_http_adapter;

use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use crate::common::{BootTime, CHECK_AGENT, log};
use access_log::AccessLog;
use connection::Connection;
use connections::{Connections, Next};
use control_channel::Channel;
use protocol::http::{Outcome, Refusal, Request, Response, StatusCode};
use protocol::metrics::{self, Metrics};
use protocol::router;
use protocol::state::ResponseState;
use request_head::RequestHead;
use subnet::Interfaces;
use tiny_http_adapter::TinyHttpAdapter;

/// Stack size of tiny_http's threads: they need a few KiB, and std's default would reserve 2 MiB for each.
pub const THREAD_STACK_BYTES: usize = 64 * 1024;
/// Maximum number of requests that tiny_http parses at a time. A larger batch would save little, and hold more memory and
/// descriptors.
const MAX_BATCH: usize = 16;
/// How long the server still answers clients after the supervisor has closed the channel; less than the supervisor's
/// `KILL_TIMEOUT`. On a busy machine, a client that has connected may need this time to send its request.
const DRAIN_TIME: Duration = Duration::from_millis(300);

/// Runs the server. Its stdin is the listening socket, and its stdout is the control channel: the server ends when the supervisor
/// closes this channel. An error ends this process; the supervisor starts a new server.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let supervisor = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let Some((mut channel, first)) = Channel::open(supervisor) else {
        return Ok(());
    };
    // Set the log format before the following steps, so that their errors are logged in this format.
    log::set_format(first.log_format.clone());
    let address = listener.local_addr()?.ip().to_canonical();
    let first_descriptor = listener.as_raw_fd();
    let mut connections = Connections::new(listener, io::stdout())?;
    stay_on_one_processor();
    let mut handler = Handler {
        tiny_http: TinyHttpAdapter::start()?,
        state: first.into(),
        metrics: Metrics::default(),
        access_log: AccessLog::new(Instant::now()),
        interfaces: Interfaces::open()?,
        address: Some(address).filter(|address| !address.is_unspecified()),
    };
    log::open();
    if let Err(error) = confinement::confine(first_descriptor) {
        log::warning(&format!(
            "server: seccomp: {error}; it runs without confinement; allow the call, or boot a kernel with seccomp filters"
        ));
    }
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        match connections.step(Instant::now())? {
            None => {}
            Some(Next::Request(connection, head)) => batch.push((connection, head)),
            Some(Next::ControlChannel) => {
                match channel.receive() {
                    Some(updates) => updates.into_iter().for_each(|it| handler.state.apply(it)),
                    None => connections.finish_accepting(Instant::now() + DRAIN_TIME),
                }
                // Check at each message from the supervisor whether the access log's window is over. Its heartbeats arrive
                // regularly, even if no request does.
                let left_out = handler.access_log.end_window(Instant::now());
                left_out.iter().for_each(|line| log::event(line));
            }
            Some(Next::Done) => return Ok(()),
        }
        if batch.len() == MAX_BATCH || !batch.is_empty() && !connections.has_ready() {
            let begun = Instant::now();
            let heads = batch.iter().filter_map(|(_, head)| head.normalized.as_deref().ok());
            handler.tiny_http.send(heads)?;
            for (connection, head) in batch.drain(..) {
                handler.respond(&mut connections, connection, head, begun)?;
            }
        }
    }
}

/// Keeps this process on one processor. The loop of [`run`] and tiny_http's thread take turns, so on two processors every
/// hand-over would wake the other processor. Must be called before threads are started, which inherit the setting. An error is
/// ignored: a sandbox may forbid the call.
fn stay_on_one_processor() {
    let processor = sched_getcpu();
    // `CpuSet::set` panics if the processor's number is `MAX_CPU` or higher, as it can be on a very large machine.
    if processor < CpuSet::MAX_CPU {
        let mut current = CpuSet::new();
        current.set(processor);
        _ = sched_setaffinity(None, &current);
    }
}

struct Handler {
    tiny_http: TinyHttpAdapter,
    state: ResponseState,
    metrics: Metrics,
    access_log: AccessLog,
    interfaces: Interfaces,
    /// The address that every client connects to; `None` if the server listens on all addresses.
    address: Option<IpAddr>,
}

impl Handler {
    fn respond(
        &mut self,
        connections: &mut Connections,
        connection: Connection,
        head: RequestHead,
        begun: Instant,
    ) -> io::Result<()> {
        let now = SystemTime::now();
        let (peer, local) = (connection.peer, self.address.or_else(|| connection.local_address()));
        let (mut is_head, mut is_check) = (false, false);
        let response = match &head.normalized {
            Ok(head) => {
                let parsed = self.tiny_http.receive(head)?;
                let headers: Vec<(&str, &str)> = parsed
                    .headers()
                    .iter()
                    .map(|header| (header.field.as_str().as_str(), header.value.as_str()))
                    .collect();
                let request = Request {
                    method: parsed.method().as_str(),
                    target: parsed.url(),
                    headers: &headers,
                    is_to_loopback: local.is_some_and(|local| local.is_loopback()),
                };
                is_head = request.method == "HEAD";
                is_check =
                    request.header("User-Agent") == Some(CHECK_AGENT) && self.is_own(peer, local);
                let response = self.response(&request, peer, local, begun);
                // Take the writer out: dropping a `tiny_http::Request` sends a 500.
                drop(parsed.into_writer());
                response
            }
            &Err(refusal) => {
                let status = match refusal {
                    Refusal::Body => StatusCode::PAYLOAD_TOO_LARGE,
                    _ => StatusCode::BAD_REQUEST,
                };
                self.metrics.count(Some(Outcome::Refused(refusal)));
                Response::empty(status)
            }
        };
        let status = response.status.as_u16();
        let body_length = if is_head { 0 } else { response.body.len() };
        connections.respond(connection, response.to_bytes(is_head, now), head.has_more_input);
        if !self.state.server.config.quiet && self.access_log.admits(is_check) {
            log::access(&log::Access {
                client: peer,
                at: now,
                request_line: head.request_line(),
                status,
                body_length,
                took: begun.elapsed(),
            });
        }
        Ok(())
    }

    fn response(
        &mut self,
        request: &Request,
        peer: IpAddr,
        local: Option<IpAddr>,
        begun: Instant,
    ) -> Response<'_> {
        let server = &self.state.server;
        let mut is_on_subnet =
            || local.is_some_and(|local| self.interfaces.is_on_subnet_of(local, peer, begun));
        let response = if server.config.same_network && !is_on_subnet() && !self.is_own(peer, local)
        {
            let why = "ec2-role: this address serves its own subnet only\n";
            router::refuse(Refusal::Network, why)
        } else if server.config.metrics
            && metrics::is_requested(request, &server.config.allow_hosts)
            && self.is_own(peer, local)
        {
            return self.metrics.response(server);
        } else {
            router::respond(request, &self.state, BootTime::now())
        };
        self.metrics.count(response.outcome);
        response
    }

    /// Whether the client is on this machine, by its source address. Another machine that forges such an address gets no
    /// connection: over IPv4 the kernel drops the packets, and over IPv6 the kernel's replies do not leave this machine.
    fn is_own(&self, peer: IpAddr, local: Option<IpAddr>) -> bool {
        peer.is_loopback() || Some(peer) == local || self.interfaces.is_own(peer)
    }
}
