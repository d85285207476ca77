//! The server: one blocking loop that takes one whole request after the other from the gate, has tiny_http read it, and answers.
//!
//! No client can do more than to lose its own connection: the [`gate`] holds them all, within bounds, in this one thread;
//! tiny_http, which by itself survives no hostile client, is given whole heads only ([`head`]) and by this loop alone ([`reader`]).
//! Whatever else goes wrong ends this process, and the supervisor starts the next on the same listening socket.

mod connections;
mod control_channel;
pub mod protocol;
pub mod request_head;
mod subnet;
pub mod tiny_http_adapter;

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use crate::common::clock::BootTime;
use crate::common::http_headers::CHECK_AGENT;
use crate::common::log;
use crate::server::protocol::http::{Outcome, Refusal, Request, Response, Status};
use crate::server::protocol::metrics::{self, Metrics};
use crate::server::protocol::router;
use crate::server::protocol::state::Served;
use connections::{Client, Connections, Next};
use control_channel::{Channel, Closed};
use request_head::RequestHead;
use tiny_http_adapter::TinyHttpAdapter;

/// The stack of each of tiny_http's threads, which need a few KiB; std would reserve 2 MiB.
pub const THREAD_STACK_BYTES: usize = 64 * 1024;
/// When the process ends, whoever is in is still answered, for so long; the supervisor waits longer.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// Runs the server on the listening socket that is its stdin, fed through the channel that is its stdout, until the supervisor
/// closes that channel. An error is for good: another process may do better.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let supervisor = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut connections = Connections::open(listener, &supervisor)?;
    let Some((mut channel, first)) = Channel::open(supervisor) else {
        return Ok(());
    };
    stay_on_one_processor();
    let mut handler = Handler {
        reader: TinyHttpAdapter::start()?,
        served: first.into(),
        metrics: Metrics::default(),
    };
    let mut end = None;
    loop {
        match connections.next(end)? {
            Next::Answer(client, asked) => handler.answer(&mut connections, client, asked)?,
            Next::Supervisor => match channel.receive() {
                Ok(updates) => updates
                    .into_iter()
                    .for_each(|update| handler.served.apply(update)),
                Err(Closed) => {
                    connections.close();
                    end.get_or_insert(Instant::now() + LAST_ANSWERS);
                }
            },
            Next::Nothing => return Ok(()),
        }
    }
}

/// This loop and tiny_http's thread hand each request to each other and never work at one time; on several processors each hand-over
/// would wake another one. Before there are threads, which inherit it. Where a sandbox forbids it, each runs where the kernel likes.
fn stay_on_one_processor() {
    let processor = sched_getcpu();
    // A machine may have more than a set has room for.
    if processor < CpuSet::MAX_CPU {
        let mut here = CpuSet::new();
        here.set(processor);
        _ = sched_setaffinity(None, &here);
    }
}

/// Where requests become answers.
struct Handler {
    reader: TinyHttpAdapter,
    served: Served,
    metrics: Metrics,
}

impl Handler {
    fn answer(
        &mut self,
        connections: &mut Connections,
        client: Client,
        asked: RequestHead,
    ) -> io::Result<()> {
        let (begun, now) = (Instant::now(), SystemTime::now());
        let peer = client.address();
        let (mut is_head, mut is_logged) = (false, !self.served.state.quiet);
        let response = match asked.head {
            Ok(head) => {
                let request = self.reader.read(&head)?;
                is_head = *request.method() == tiny_http::Method::Head;
                is_logged &= !is_own_check(&request, &client);
                let response = self.response(&request, &client);
                // Dropped as it is it would be answered.
                drop(request.into_writer());
                response
            }
            Err(refusal) => {
                let status = match refusal {
                    Refusal::Body => Status::PayloadTooLarge,
                    _ => Status::BadRequest,
                };
                self.metrics.count(Some(Outcome::Refused(refusal)));
                Response::empty(status)
            }
        };
        connections.answer(
            client,
            response.to_bytes(is_head, now),
            asked.has_more_input,
        );
        if is_logged {
            log::access(
                peer,
                now,
                &asked.line,
                response.status.code(),
                response.body.len(),
                begun.elapsed(),
            );
        }
        Ok(())
    }

    fn response(&mut self, request: &tiny_http::Request, client: &Client) -> Response {
        let state = &self.served.state;
        let is_for_it = !state.same_network || is_near(client);
        let headers: Vec<(&str, &str)> = request
            .headers()
            .iter()
            .map(|header| (header.field.as_str().as_str(), header.value.as_str()))
            .collect();
        let request = Request {
            method: request.method().as_str(),
            target: request.url(),
            headers: &headers,
        };
        if is_for_it
            && state.metrics
            && metrics::is_asked_for(&request, &state.allow_hosts)
            && client.address().is_some_and(subnet::is_this_machine)
        {
            return self.metrics.answer(state);
        }
        let response = if is_for_it {
            router::answer(&request, &self.served, BootTime::now())
        } else {
            let why = "ec2-role: this is not the address for your network\n";
            router::refuse(Refusal::Network, why)
        };
        self.metrics.count(response.outcome);
        response
    }
}

/// Whether it is a `--check` of this machine's, which comes every few seconds and would be all that the log has.
fn is_own_check(request: &tiny_http::Request, client: &Client) -> bool {
    let mut headers = request.headers().iter();
    headers.any(|header| header.field.equiv("User-Agent") && header.value == CHECK_AGENT)
        && client.address().is_some_and(subnet::is_this_machine)
}

/// Whether a client is in the network of the address that it has asked.
fn is_near(client: &Client) -> bool {
    let both = client.asked().zip(client.address());
    both.is_some_and(|(asked, client)| subnet::is_in_network_of(asked, client))
}
