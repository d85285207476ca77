//! The listening socket, which lives as long as the supervisor.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use rustix::net::sockopt::{set_tcp_user_timeout, socket_acceptconn};

use crate::common::{Fault, limit, permanent, transient};

/// Maximum number of connections that wait for the server. std asks for fewer; the kernel's somaxconn may lower this number.
const BACKLOG: i32 = 4096;
/// TCP_USER_TIMEOUT: how long the kernel retransmits to a client that has vanished. By default the kernel keeps an answered and
/// closed connection for some 100 s, in memory charged to this cgroup; many of them could get the supervisor OOM-killed.
const RETRANSMIT_TIMEOUT_MS: u32 = 3000;

/// Returns a socket that listens at the address, or stdin if there is no address.
pub fn listen(address: Option<SocketAddr>) -> Result<TcpListener, Fault> {
    let listener = match address {
        None => from_stdin()?,
        Some(address) => TcpListener::bind(address).or_else(|error| {
            let text = format!("--listen {address}: {}", remedy(&error));
            // The other errors are transient: another program may free the port, add the address or raise the limit.
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::InvalidInput => permanent(text),
                _ => transient(text),
            }
        })?,
    };
    // Accepted connections inherit the option from the listener; the kernel may accept them before a server runs. Errors are
    // ignored: some sandboxes do not support the option, and if `listen` fails, the socket keeps its earlier backlog.
    _ = set_tcp_user_timeout(&listener, RETRANSMIT_TIMEOUT_MS);
    _ = rustix::net::listen(&listener, BACKLOG);
    Ok(listener)
}

fn from_stdin() -> Result<TcpListener, Fault> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let listener = TcpListener::from(
        stdin.or_else(|error| transient(format!("--listen -: {}", limit::name(&error))))?,
    );
    // `local_addr` fails for a listening Unix socket, which has no IP address.
    if socket_acceptconn(&listener) == Ok(true) && listener.local_addr().is_ok() {
        return Ok(listener);
    }
    permanent(
        "--listen -: stdin is not a listening TCP socket; start ec2-role from a socket unit with StandardInput=socket",
    )
}

fn remedy(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrNotAvailable => {
            "this machine does not have the address yet (`ip address` lists those it has)"
                .to_owned()
        }
        ErrorKind::AddrInUse => {
            "the address is in use; stop what listens there, or choose another port".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "not permitted; choose a port from 1024, or let a socket unit listen".to_owned()
        }
        ErrorKind::InvalidInput => "a link-local address needs the index of its interface (`ip link` lists them); write it as in [fe80::1%2]:4567".to_owned(),
        _ => limit::name(error),
    }
}
