//! Tells systemd how things stand: sd_notify(3), one datagram for each change. Without systemd nothing is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::common::clock::BootTime;
use crate::common::environment::Environment;

#[derive(Default)]
pub struct SdNotify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

struct Watchdog {
    interval: Duration,
    next_ping: BootTime,
}

impl SdNotify {
    pub fn new(environment: &Environment, own_pid: u32, now: BootTime) -> Self {
        let Some(socket) = environment.get("NOTIFY_SOCKET").and_then(connect) else {
            return SdNotify::default();
        };
        let is_for_us = environment
            .get("WATCHDOG_PID")
            .is_none_or(|pid| pid.parse() == Ok(own_pid));
        let watchdog = environment
            .get("WATCHDOG_USEC")
            .and_then(|limit| limit.parse().ok())
            .filter(|limit| is_for_us && *limit > 0)
            .map(|limit| Watchdog {
                // Half of the limit, as sd_watchdog_enabled(3) recommends.
                interval: Duration::from_micros(limit) / 2,
                next_ping: now,
            });
        SdNotify {
            socket: Some(socket),
            watchdog,
        }
    }

    /// A credential is served.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", one_line(status)));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// When the next ping is due, if pings are wanted.
    pub fn next_ping(&self) -> Option<BootTime> {
        self.watchdog.as_ref().map(|watchdog| watchdog.next_ping)
    }

    /// Pings if it is due.
    pub fn ping(&mut self, now: BootTime) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|it| now >= it.next_ping) {
            watchdog.next_ping = now.after(watchdog.interval);
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // Whether systemd listens changes nothing here.
            _ = socket.send(state.as_bytes());
        }
    }
}

/// A path, or `@` and a name in the abstract namespace. None of what else there is (vsock) is meant for a service.
fn connect(address: &str) -> Option<UnixDatagram> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(address),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    // A full queue must not hold the supervisor up.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn listening_at(address: &SocketAddr) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[test]
    fn systemd_is_told_at_a_path_and_at_an_abstract_name() {
        let name = format!("ec2-role-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        for (variable, address) in [
            (
                path.to_str().unwrap().to_owned(),
                SocketAddr::from_pathname(&path),
            ),
            (format!("@{name}"), SocketAddr::from_abstract_name(&name)),
        ] {
            let systemd = listening_at(&address.unwrap());
            let environment = Environment::from([("NOTIFY_SOCKET", variable.as_str())]);
            let notify = SdNotify::new(&environment, 7, BootTime(0));
            assert_eq!(notify.next_ping(), None);
            notify.ready("role until\nSTOPPING=1");
            notify.stopping();
            assert_eq!(received(&systemd), "READY=1\nSTATUS=role until STOPPING=1");
            assert_eq!(received(&systemd), "STOPPING=1");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_watchdog_is_pinged_at_half_its_limit_by_the_process_it_watches() {
        let name = format!("ec2-role-watchdog-{}", std::process::id());
        let systemd = listening_at(&SocketAddr::from_abstract_name(&name).unwrap());
        let socket = format!("@{name}");
        let environment = Environment::from([
            ("NOTIFY_SOCKET", socket.as_str()),
            ("WATCHDOG_USEC", "10000000"),
            ("WATCHDOG_PID", "7"),
        ]);
        assert_eq!(
            SdNotify::new(&environment, 8, BootTime(0)).next_ping(),
            None
        );
        let mut notify = SdNotify::new(&environment, 7, BootTime(0));
        notify.ping(BootTime(0));
        assert_eq!(received(&systemd), "WATCHDOG=1");
        assert_eq!(notify.next_ping(), Some(BootTime(5000)));
        notify.ping(BootTime(4999));
        assert!(systemd.recv(&mut [0; 1]).is_err());
        notify.ping(BootTime(5000));
        assert_eq!(received(&systemd), "WATCHDOG=1");
    }

    #[test]
    fn without_systemd_nothing_is_told() {
        for address in [
            "",
            "vsock:2:1234",
            "/nowhere/at/all",
            "@nobody-listens-here",
        ] {
            let environment =
                Environment::from([("NOTIFY_SOCKET", address), ("WATCHDOG_USEC", "10000000")]);
            let notify = SdNotify::new(&environment, 7, BootTime(0));
            assert_eq!(notify.next_ping(), None, "{address}");
            notify.ready("nobody hears it");
        }
    }
}
