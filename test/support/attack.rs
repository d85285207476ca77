//! The catalogue of attacks: the bytes of each, and the behaviour of its connections. `test/hostile` runs each attack once and
//! briefly, `test/load` at its full rate for a given time.

use super::http::{TOKEN_PATH, TTL, request_with};

pub struct Attack {
    pub name: &'static str,
    pub form: Form,
}

pub enum Form {
    /// Opens `per_second` connections each second, sends `bytes(number)` on each, and keeps only the newest `max_open` open.
    Hold {
        per_second: u32,
        max_open: usize,
        bytes: fn(usize) -> Vec<u8>,
    },
    /// Sends `begin` on each connection, then repeats `then` until each has carried about `max_bytes` bytes. Reads nothing.
    Stream {
        connections: usize,
        begin: String,
        then: Vec<u8>,
        max_bytes: usize,
    },
    /// Sends these bytes on each connection, one byte a second, and repeats them until the connection is closed.
    Drip { connections: usize, bytes: Vec<u8> },
    /// Connects, sends these bytes and resets the connection.
    Reset { per_second: u32, bytes: Vec<u8> },
}

fn hold(
    name: &'static str,
    per_second: u32,
    max_open: usize,
    bytes: fn(usize) -> Vec<u8>,
) -> Attack {
    let form = Form::Hold {
        per_second,
        max_open,
        bytes,
    };
    Attack { name, form }
}

fn stream(
    name: &'static str,
    connections: usize,
    begin: &str,
    then: Vec<u8>,
    max_bytes: usize,
) -> Attack {
    let form = Form::Stream {
        connections,
        begin: begin.to_owned(),
        then,
        max_bytes,
    };
    Attack { name, form }
}

fn with(lines: &str) -> Vec<u8> {
    request_with(lines).into_bytes()
}

fn garbage(number: usize) -> Vec<u8> {
    match number % 7 {
        0 => (0..=255).cycle().take(4_096).collect(),
        1 => "GET /é HTTP/1.1\r\n\r\n".into(),
        2 => b"GET / HTTP/1.1\n\n".to_vec(),
        3 => b"\r\n\r\n\r\n\r\n".to_vec(),
        4 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        5 => b"GET http://x/latest/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
        _ => b"GET / HTTP/9.9\r\n\r\n".to_vec(),
    }
}

pub fn all() -> Vec<Attack> {
    let header_lines = b"X: y\r\n".repeat(20_000);
    let most_of_lines = 50 * header_lines.len();
    vec![
        hold(
            "bodies of 1 to 1,024 bytes withheld",
            100,
            1_000,
            |number| {
                let length = [1, 2, 500, 1_023, 1_024][number % 5];
                with(&format!("Content-Length: {length}\r\n"))
            },
        ),
        hold("larger bodies withheld", 100, 1_000, |number| {
            let lengths = [
                "1025",
                "5000",
                "1000000000000",
                "18446744073709551615",
                "18446744073709551616",
                "-1",
            ];
            with(&format!(
                "Content-Length: {}\r\n",
                lengths[number % lengths.len()]
            ))
        }),
        hold("bodies that come", 100, 100, |number| {
            let length = [1_000, 5_000][number % 2];
            let mut request = with(&format!("Content-Length: {length}\r\n"));
            request.resize(request.len() + length, b'x');
            request
        }),
        stream(
            "chunks without end",
            100,
            &request_with("Transfer-Encoding: chunked\r\n"),
            b"5\r\nhello\r\n".to_vec(),
            usize::MAX,
        ),
        hold("Expect", 100, 1_000, |number| {
            let expected = ["100-continue", "something"][number % 2];
            with(&format!("Expect: {expected}\r\nContent-Length: 5\r\n"))
        }),
        stream(
            "pipelining without reading",
            20,
            "",
            with("").repeat(100),
            usize::MAX,
        ),
        stream(
            "128 MiB in one header line",
            2,
            "GET / HTTP/1.1\r\nX: ",
            vec![b'x'; 256 << 10],
            128 << 20,
        ),
        stream(
            "a million header lines",
            2,
            "GET / HTTP/1.1\r\n",
            header_lines,
            most_of_lines,
        ),
        hold("2,000 idle connections", 800, 2_000, |_| Vec::new()),
        Attack {
            name: "1,000 connections, a byte a second each",
            form: Form::Drip {
                connections: 1_000,
                bytes: with(&format!("X: {}\r\n", "x".repeat(500))),
            },
        },
        Attack {
            name: "connect and reset",
            form: Form::Reset {
                per_second: 3_000,
                bytes: Vec::new(),
            },
        },
        Attack {
            name: "a request and reset",
            form: Form::Reset {
                per_second: 3_000,
                bytes: with(""),
            },
        },
        hold("HTTP/2 prefaces", 100, 1_000, |_| {
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
        }),
        hold("upgrades", 100, 1_000, |number| {
            let to = ["websocket", "h2c", "TLS/1.2"][number % 3];
            with(&format!(
                "Connection: upgrade\r\nUpgrade: {to}\r\nSec-WebSocket-Key: x\r\n"
            ))
        }),
        hold("a flood of token PUTs", 3_000, 50, |_| {
            format!("PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{TTL}: 21600\r\n\r\n").into()
        }),
        hold("garbage bytes", 200, 200, garbage),
        hold(
            "control bytes and quotes for the log",
            200,
            200,
            |number| match number % 3 {
                0 => b"GET /\x1b[2J\"x\"\\y\tz HTTP/1.1\r\n\r\n".to_vec(),
                1 => b"GET /a\rb\x7fc HTTP/1.1\r\n\r\n".to_vec(),
                _ => format!("GET /{} HTTP/1.1\r\n\r\n", "\"\u{1b}[2J".repeat(1_000)).into(),
            },
        ),
        hold("requests cut at every length", 200, 500, |number| {
            let request = with("X-aws-ec2-metadata-token: x\r\n");
            request[..number % request.len()].to_vec()
        }),
    ]
}
