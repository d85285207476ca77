//! Opens the listening socket, which lives as long as the supervisor, and shares its address with a newer ec2-role.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_reuseaddr, set_socket_reuseport, set_tcp_user_timeout, socket_acceptconn,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::common::{Fault, limit, log, permanent, transient};

/// Maximum number of connections that wait for the server. A smaller net.core.somaxconn lowers this number.
const BACKLOG: i32 = 4096;
/// TCP_USER_TIMEOUT: how long the kernel retransmits to a client that has vanished. By default, it does so for some 100 s
/// after the close. Many such connections could get the supervisor OOM-killed, because their memory is charged to its cgroup.
/// A second is enough, because a bridge loses no packets.
const RETRANSMIT_TIMEOUT_MS: u32 = 1000;

/// The address of the second socket that [`bound`] binds to end the sharing of the port. Programs seldom use this loopback
/// address. If a program listens there at the same port, the bind fails and the sharing goes on.
const SELDOM_USED: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

/// A lower port normally needs CAP_NET_BIND_SERVICE, so EACCES at such a port is a permanent fault.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Returns the listening socket and its local address. The socket is stdin if `address` is `None`.
pub fn listen(address: Option<SocketAddr>) -> Result<(TcpListener, SocketAddr), Fault> {
    let listener = match address {
        None => from_stdin()?,
        Some(address) => bound(address).or_else(|error| {
            let text = format!("--listen {address}: {}", remedy(&error));
            // Only these two errors are permanent. The rest are transient: another program may free the port, add the address or
            // raise the limit.
            match Errno::from_io_error(&error) {
                Some(Errno::INVAL) => permanent(text),
                Some(Errno::ACCESS) if address.port() < FIRST_UNPRIVILEGED_PORT => permanent(text),
                _ => transient(text),
            }
        })?,
    };
    let address = listener.local_addr().or_else(not_now)?;
    // Set the option on the listener: accepted connections inherit it, and the kernel accepts some before a server runs. An
    // error is ignored, because some sandboxes do not support the option.
    _ = set_tcp_user_timeout(&listener, RETRANSMIT_TIMEOUT_MS);
    Ok((listener, address))
}

/// Returns a socket that listens at the address. If another ec2-role of this user already listens there and has called [`share`],
/// both listen there.
fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(address)?;
    // Without this option, closed connections of an earlier server would keep the address in use for a minute.
    set_socket_reuseaddr(&socket, true)?;
    let is_shared = bind(&socket, &address).is_err();
    if is_shared {
        _ = set_socket_reuseport(&socket, true);
        bind(&socket, &address)?;
    }
    rustix::net::listen(&socket, BACKLOG)?;
    if is_shared {
        _ = set_socket_reuseport(&socket, false);
        // Turning the option off is not enough: the kernel would still let later sockets share the port. The sharing ends when a
        // socket that lacks the option is bound to the port, even at another address.
        let elsewhere = SocketAddr::from((SELDOM_USED, address.port()));
        _ = socket_for(elsewhere).and_then(|socket| Ok(bind(&socket, &elsewhere)?));
    }
    Ok(socket.into())
}

fn socket_for(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Lets another ec2-role of this user listen at this address too, so that it can replace this one. No program of another user can
/// take the port meanwhile. `0.0.0.0` and `[::]` are not shared: the new ec2-role has to bind a second socket to the port at
/// another address ([`bound`]), and this bind would fail, because this process has the port at every address.
pub fn share(listener: &TcpListener) {
    if listener.local_addr().is_ok_and(|address| address.ip().is_unspecified()) {
        return log::warning("SIGUSR2: every address cannot be shared; listen at one address");
    }
    match set_socket_reuseport(listener, true) {
        Ok(()) => log::event("SIGUSR2: another server of this user may listen here too"),
        Err(error) => log::warning(&format!("SIGUSR2: {}", limit::name(&error.into()))),
    }
}

fn from_stdin() -> Result<TcpListener, Fault> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let listener = TcpListener::from(stdin.or_else(not_now)?);
    // `local_addr` fails for a Unix socket, which can listen too but has no IP address.
    if socket_acceptconn(&listener) != Ok(true) || listener.local_addr().is_err() {
        return permanent(
            "--listen -: stdin is not a listening TCP socket; start ec2-role from a socket unit with StandardInput=socket",
        );
    }
    // If this fails, the socket keeps its earlier backlog.
    _ = rustix::net::listen(&listener, BACKLOG);
    Ok(listener)
}

fn not_now<T>(error: io::Error) -> Result<T, Fault> {
    transient(format!("--listen: {}", limit::name(&error)))
}

fn remedy(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        // ENODEV: no interface has the index that follows the `%` of a link-local address.
        Some(Errno::ADDRNOTAVAIL | Errno::NODEV) => {
            "this machine does not have the address yet (`ip address` lists those it has)"
                .to_owned()
        }
        Some(Errno::ADDRINUSE) => {
            "the address is in use; stop what listens there, or choose another port".to_owned()
        }
        Some(Errno::ACCESS) => {
            "not permitted; choose a port that net.ipv4.ip_unprivileged_port_start and SELinux allow, or let a socket unit listen".to_owned()
        }
        Some(Errno::AFNOSUPPORT) => "this machine has no IPv6; choose an IPv4 address".to_owned(),
        Some(Errno::INVAL) => "a link-local address needs the index of its interface (`ip link` lists them); write it as in [fe80::1%2]:4567".to_owned(),
        _ => limit::name(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests the text only: to cause a real refusal, the test would have to change a setting of the whole network namespace.
    #[test]
    fn refused_port_is_reported_with_the_settings_that_refuse_it() {
        let text = remedy(&Errno::ACCESS.into());
        assert!(text.contains("net.ipv4.ip_unprivileged_port_start and SELinux"), "{text}");
    }
}
