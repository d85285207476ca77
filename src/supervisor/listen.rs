//! The listening socket, which lives as long as the supervisor.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::common::{Listen, limit, log};

/// Maximum number of connections that wait for the server. std asks for fewer; the kernel's somaxconn may lower this number.
const BACKLOG: i32 = 4096;
/// TCP_USER_TIMEOUT: how long the kernel retransmits to a client that has vanished. By default the kernel keeps an
/// answered and closed connection for some 100 s, in memory charged to this cgroup; many of them could get the supervisor killed.
const RETRANSMIT_TIMEOUT_MS: u32 = 3000;
/// Time between two tries to bind: a bridge's address does not exist until Docker starts.
const PAUSE: Duration = Duration::from_millis(200);

/// Returns the listening socket. `pause` waits between two tries to bind; if `pause` returns false, the result is `None`.
pub fn listen(
    listen: Listen,
    mut pause: impl FnMut(Duration) -> bool,
) -> Result<Option<TcpListener>, String> {
    let listener = match listen {
        Listen::Stdin => from_stdin()?,
        Listen::Address(address) => {
            let mut last = String::new();
            loop {
                let error = match TcpListener::bind(address) {
                    Ok(listener) => break listener,
                    Err(error) => error,
                };
                let cause = match error.kind() {
                    ErrorKind::AddrNotAvailable => {
                        "this machine does not have the address yet (`ip address` lists those it has)".to_owned()
                    }
                    _ if limit::is_limit(&error) => limit::name(&error),
                    _ => return Err(format!("--listen {address}: {}", remedy(&error))),
                };
                log::warning_once(&mut last, &format!("--listen {address}: {cause}; trying again"));
                if !pause(PAUSE) {
                    return Ok(None);
                }
            }
        }
    };
    // Accepted connections inherit this option from the listener; the kernel may accept them before a server runs. An error is
    // ignored, because some sandboxes do not support the option.
    _ = rustix::net::sockopt::set_tcp_user_timeout(&listener, RETRANSMIT_TIMEOUT_MS);
    rustix::net::listen(&listener, BACKLOG).map_err(|error| format!("--listen: {error}"))?;
    Ok(Some(listener))
}

fn from_stdin() -> Result<TcpListener, String> {
    let wrong = "--listen -: stdin is not a listening TCP socket; start ec2-role from a socket unit with StandardInput=socket";
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let listener = TcpListener::from(stdin.map_err(|_| wrong)?);
    let listens = rustix::net::sockopt::socket_acceptconn(&listener).unwrap_or(false);
    // `local_addr` fails for a listening Unix socket, which has no IP address.
    if !listens || listener.local_addr().is_err() {
        return Err(wrong.to_owned());
    }
    Ok(listener)
}

fn remedy(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "the address is in use; stop what listens there, or choose another port".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "not permitted; choose a port from 1024, or let a socket unit listen".to_owned()
        }
        _ => format!("{error}; choose another address"),
    }
}
