//! The requests and responses of the protocol.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

pub use http::StatusCode;
use httpdate::HttpDate;
use percent_encoding::percent_decode_str;

/// A request as tiny_http parsed it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The method in the client's letter case.
    pub method: &'a str,
    pub target: &'a str,
    /// Names and values of the relevant headers (`request_head::is_relevant`), in the client's order.
    pub headers: &'a [(&'a str, &'a str)],
    /// Whether the client connected to a loopback address.
    pub is_to_loopback: bool,
}

impl<'a> Request<'a> {
    /// Returns the value of the first header with this name, in any letter case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Returns the path of the target, percent-decoded once. `None` if the target does not begin with a slash, has an escaped
    /// slash, or is not UTF-8.
    pub fn path(&self) -> Option<Cow<'a, str>> {
        let raw = self.target.split_once('?').map_or(self.target, |(path, _query)| path);
        let path = percent_decode_str(raw).decode_utf8().ok()?;
        let slashes = |path: &str| path.bytes().filter(|byte| *byte == b'/').count();
        (raw.starts_with('/') && slashes(raw) == slashes(&path)).then_some(path)
    }
}

/// A response. It borrows the parts that the server's state holds, because a copy costs an allocation per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    pub status: StatusCode,
    pub content_type: &'static str,
    /// The header lines in addition to those that every response has, each with its line end.
    pub headers: Cow<'a, str>,
    /// Bytes, because an item of the host's metadata need not be UTF-8.
    pub body: Cow<'a, [u8]>,
    pub outcome: Option<Outcome>,
}

/// How the metrics count a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A request by IMDSv1 (without a session token) that was not refused. The response may be a 404 or a 500.
    VersionOne,
    Refused(Refusal),
}

/// The reason to refuse a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The Host header names a host that is not allowed.
    Host,
    /// A web page in a browser sent the request.
    Script,
    /// The client is outside the subnet of the address it connected to.
    Network,
    /// The request has an X-Forwarded-For header: a proxy forwarded it.
    Forwarded,
    /// The request lacks a required session token or container token.
    NoToken,
    /// The session token or container token is invalid or expired.
    BadToken,
    /// The requested lifetime of a session token is missing or out of range.
    BadTtl,
    Method,
    /// The body is too large, or its Transfer-Encoding is not accepted (`request_head::has_body`).
    Body,
    Malformed,
}

impl Refusal {
    /// All refusals, each with its `reason` label in metrics. They must be in the order of declaration, because `Metrics` uses
    /// `refusal as usize` as the index of a refusal's counter.
    pub const ALL: [(Refusal, &'static str); 10] = [
        (Refusal::Host, "host"),
        (Refusal::Script, "script"),
        (Refusal::Network, "network"),
        (Refusal::Forwarded, "forwarded"),
        (Refusal::NoToken, "no_token"),
        (Refusal::BadToken, "bad_token"),
        (Refusal::BadTtl, "bad_ttl"),
        (Refusal::Method, "method"),
        (Refusal::Body, "body"),
        (Refusal::Malformed, "malformed"),
    ];
}

/// Returns the reason phrase in EC2's wording.
fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => "Not Allowed",
        other => other.canonical_reason().unwrap_or_default(),
    }
}

impl<'a> Response<'a> {
    /// Makes a text/plain response.
    pub fn text(body: impl Into<Cow<'a, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => text.as_bytes().into(),
            Cow::Owned(text) => text.into_bytes().into(),
        };
        Response { body, ..Response::empty(StatusCode::OK) }
    }

    pub fn empty(status: StatusCode) -> Self {
        Response {
            status,
            content_type: "text/plain",
            headers: Cow::default(),
            body: Cow::default(),
            outcome: None,
        }
    }

    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub fn content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    pub fn refused(mut self, refusal: Refusal) -> Self {
        self.outcome = Some(Outcome::Refused(refusal));
        self
    }

    pub fn header(mut self, name: &str, value: impl Display) -> Self {
        self.headers.to_mut().push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Returns the bytes to send, with `Connection: close` as EC2 does. A response to HEAD has the body's length but no body.
    pub fn to_bytes(&self, is_head: bool, now: SystemTime) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(320 + self.body.len());
        let (code, reason, length) = (self.status.as_str(), reason(self.status), self.body.len());
        let Response { content_type, headers, .. } = self;
        let date = HttpDate::from(now);
        // A write to a `Vec` cannot fail.
        _ = write!(
            bytes,
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}\
             Date: {date}\r\nServer: EC2ws\r\nConnection: close\r\n\r\n"
        );
        if !is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_response_has_its_length_and_closes() {
        let bytes =
            Response::text("exc_web").header("Accept-Ranges", "none").to_bytes(false, UNIX_EPOCH);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nAccept-Ranges: none\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: EC2ws\r\nConnection: close\r\n\r\nexc_web"
        );
    }

    #[test]
    fn a_response_to_head_has_a_length_and_no_body() {
        let text = String::from_utf8(Response::text("exc_web").to_bytes(true, UNIX_EPOCH)).unwrap();
        assert!(text.contains("Content-Length: 7\r\n") && text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_header_is_found_in_any_letter_case() {
        let request = Request {
            method: "GET",
            target: "/",
            headers: &[("x-FORWARDED-for", "1.2.3.4")],
            ..Request::default()
        };
        assert_eq!(request.header("X-Forwarded-For"), Some("1.2.3.4"));
        assert_eq!(request.header("Via"), None);
    }
}
