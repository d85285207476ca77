//! The attacks, each until it is told to end. One thread for each, which waits for no answer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client;
use crate::support::http::{TOKEN_PATH, TTL, request_with, reset};

const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Where the backlog is full the attack goes on elsewhere.
const TIMEOUTS: Duration = Duration::from_millis(500);
/// Between two turns of an attack that writes as fast as it is read.
const TURN: Duration = Duration::from_millis(2);

pub type Attack = fn(&Target);

pub struct Target {
    pub address: SocketAddr,
    pub ended: AtomicBool,
}

impl Target {
    fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = client::connect(FROM, self.address, TIMEOUTS).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    }

    /// Connects and sends, as far as it is taken.
    fn send(&self, bytes: &[u8]) -> Option<TcpStream> {
        let mut stream = self.connect()?;
        _ = stream.write(bytes);
        Some(stream)
    }

    /// Acts so many times a second.
    fn pace(&self, per_second: u32, mut act: impl FnMut(usize)) {
        let mut due = Instant::now();
        for number in 0.. {
            if !self.is_alive() {
                return;
            }
            act(number);
            // What is late is not made up for.
            due = (due + Duration::from_secs(1) / per_second).max(Instant::now() - TIMEOUTS);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// Opens so many connections a second with these bytes, and holds so many.
    fn hold(&self, per_second: u32, most: usize, bytes: impl Fn(usize) -> Vec<u8>) {
        let mut held = VecDeque::new();
        self.pace(per_second, |number| {
            held.extend(self.send(&bytes(number)));
            if held.len() > most {
                held.pop_front();
            }
        });
    }

    /// On so many connections, sends a beginning and then for ever the same, reading nothing; a new one for each that is cut.
    fn stream(&self, connections: usize, begin: &str, then: &[u8], most: usize) {
        let mut streams: Vec<(TcpStream, usize)> = Vec::new();
        while self.is_alive() {
            streams.retain_mut(
                |(stream, sent)| match stream.write(&then[*sent % then.len()..]) {
                    Ok(length) => {
                        *sent += length;
                        *sent < most
                    }
                    Err(error) => error.kind() == ErrorKind::WouldBlock,
                },
            );
            if streams.len() < connections {
                streams.extend(self.send(begin.as_bytes()).map(|stream| (stream, 0)));
            }
            std::thread::sleep(TURN);
        }
    }
}

fn with_length(length: &str) -> Vec<u8> {
    request_with(&format!("Content-Length: {length}\r\n")).into_bytes()
}

pub const ALL: &[(&str, Attack)] = &[
    ("bodies of 1 to 1,024 bytes withheld", |target| {
        target.hold(100, 1_000, |number| {
            with_length(&(1 + number % 1_024).to_string())
        });
    }),
    ("larger bodies withheld", |target| {
        let lengths = [
            "1025",
            "5000",
            "1000000000000",
            "18446744073709551615",
            "18446744073709551616",
            "-1",
        ];
        target.hold(100, 1_000, |number| {
            with_length(lengths[number % lengths.len()])
        });
    }),
    ("chunks without end", |target| {
        target.stream(
            100,
            &request_with("Transfer-Encoding: chunked\r\n"),
            b"5\r\nhello\r\n",
            usize::MAX,
        );
    }),
    ("Expect", |target| {
        target.hold(100, 1_000, |number| {
            let expected = ["100-continue", "something"][number % 2];
            request_with(&format!("Expect: {expected}\r\nContent-Length: 5\r\n")).into_bytes()
        });
    }),
    ("pipelining without reading", |target| {
        let requests = request_with("").repeat(100);
        target.stream(20, "", requests.as_bytes(), usize::MAX);
    }),
    ("128 MiB in one header line", |target| {
        target.stream(2, "GET / HTTP/1.1\r\nX: ", &[b'x'; 256 << 10], 128 << 20);
    }),
    ("a million header lines", |target| {
        let lines = b"X: y\r\n".repeat(20_000);
        target.stream(2, "GET / HTTP/1.1\r\n", &lines, 50 * lines.len());
    }),
    ("2,000 idle connections", |target| {
        target.hold(800, 2_000, |_| Vec::new())
    }),
    ("1,000 connections, a byte a second each", |target| {
        let request = request_with(&format!("X: {}\r\n", "x".repeat(500)));
        let mut dripping: Vec<(TcpStream, usize)> = Vec::new();
        // Each of the thousand has its turn once a second.
        target.pace(1_000, |number| {
            let place = number % 1_000;
            if place >= dripping.len() {
                dripping.extend(target.connect().map(|stream| (stream, 0)));
                return;
            }
            let (stream, sent) = &mut dripping[place];
            let byte = &request.as_bytes()[*sent % request.len()..][..1];
            *sent += 1;
            let is_cut = stream.write(byte).is_err() || matches!(stream.read(&mut [0]), Ok(0));
            if is_cut && let Some(stream) = target.connect() {
                dripping[place] = (stream, 0);
            }
        });
    }),
    ("connect and reset", |target| {
        target.pace(3_000, |_| target.connect().into_iter().for_each(reset));
    }),
    ("a request and reset", |target| {
        target.pace(3_000, |_| {
            target
                .send(request_with("").as_bytes())
                .into_iter()
                .for_each(reset)
        });
    }),
    ("HTTP/2 prefaces", |target| {
        target.hold(100, 1_000, |_| b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
    }),
    ("upgrades", |target| {
        target.hold(100, 1_000, |number| {
            let to = ["websocket", "h2c", "TLS/1.2"][number % 3];
            request_with(&format!(
                "Connection: upgrade\r\nUpgrade: {to}\r\nSec-WebSocket-Key: x\r\n"
            ))
            .into_bytes()
        });
    }),
    ("a flood of token PUTs", |target| {
        target.hold(3_000, 50, |_| {
            format!("PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{TTL}: 21600\r\n\r\n")
                .into_bytes()
        });
    }),
    ("garbage bytes", |target| {
        target.hold(200, 200, |number| match number % 6 {
            0 => (0..=255).cycle().take(4_096).collect(),
            1 => "GET /é HTTP/1.1\r\n\r\n".into(),
            2 => b"GET / HTTP/1.1\n\n".to_vec(),
            3 => b"\r\n\r\n\r\n\r\n".to_vec(),
            4 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            _ => b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        });
    }),
    ("control bytes and quotes for the log", |target| {
        let long = "\"\u{1b}[2J".repeat(1_000);
        target.hold(200, 200, |number| match number % 3 {
            0 => b"GET /\x1b[2J\"x\"\\y\tz HTTP/1.1\r\n\r\n".to_vec(),
            1 => b"GET /a\rb\x7fc HTTP/1.1\r\n\r\n".to_vec(),
            _ => format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes(),
        });
    }),
    ("requests cut at every length", |target| {
        let request = request_with("X-aws-ec2-metadata-token: x\r\n");
        target.hold(200, 500, |number| {
            request.as_bytes()[..number % request.len()].to_vec()
        });
    }),
];

/// The one by this name.
pub fn named(name: &str) -> Attack {
    ALL.iter()
        .find(|(other, _)| *other == name)
        .expect("an attack")
        .1
}
