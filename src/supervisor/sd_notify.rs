//! Sends readiness, status and watchdog pings to systemd; without systemd, nothing is sent. Protocol: sd_notify(3).
//! `credential_refresh` writes the text of the status, which `systemctl status` shows.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::common::{BootTime, Environment, log::printable};

/// Minimum interval of watchdog pings; a shorter interval would keep the poll loop busy.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum size of the status. systemd ignores a message of more than 4,096 bytes (PIPE_BUF), so this leaves room for the other
/// variables.
const MAX_STATUS_BYTES: usize = 4000;

pub struct SdNotify {
    address: Option<SocketAddr>,
    /// The interval of watchdog pings; `None` if systemd does not watch this process.
    interval: Option<Duration>,
    next_ping: BootTime,
    /// The newest value of each variable that could not be sent yet, because systemd does not listen or its queue is full.
    unsent: BTreeMap<&'static str, String>,
}

impl SdNotify {
    pub fn new(environment: &Environment, own_pid: u32, now: BootTime) -> Self {
        let address = environment.get("NOTIFY_SOCKET").and_then(parse);
        let is_for_us =
            environment.get("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own_pid));
        let limit = environment.get("WATCHDOG_USEC").and_then(|limit| limit.parse().ok());
        let limit = limit.filter(|limit| is_for_us && *limit > 0).map(Duration::from_micros);
        // Ping at half of the limit, as sd_watchdog_enabled(3) recommends.
        let interval = limit.map(|limit| (limit / 2).max(MIN_INTERVAL));
        SdNotify { address, interval, next_ping: now, unsent: BTreeMap::new() }
    }

    /// Reports that a credential is served.
    pub fn ready(&mut self, status: &str) {
        self.unsent.insert("READY", "1".to_owned());
        self.status(status);
    }

    pub fn status(&mut self, status: &str) {
        // A line break in the status would begin another variable.
        let mut status = printable(status);
        status.truncate(status.floor_char_boundary(MAX_STATUS_BYTES));
        self.unsent.insert("STATUS", status);
        self.send();
    }

    pub fn stopping(&mut self) {
        self.unsent.insert("STOPPING", "1".to_owned());
        self.send();
    }

    /// When the next watchdog ping is due; `None` if systemd does not watch this process.
    pub fn next_ping(&self) -> Option<BootTime> {
        self.interval.map(|_| self.next_ping)
    }

    /// Adds a watchdog ping if one is due, and sends all unsent variables.
    pub fn ping(&mut self, now: BootTime) {
        if let Some(interval) = self.interval.filter(|_| now >= self.next_ping) {
            self.next_ping = now.after(interval);
            self.unsent.insert("WATCHDOG", "1".to_owned());
        }
        self.send();
    }

    /// Sends all unsent variables. After an error, the next turn of the poll loop tries again, at most a second later.
    fn send(&mut self) {
        let Some(address) = self.address.as_ref().filter(|_| !self.unsent.is_empty()) else {
            return;
        };
        let lines: Vec<String> =
            self.unsent.iter().map(|(variable, value)| format!("{variable}={value}")).collect();
        // Use a new socket, as sd_notify(3) does: messages are rare, so no socket is kept.
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(lines.join("\n").as_bytes(), address)
        });
        if sent.is_ok() {
            self.unsent.clear();
        }
    }
}

/// Parses the address of systemd's socket: a path, or `@` and a name in the abstract namespace. The third form of sd_notify(3),
/// vsock, is not supported, because systemd gives it to no service.
fn parse(address: &str) -> Option<SocketAddr> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(address),
    };
    address.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 8192];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn listening_at(address: &SocketAddr) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[test]
    fn socket_is_a_path_or_an_abstract_name() {
        let name = format!("ec2-role-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        for (variable, address) in [
            (path.to_str().unwrap().to_owned(), SocketAddr::from_pathname(&path)),
            (format!("@{name}"), SocketAddr::from_abstract_name(&name)),
        ] {
            let systemd = listening_at(&address.unwrap());
            let environment = Environment::from([("NOTIFY_SOCKET", variable.as_str())]);
            let mut notify = SdNotify::new(&environment, 7, BootTime(0));
            assert_eq!(notify.next_ping(), None);
            notify.ready("role\nSTOPPING=1\u{202e}\u{9b}");
            notify.stopping();
            let status = "role\\x0aSTOPPING=1\\xe2\\x80\\xae\\xc2\\x9b";
            assert_eq!(received(&systemd), format!("READY=1\nSTATUS={status}"));
            assert_eq!(received(&systemd), "STOPPING=1");
            notify.ready(&"é".repeat(4096));
            assert!(received(&systemd).len() < 4096 - "WATCHDOG=1\n".len());
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn watchdog_is_pinged_at_half_its_limit() {
        let name = format!("ec2-role-watchdog-{}", std::process::id());
        let systemd = listening_at(&SocketAddr::from_abstract_name(&name).unwrap());
        let socket = format!("@{name}");
        let environment = Environment::from([
            ("NOTIFY_SOCKET", socket.as_str()),
            ("WATCHDOG_USEC", "10000000"),
            ("WATCHDOG_PID", "7"),
        ]);
        assert_eq!(SdNotify::new(&environment, 8, BootTime(0)).next_ping(), None);
        let shortest = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "1")];
        let mut notify = SdNotify::new(&Environment::from(shortest), 7, BootTime(0));
        notify.ping(BootTime(0));
        assert_eq!(received(&systemd), "WATCHDOG=1");
        assert_eq!(notify.next_ping(), Some(BootTime(10)));
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
    fn without_systemd_only_the_newest_values_are_kept() {
        for address in ["", "vsock:2:1234", "/nowhere/at/all", "@nobody-listens-here"] {
            let environment = Environment::from([("NOTIFY_SOCKET", address)]);
            let mut notify = SdNotify::new(&environment, 7, BootTime(0));
            for status in ["older", "newest"] {
                notify.ready(status);
            }
            let kept = [("READY", "1".to_owned()), ("STATUS", "newest".to_owned())];
            assert_eq!(notify.unsent, BTreeMap::from(kept), "{address}");
        }
    }

    #[test]
    fn messages_wait_until_systemd_listens_again() {
        let name = format!("ec2-role-late-{}", std::process::id());
        let (address, socket) = (SocketAddr::from_abstract_name(&name), format!("@{name}"));
        let environment = Environment::from([("NOTIFY_SOCKET", socket.as_str())]);
        let mut notify = SdNotify::new(&environment, 7, BootTime(0));
        for status in ["at the start", "after a restart of systemd"] {
            notify.ready(status);
            let systemd = listening_at(address.as_ref().unwrap());
            notify.ping(BootTime(0));
            assert_eq!(received(&systemd), format!("READY=1\nSTATUS={status}"));
        }
    }

    #[test]
    fn messages_wait_for_room_in_a_full_queue() {
        let name = format!("ec2-role-full-{}", std::process::id());
        let systemd = listening_at(&SocketAddr::from_abstract_name(&name).unwrap());
        let socket = format!("@{name}");
        let environment =
            Environment::from([("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "10000000")]);
        let mut notify = SdNotify::new(&environment, 7, BootTime(0));
        let mut others = 0;
        while notify.unsent.is_empty() {
            notify.status("other");
            others += 1;
        }
        notify.ready("role");
        notify.ping(BootTime(0));
        for _ in 1..others {
            assert_eq!(received(&systemd), "STATUS=other");
        }
        notify.ping(BootTime(1));
        assert_eq!(received(&systemd), "READY=1\nSTATUS=role\nWATCHDOG=1");
        notify.ping(BootTime(2));
        assert!(systemd.recv(&mut [0; 1]).is_err());
    }
}
