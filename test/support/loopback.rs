//! An HTTP service on a loopback port of its own: a thread for each connection, one request on each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::http;

pub struct Loopback {
    pub address: SocketAddr,
    ended: Arc<AtomicBool>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Every byte of it, and what came with it.
    pub bytes: Vec<u8>,
}

impl Request {
    /// The value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        http::value(&self.headers, name)
    }

    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
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

/// The client's end, to answer on.
pub struct Connection(pub TcpStream);

impl Connection {
    /// A whole answer. The client may be gone, which is its own affair.
    pub fn answer(&mut self, status: u16, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        _ = self.0.write_all(&[head.as_bytes(), body].concat());
    }

    /// Says nothing more until the client goes.
    pub fn hang(&mut self) {
        _ = self.0.read_to_end(&mut Vec::new());
    }
}

impl Loopback {
    pub fn start(handler: impl Fn(Request, &mut Connection) + Send + Sync + 'static) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), handler)
    }

    /// On a port that is taken already.
    pub fn serve(
        listener: TcpListener,
        handler: impl Fn(Request, &mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (handler, has_ended) = (Arc::new(handler), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if has_ended.load(Ordering::Relaxed) {
                    return;
                }
                let handler = Arc::clone(&handler);
                std::thread::spawn(move || {
                    if let Some(request) = Request::read(&stream) {
                        handler(request, &mut Connection(stream));
                    }
                });
            }
        });
        Loopback { address, ended }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It sees the end when it has accepted once more.
        _ = TcpStream::connect(self.address);
    }
}
