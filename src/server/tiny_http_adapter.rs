//! Runs tiny_http on a Unix stream within this process.
//!
//! tiny_http parses the requests but never reads from a client, because a hostile client could exhaust, block or crash it (body
//! allocation, blocking reads, panics). The server reads from the clients, and gives tiny_http only heads that are complete,
//! small and well-formed (see [`super::request_head`]).

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::thread::Builder;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketType};

use crate::common::TokenKey;

/// Maximum number of tiny_http's threads: one that accepts the connection, and a pool of four. The pool starts a fifth thread if
/// none of the four is ready when the connection is accepted.
const THREADS: usize = 6;
/// Pause before this process exits for lack of threads. The supervisor starts the next server at once, so without the pause
/// servers would start and exit in quick succession.
const THREADS_BACK_OFF: Duration = Duration::from_secs(1);

pub struct TinyHttpAdapter {
    /// This field is never dropped: the destructor of `tiny_http::Server` expects that the listener's address is a path, and
    /// panics at an abstract name.
    server: ManuallyDrop<tiny_http::Server>,
    stream: UnixStream,
}

impl TinyHttpAdapter {
    pub fn start() -> io::Result<Self> {
        try_threads().map_err(|error| {
            std::thread::sleep(THREADS_BACK_OFF);
            io::Error::other(format!(
                "{THREADS} threads cannot be started: {error}; raise the cgroup's pids.max (--pids-limit, TasksMax) or RLIMIT_NPROC \
                 (ulimit -u)"
            ))
        })?;
        let (listener, stream) = connected_listener()?;
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        // Wait until tiny_http's accept thread has accepted the one connection. The listener is shut down, so the thread then
        // fails at its next accept, and `recv` returns that error.
        match server.recv() {
            Err(_) => Ok(TinyHttpAdapter { server: ManuallyDrop::new(server), stream }),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Sends heads to tiny_http, which parses them. All heads go in one write, because each write wakes tiny_http's thread. After
    /// an error the adapter is unusable.
    pub fn send<'a>(&mut self, heads: impl Iterator<Item = &'a str>) -> io::Result<()> {
        self.stream.write_all(heads.collect::<String>().as_bytes())?;
        // Wait until tiny_http's thread has read nearly all heads: the send buffer is so small that the socket becomes writable
        // only then. If this thread waited in `receive` instead, every parsed head would wake it while tiny_http's thread still
        // holds the lock that `receive` needs. An error is ignored, because the wait is only an optimization.
        _ = poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], None);
        Ok(())
    }

    /// Receives the next request that tiny_http has parsed. Fails if the request line differs from that of `head`: the request is
    /// then another client's, and its response would go to the wrong client. After an error the adapter is unusable. If the call
    /// hangs, the server misses heartbeats, and the supervisor replaces it.
    pub fn receive(&mut self, head: &str) -> io::Result<tiny_http::Request> {
        let request = self.server.recv()?;
        let request_line = [request.method().as_str(), " ", request.url(), " HTTP/1.1\r\n"];
        let headers = request_line.into_iter().try_fold(head, |rest, part| rest.strip_prefix(part));
        headers.map(|_| request).ok_or_else(|| io::Error::other("tiny_http parsed another head"))
    }
}

/// Checks that this process can start `THREADS` more threads, by starting and ending that many. Without this check tiny_http
/// could fail to start one, and would panic.
fn try_threads() -> io::Result<()> {
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let closed = gate.lock();
        let wait = || drop(gate.lock());
        let spawn = |_| Builder::new().spawn_scoped(scope, wait);
        let threads: io::Result<Vec<_>> = (0..THREADS).map(spawn).collect();
        drop(closed);
        // Join the threads, because a thread counts against the limit of threads until it has exited. The end of the scope waits
        // only until the threads' closures return.
        threads?.into_iter().for_each(|thread| _ = thread.join());
        Ok(())
    })
}

/// Returns a listening socket with one connection in its accept queue, and that connection's other end. The socket accepts no
/// further connection.
fn connected_listener() -> io::Result<(UnixListener, UnixStream)> {
    let socket = || rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None);
    let (listener, stream) = (socket()?, socket()?);
    // The name is random: sandboxes such as gVisor do not let the kernel choose an abstract name.
    let random = TokenKey::random().map_err(io::Error::other)?.to_hex();
    let name = format!("ec2-role-server-{random}");
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    rustix::net::bind(&listener, &address)?;
    // A backlog of 0 has room for one connection: if another process connects first, the connect below fails.
    rustix::net::listen(&listener, 0)?;
    rustix::io::ioctl_fionbio(&stream, true)?;
    rustix::net::connect(&stream, &address)?;
    rustix::io::ioctl_fionbio(&stream, false)?;
    rustix::net::shutdown(&listener, Shutdown::Both)?;
    // 0 sets the smallest send buffer that the kernel allows. So `poll` in `send` reports the socket as writable only when
    // tiny_http has read nearly all bytes.
    set_socket_send_buffer_size(&stream, 0)?;
    Ok((UnixListener::from(listener), UnixStream::from(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_other_than_the_one_sent_is_an_error() {
        let mut tiny_http = TinyHttpAdapter::start().unwrap();
        let heads = ["GET /a HTTP/1.1\r\n\r\n", "GET /b HTTP/1.1\r\n\r\n"];
        tiny_http.send([heads[0], heads[1], heads[0]].into_iter()).unwrap();
        let is_received = |head| {
            let request = tiny_http.receive(head);
            request.is_ok_and(|request| {
                drop(request.into_writer());
                true
            })
        };
        assert_eq!([heads[0], heads[1], heads[1]].map(is_received), [true, true, false]);
    }
}
