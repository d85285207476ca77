//! tiny_http, on a socket pair within this process.
//!
//! tiny_http parses every request but never reads from a client, because it does not withstand a hostile one (body allocation,
//! blocking reads, panics). It is given complete, small and well-formed heads (see [`super::request_head`]), pipelined.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::thread::Builder;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketType};
use rustix::rand::GetRandomFlags;

/// tiny_http's: one accepts, four are its pool, and one of these reads.
const THREADS: usize = 5;
/// Pace of the supervisor's next tries when there is no room for threads.
const THREADS_BACK_OFF: Duration = Duration::from_secs(1);

pub struct TinyHttpAdapter {
    /// Never dropped: its destructor connects to its own address, where nothing listens any more.
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
        // Its accept thread takes the one connection, fails at the next accept, reports that, and ends.
        match server.recv() {
            Err(_) => Ok(TinyHttpAdapter { server: ManuallyDrop::new(server), stream }),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Has tiny_http parse heads. One write for all of them, because each wakes its thread. An error is permanent.
    pub fn send<'a>(&mut self, heads: impl Iterator<Item = &'a str>) -> io::Result<()> {
        self.stream.write_all(heads.collect::<String>().as_bytes())?;
        // Wait until its thread has read them: in `receive` that thread would wake this one for each, while it holds the lock that
        // this one needs. Optional, and needs the small send buffer.
        _ = poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], None);
        Ok(())
    }

    /// The next head of those sent, parsed, which takes microseconds; if this never returns, the supervisor replaces this process
    /// for its missed heartbeats. An error is permanent: with another head than the one sent, a client would get the response
    /// to the request of another.
    pub fn receive(&mut self, head: &str) -> io::Result<tiny_http::Request> {
        let request = self.server.recv()?;
        let request_line = format!("{} {} HTTP/1.1\r\n", request.method(), request.url());
        if !head.starts_with(&request_line) {
            return Err(io::Error::other("tiny_http parsed another head"));
        }
        Ok(request)
    }
}

/// Starts as many threads as tiny_http does, which panics if it cannot.
fn try_threads() -> io::Result<()> {
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let _closed = gate.lock();
        (0..THREADS).try_for_each(|_| {
            let wait = || drop(gate.lock());
            Builder::new().spawn_scoped(scope, wait).map(drop)
        })
    })
}

/// A listening socket with one connection in its accept queue, which accepts no other, and that connection's other end.
fn connected_listener() -> io::Result<(UnixListener, UnixStream)> {
    let socket = || rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None);
    let (listener, stream) = (socket()?, socket()?);
    // An abstract name of our own: sandboxes such as gVisor do not let the kernel choose one.
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
    let name = format!("ec2-role-server-{}", hex::encode(random));
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    rustix::net::bind(&listener, &address)?;
    // A backlog of 0 has room for one connection: if another process took it, the connect below would fail.
    rustix::net::listen(&listener, 0)?;
    rustix::io::ioctl_fionbio(&stream, true)?;
    rustix::net::connect(&stream, &address)?;
    rustix::io::ioctl_fionbio(&stream, false)?;
    rustix::net::shutdown(&listener, Shutdown::Both)?;
    // The kernel's minimum: the socket is writable when about 1 KiB is unread.
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
