//! tiny_http, on one connection that leads from this process to itself.
//!
//! It reads every request, but never from a client: by itself it survives no hostile one. What it is given is whole, small and
//! well formed (see [`super::head`]), one at a time.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

/// tiny_http, and the connection to it.
pub struct TinyHttpAdapter {
    /// Its destructor would connect to its address once more, and there is nothing at it.
    server: ManuallyDrop<tiny_http::Server>,
    stream: UnixStream,
}

impl TinyHttpAdapter {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let (listener, stream) = connection()?;
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        // Its thread that accepts takes the one connection, fails to take another, says so, and ends.
        match server.recv() {
            Err(_) => Ok(TinyHttpAdapter {
                server: ManuallyDrop::new(server),
                stream,
            }),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Has it read one head, which takes microseconds; if it never ends the supervisor notices. An error is for good.
    pub fn read(&mut self, head: &str) -> io::Result<tiny_http::Request> {
        self.stream.write_all(head.as_bytes())?;
        self.server.recv()
    }
}

/// A listening socket on which one connection waits, and can ever: its other end is here.
fn connection() -> io::Result<(UnixListener, UnixStream)> {
    let socket = || {
        rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
    };
    let (listener, stream) = (socket()?, socket()?);
    // The kernel gives it a name in no directory.
    rustix::net::bind(&listener, &SocketAddrUnix::new_unnamed())?;
    // A backlog of 0 has room for one: if somebody else were there first, connecting would fail here.
    rustix::net::listen(&listener, 0)?;
    rustix::io::ioctl_fionbio(&stream, true)?;
    rustix::net::connect(&stream, &rustix::net::getsockname(&listener)?)?;
    rustix::io::ioctl_fionbio(&stream, false)?;
    rustix::net::shutdown(&listener, Shutdown::Both)?;
    Ok((UnixListener::from(listener), UnixStream::from(stream)))
}
