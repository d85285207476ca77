//! A connection from this machine to its own listening socket, without waiting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Where this machine itself reaches what listens on an address: what listens on every address does so on loopback.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Begins to connect. `None` if this machine does not have the address now (a bridge that is gone): then nobody else gets
/// through either, and to connect might go out to another machine.
pub fn connect(address: SocketAddr) -> Option<TcpStream> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).ok()?;
    rustix::net::bind(&socket, &SocketAddr::new(address.ip(), 0)).ok()?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Some(TcpStream::from(socket)),
        Err(_) => None,
    }
}
