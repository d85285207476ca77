//! tiny_http, on one connection that leads from this process to itself.
//!
//! It reads every request, but never from a client: by itself it survives no hostile one. What it is given is whole, small and
//! well formed (see [`super::head`]), one at a time.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::SocketAddrUnix;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};

/// tiny_http, and the connection to it.
pub struct Reader {
    /// Its destructor would connect to its address once more, and there is nothing at it.
    server: ManuallyDrop<tiny_http::Server>,
    stream: UnixStream,
}

impl Reader {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let (listener, stream) = connection()?;
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        // Its thread that accepts takes the one connection, fails to take another, says so, and ends.
        match server.recv() {
            Err(_) => Ok(Reader {
                server: ManuallyDrop::new(server),
                stream,
            }),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Has it read one head, which takes microseconds; if it never ends the keeper notices. An error is for good.
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
    // A backlog of 0 has room for one; were it another's, this end would not connect.
    rustix::net::listen(&listener, 0)?;
    rustix::io::ioctl_fionbio(&stream, true)?;
    rustix::net::connect(&stream, &rustix::net::getsockname(&listener)?)?;
    rustix::io::ioctl_fionbio(&stream, false)?;
    rustix::net::shutdown(&listener, Shutdown::Both)?;
    Ok((UnixListener::from(listener), UnixStream::from(stream)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::server::head::{Asked, LEFT_OUT};

    /// What means something to one of the two that read it.
    #[rustfmt::skip]
    const PIECES: [&str; 35] = [
        "GET", "PUT", "PROPFIND", "x", " ", "/", "/latest", "*", "é", "\u{1b}", "\0", "\"", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "\r\n", "\n",
        "\r", ":", ": ", "\t", "Host", "Connection", "close", "upgrade", "Content-Length", "0", "5", "1025", "Transfer-Encoding", "chunked",
        "Expect", "100-continue", "Upgrade", "\u{7f}",
    ];

    fn pieces(most: usize) -> impl Strategy<Value = String> {
        vec(select(&PIECES[..]), 0..most).prop_map(|pieces| pieces.concat())
    }

    /// Half of them with a first line as it should be, and headers that are nearly.
    fn any_request() -> impl Strategy<Value = String> {
        let headers = vec((select(&PIECES[..]), pieces(4)), 0..5);
        prop_oneof![
            pieces(16).prop_map(|text| text + "\r\n\r\n"),
            headers.prop_map(|headers| {
                let lines = headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\r\n"));
                format!("GET / HTTP/1.1\r\n{}\r\n", lines.collect::<String>())
            }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_passes_the_gate_tiny_http_takes_as_it_is_and_one_after_the_other(
            requests in vec(any_request(), 1..20),
        ) {
            let mut reader = Reader::start().unwrap();
            for request in requests {
                let Some(Asked { head: Ok(head), .. }) = Asked::read(request.as_bytes()) else {
                    continue;
                };
                let read = reader.read(&head).unwrap();
                let mut again = format!("{} {} HTTP/1.1\r\n", read.method(), read.url());
                for header in read.headers() {
                    prop_assert!(!LEFT_OUT.iter().any(|name| header.field.equiv(name)), "{head:?}");
                    again.push_str(&format!("{header}\r\n"));
                }
                again.push_str("\r\n");
                prop_assert_eq!(again, head);
                drop(read.into_writer());
            }
        }
    }
}
