//! An HTTP server on a loopback port: one thread and one request for each connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use super::http;
use super::port::{Port, PortState};

pub struct Loopback {
    pub address: SocketAddr,
    port: Port,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// All bytes that were read: those of the request, and further ones if they arrived in the same read.
    pub bytes: Vec<u8>,
}

impl Request {
    /// The value of a header, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        http::value(&self.headers, name)
    }

    fn read(stream: impl Read) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        // Check the first byte before waiting for a line, because a client that speaks another protocol may never send a newline.
        if !reader.fill_buf().ok()?.first()?.is_ascii_uppercase() {
            return None;
        }
        let mut bytes = Vec::new();
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            bytes.extend_from_slice(line.as_bytes());
            Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
        };
        let first = line()?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        while let Some(header) = line() {
            let (key, value) = header.split_once(':')?;
            headers.push((key.to_owned(), value.trim().to_owned()));
        }
        let mut request = Request {
            method,
            target,
            headers,
            body: String::new(),
            bytes: Vec::new(),
        };
        let length: usize = request.header("Content-Length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        request.bytes = [&bytes, &body[..], reader.buffer()].concat();
        request.body = String::from_utf8(body).ok()?;
        Some(request)
    }
}

/// A client's connection, with or without TLS.
pub trait Stream: Read + Write + Send {}

impl<Any: Read + Write + Send> Stream for Any {}

pub struct Connection(pub Box<dyn Stream>);

impl Connection {
    /// Sends a complete response. An error, as when the client has gone, is ignored.
    pub fn answer(&mut self, status: u16, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        _ = self.0.write_all(&[head.as_bytes(), body].concat());
    }

    /// Sends nothing until the client closes.
    pub fn hang(&mut self) {
        _ = self.0.read_to_end(&mut Vec::new());
    }
}

impl Loopback {
    pub fn start(handler: impl Fn(Request, &mut Connection) + Send + Sync + 'static) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), handler)
    }

    /// Starts the server at this address. If the port is not 0, the test must be in a network namespace of its own, where no
    /// other process uses the port.
    pub fn at(
        address: SocketAddr,
        handler: impl Fn(Request, &mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let serve = move |mut connection: Connection| match Request::read(&mut connection.0) {
            Some(request) => handler(request, &mut connection),
            None => connection.answer(400, "", b""),
        };
        let port = Port::open(address, Arc::new(serve));
        let address = port.address;
        Loopback { address, port }
    }

    pub fn set_port_state(&self, state: PortState) {
        self.port.set_port_state(state);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
