//! A TCP port on which a test's server listens. The test can change how connections to it are treated: see [`PortState`].

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::loopback::Connection;

/// Backlog of a listener that accepts connections. The value is the one that std uses.
const BACKLOG: i32 = 128;

#[derive(Clone, Debug)]
pub enum PortState {
    /// Every connection is served.
    Open,
    /// Every connection is served by TLS with this certificate.
    Tls(Arc<ServerConfig>),
    /// Every connection is accepted, and nothing is sent.
    Silent,
    /// Connections are neither accepted nor refused, because the accept queue is full.
    Full,
    /// Connections are refused.
    Shut,
}

pub type Serve = dyn Fn(Connection) + Send + Sync;

pub struct Port {
    pub address: SocketAddr,
    /// Reserves the port while there is no listener. This socket itself never listens.
    _bound: OwnedFd,
    serve: Arc<Serve>,
    /// The current listener, which stops when it is dropped.
    listening: Mutex<Option<Box<dyn Send>>>,
    is_open: AtomicBool,
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
            is_open: AtomicBool::default(),
        };
        port.set_port_state(PortState::Open);
        port
    }

    pub fn set_port_state(&self, state: PortState) {
        let mut listening = self.listening.lock().unwrap();
        let is_open = matches!(state, PortState::Open);
        // Keep a listener that is open already: replacing it would reset the connections in its accept queue.
        if self.is_open.swap(is_open, Ordering::Relaxed) && is_open {
            return;
        }
        *listening = None;
        *listening = match state {
            PortState::Open => {
                let serve = Arc::clone(&self.serve);
                self.accept(move |stream| serve(Connection(Box::new(stream))))
            }
            PortState::Tls(certificate) => {
                let serve = Arc::clone(&self.serve);
                self.accept(move |stream| {
                    let tls = ServerConnection::new(Arc::clone(&certificate)).unwrap();
                    serve(Connection(Box::new(StreamOwned::new(tls, stream))));
                })
            }
            PortState::Silent => self.accept(|stream| Connection(Box::new(stream)).hang()),
            PortState::Full => Some(Box::new(self.full())),
            PortState::Shut => None,
        };
    }

    fn listen(&self, backlog: i32) -> Listener {
        let socket = bind(self.address);
        rustix::net::listen(&socket, backlog).unwrap();
        Listener(Arc::new(socket.into()))
    }

    /// A listener that accepts every connection and serves it in a thread of its own.
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
                    // The socket has stopped listening.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => return,
                    Err(_) => {}
                }
            }
        });
        Some(Box::new(listener))
    }

    /// A listener whose accept queue is full, and the connections in it.
    fn full(&self) -> (Listener, Vec<TcpStream>) {
        let listener = self.listen(0);
        let connect = || TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).ok();
        let waiting = std::iter::from_fn(connect).take(10).collect();
        (listener, waiting)
    }
}

/// Dropping a `Listener` stops listening with shutdown(2). Closing the socket would not be enough: a child process has a copy of
/// the socket between fork and exec, and the copy would still listen.
struct Listener(Arc<TcpListener>);

impl Drop for Listener {
    fn drop(&mut self) {
        _ = rustix::net::shutdown(&*self.0, Shutdown::Both);
    }
}

/// An IPv4 TCP socket, created with CLOEXEC: another test may start a process at any moment, and the process must not inherit the
/// socket, because some of these processes are limited to a few descriptors.
pub fn socket() -> OwnedFd {
    let family = AddressFamily::INET;
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

/// A socket that is bound to this address. SO_REUSEPORT allows `_bound` and a listener to have the same address.
fn bind(address: SocketAddr) -> OwnedFd {
    let socket = socket();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &address).unwrap();
    socket
}
