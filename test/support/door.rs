//! A port of one's own, and how it is with those who connect to it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::loopback::Connection;

/// As std's own.
const BACKLOG: i32 = 128;

#[derive(Clone, Debug)]
pub enum Door {
    /// All are served …
    Open,
    /// … by TLS, and shown a certificate.
    Tls(Arc<ServerConfig>),
    /// All are let in, and not a word is said.
    Silent,
    /// Nobody is let in, nor told so: as many wait as may.
    Stuck,
    /// Nobody is there.
    Shut,
}

pub type Serve = dyn Fn(Connection) + Send + Sync;

pub struct Port {
    pub address: SocketAddr,
    /// Never listens: nobody else gets the port while nobody does.
    _bound: OwnedFd,
    serve: Arc<Serve>,
    /// What does, until it is dropped.
    listening: Mutex<Option<Box<dyn Send>>>,
}

impl Port {
    pub fn open(address: SocketAddr, serve: Arc<Serve>) -> Self {
        let bound = bind(address);
        let address = rustix::net::getsockname(&bound).unwrap().try_into();
        let port = Port {
            address: address.unwrap(),
            _bound: bound,
            serve,
            listening: Mutex::default(),
        };
        port.door_now(Door::Open);
        port
    }

    pub fn door_now(&self, door: Door) {
        let mut listening = self.listening.lock().unwrap();
        *listening = None;
        *listening = match door {
            Door::Open => {
                let serve = Arc::clone(&self.serve);
                self.accept(move |stream| serve(Connection(Box::new(stream))))
            }
            Door::Tls(certificate) => {
                let serve = Arc::clone(&self.serve);
                self.accept(move |stream| {
                    let tls = ServerConnection::new(Arc::clone(&certificate)).unwrap();
                    serve(Connection(Box::new(StreamOwned::new(tls, stream))));
                })
            }
            Door::Silent => self.accept(|stream| Connection(Box::new(stream)).hang()),
            Door::Stuck => Some(Box::new(self.full())),
            Door::Shut => None,
        };
    }

    fn listen(&self, backlog: i32) -> Listener {
        let socket = bind(self.address);
        rustix::net::listen(&socket, backlog).unwrap();
        Listener(Arc::new(socket.into()))
    }

    /// A listener that lets everybody in, each to a thread of its own.
    fn accept(&self, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Option<Box<dyn Send>> {
        let listener = self.listen(BACKLOG);
        let (socket, serve) = (Arc::clone(&listener.0), Arc::new(serve));
        std::thread::spawn(move || {
            loop {
                match socket.accept() {
                    Ok((stream, _)) => {
                        let serve = Arc::clone(&serve);
                        std::thread::spawn(move || serve(stream));
                    }
                    // It does not listen any more.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => return,
                    Err(_) => {}
                }
            }
        });
        Some(Box::new(listener))
    }

    /// A listener whose backlog is full, and who waits in it.
    fn full(&self) -> (Listener, Vec<TcpStream>) {
        let listener = self.listen(0);
        let connect = || TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).ok();
        let waiting = std::iter::from_fn(connect).take(10).collect();
        (listener, waiting)
    }
}

/// Listens until it is dropped, whoever else has the socket: a child has all of them between its fork and its exec.
struct Listener(Arc<TcpListener>);

impl Drop for Listener {
    fn drop(&mut self) {
        _ = rustix::net::shutdown(&*self.0, Shutdown::Both);
    }
}

/// A socket on this address, which only those of the same user that ask for it so may share.
fn bind(address: SocketAddr) -> OwnedFd {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    socket
}
