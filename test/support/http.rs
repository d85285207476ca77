//! A client that sends exactly the bytes it is given, on a connection of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Timeout of a connect, and of each read and write: the longest timeout of an SDK.
const TIMEOUT: Duration = Duration::from_secs(5);

pub const TOKEN_PATH: &str = "/latest/api/token";
pub const LIST_PATH: &str = "/latest/meta-data/iam/security-credentials/";
pub const DOCUMENT_PATH: &str = "/latest/meta-data/iam/security-credentials/exc_web";
pub const TOKEN: &str = "X-aws-ec2-metadata-token";
pub const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        value(&self.headers, name)
    }

    /// A field of the document in the body.
    #[track_caller]
    pub fn field(&self, name: &str) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        json[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .to_owned()
    }

    /// Reads a head and the body of the announced length, as every SDK does.
    fn read(stream: &mut impl Read, has_body: bool) -> io::Result<Self> {
        let bytes = Self::read_bytes(stream, has_body)?;
        Self::parse(&bytes).ok_or_else(|| io::Error::from(ErrorKind::InvalidData))
    }

    /// Like `read`, but returns the bytes of the response.
    fn read_bytes(stream: &mut impl Read, has_body: bool) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let cut = |bytes: &[u8]| {
            io::Error::new(
                ErrorKind::UnexpectedEof,
                format!("cut after {:?}", String::from_utf8_lossy(bytes)),
            )
        };
        let mut piece = [0; 4096];
        loop {
            if let Some((head, body)) = halves(&bytes)
                && let Some(answer) = Self::parse(head)
                && (!has_body || answer.header("Content-Length").parse() == Ok(body.len()))
            {
                return Ok(bytes);
            }
            match stream.read(&mut piece) {
                Ok(0) => return Err(cut(&bytes)),
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
                // A signal interrupted the read. The kernel does not restart a read that has a timeout, so read again.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Parses a complete head, and takes what follows as the body. Returns `None` if the head is incomplete or malformed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, body) = halves(bytes)?;
        let head = std::str::from_utf8(head).ok()?.trim_end();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
        let headers = lines.map(|line| {
            line.split_once(": ")
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        });
        Some(Answer {
            status: status.parse().ok()?,
            headers: headers.collect::<Option<_>>()?,
            body: String::from_utf8_lossy(body).into_owned(),
        })
    }
}

/// The value of the header with this name in any letter case, or an empty text.
pub fn value<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let header = headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    header.map_or("", |(_, value)| value)
}

/// Splits an HTTP message into the head, with its final empty line, and the body; `None` if the head is incomplete.
pub fn halves(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const END: &[u8] = b"\r\n\r\n";
    let at = bytes.windows(END.len()).position(|window| window == END)?;
    Some(bytes.split_at(at + END.len()))
}

/// Sends bytes and reads one response; an incomplete one is an error.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> io::Result<Answer> {
    exchange_on(|| connect(address), bytes)
}

/// Like `exchange`, on a connection that the caller makes.
pub fn exchange_on(
    connect: impl FnOnce() -> io::Result<TcpStream>,
    bytes: &[u8],
) -> io::Result<Answer> {
    let mut stream = connect()?;
    stream.write_all(bytes)?;
    Answer::read(&mut stream, !bytes.starts_with(b"HEAD "))
}

/// Sends bytes, reads a response, closes the sending side and reads to the end. Returns all bytes that the server sent; a reset
/// is an error.
pub fn converse(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(address)?;
    stream.write_all(bytes)?;
    let mut response = Answer::read_bytes(&mut stream, !bytes.starts_with(b"HEAD "))?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut response)?;
    Ok(response)
}

/// Opens a connection. Connecting and each read and write time out after [`TIMEOUT`].
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    exchange(address, text(address, method, path, headers).as_bytes())
}

/// The text of a request without a body.
pub fn text(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let headers: String = headers
        .iter()
        .map(|(key, value)| format!("{key}: {value}\r\n"))
        .collect();
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n")
}

/// A request for the document with these header lines, valid or not.
pub fn request_with(lines: &str) -> String {
    format!("GET {DOCUMENT_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n")
}

/// Closes the connection with a reset.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    request(address, "GET", path, &[])
}

/// The three requests of an SDK: session token, list, document.
pub fn fetch(address: SocketAddr) -> io::Result<Answer> {
    fetch_on(|| connect(address), address)
}

/// Like `fetch`, on connections that the caller makes. Stops at the first response that is not 200.
pub fn fetch_on(
    connect: impl Fn() -> io::Result<TcpStream>,
    address: SocketAddr,
) -> io::Result<Answer> {
    let ask = |method, path: &str, header| {
        exchange_on(&connect, text(address, method, path, &[header]).as_bytes())
    };
    let token = ask("PUT", TOKEN_PATH, (TTL, "21600"))?;
    if token.status != 200 {
        return Ok(token);
    }
    let token = (TOKEN, token.body.as_str());
    let name = ask("GET", LIST_PATH, token)?;
    if name.status != 200 {
        return Ok(name);
    }
    ask("GET", &format!("{LIST_PATH}{}", name.body), token)
}

/// Counts the IPv4 TCP sockets of this network namespace with this local port, except those in the states LISTEN and TIME_WAIT.
pub fn connections(port: u16) -> usize {
    let port = format!(":{port:04X} ");
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = table.lines().filter(|line| {
        line.split_once(": ")
            .is_some_and(|(_, rest)| rest[8..].starts_with(&port))
    });
    local
        .filter(|line| !line.contains(" 0A ") && !line.contains(" 06 "))
        .count()
}
