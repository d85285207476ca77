//! Parses a request head from a client's bytes, and normalizes it for tiny_http. Pure: no I/O.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::common::{CHECK_AGENT, TOKEN_HEADER, TTL_HEADER};
use crate::server::protocol::{browser, http::Refusal};

/// Maximum length of a head. SDKs send about 300 bytes, and up to 4 KiB more if they send a container token (`MAX_TOKEN_BYTES`).
pub const MAX_BYTES: usize = 8 * 1024;
/// Maximum number of headers. SDKs send fewer than ten.
const MAX_HEADERS: usize = 64;
/// Maximum Content-Length. No request here needs a body: a small one is ignored, as EC2 does, and a larger one is refused. A
/// chunked body, whose length is not known in advance, is ignored at any length.
const MAX_BODY_BYTES: u64 = 1024;

/// Whether the server uses this header, for the response or for the access log. Other headers are not passed on to tiny_http,
/// which would act on some of them: read a body, end the connection, or send a response.
pub fn is_relevant(name: &str, value: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("Host") {
        // A Host header with an IPv4 address changes no response, because `browser::check` allows it. Dropping it saves time:
        // SDKs send such a header with every request to 169.254.169.254.
        return value.parse::<Ipv4Addr>().is_err() && value.parse::<SocketAddrV4>().is_err();
    }
    if is("User-Agent") {
        return value == CHECK_AGENT;
    }
    let others = ["X-Forwarded-For", "Authorization", TOKEN_HEADER, TTL_HEADER];
    browser::is_mark(name) || others.into_iter().any(is)
}

pub struct RequestHead {
    /// The request line as the client sent it; `None` if `normalized` begins with the same line.
    client_line: Option<String>,
    /// The head for tiny_http, rewritten so that tiny_http always accepts it and expects no body. The error is the reason to
    /// refuse the request.
    pub normalized: Result<String, Refusal>,
    /// Whether the client sends more than the head.
    pub has_more_input: bool,
}

impl RequestHead {
    /// Parses a head; `None` if it is still incomplete.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Partial) if bytes.len() < MAX_BYTES => None,
            Ok(httparse::Status::Complete(length)) => {
                // A head of `MAX_BYTES` fills the read buffer, so the client may have sent more that is still unread.
                let has_more_input = bytes.len() > length || length == MAX_BYTES;
                RequestHead::normalize(&request, &bytes[..length], has_more_input)
                    .or_else(|| Some(RequestHead::malformed(bytes)))
            }
            Ok(httparse::Status::Partial) | Err(_) => Some(RequestHead::malformed(bytes)),
        }
    }

    /// Rewrites a head for tiny_http; `None` if the result has characters beyond ASCII, which tiny_http does not accept. Headers
    /// that are not passed on may have any characters, such as the name of an application in a User-Agent.
    fn normalize(request: &httparse::Request, bytes: &[u8], has_more_input: bool) -> Option<Self> {
        let (method, target, minor) = (request.method?, request.path?, request.version?);
        let mut head = String::with_capacity(bytes.len());
        let mut push = |parts: &[&str]| parts.iter().for_each(|part| head.push_str(part));
        push(&[method, " ", target, " HTTP/1.1\r\n"]);
        for header in request.headers.iter() {
            let value = String::from_utf8_lossy(header.value);
            if is_relevant(header.name, &value) {
                push(&[header.name, ": ", &value, "\r\n"]);
            }
        }
        push(&["\r\n"]);
        let has_body = has_body(request);
        let is_kept = minor == 1 && has_body.is_ok();
        head.is_ascii().then(|| RequestHead {
            client_line: (!is_kept).then(|| format!("{method} {target} HTTP/1.{minor}")),
            has_more_input: has_more_input || has_body != Ok(false),
            normalized: has_body.map(|_| head),
        })
    }

    /// Returns the request line for the access log; `-` if the client's first line does not look like a request line.
    pub fn request_line(&self) -> &str {
        let first = self.normalized.as_ref().ok().and_then(|head| head.lines().next());
        self.client_line.as_deref().or(first).unwrap_or("-")
    }

    fn malformed(bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|byte| matches!(byte, b'\r' | b'\n'));
        let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        // Log only what looks like a request line; anything else could be a header with a token in it.
        let version = first.rsplit_once(' ').map(|(_, version)| version);
        let is_request_line = version.is_some_and(|version| version.starts_with("HTTP/"));
        RequestHead {
            client_line: Some(if is_request_line { &first } else { "-" }.to_owned()),
            normalized: Err(Refusal::Malformed),
            has_more_input: true,
        }
    }
}

/// Whether a body follows the head, or the reason to refuse the request. A body is never parsed as a second request, because the
/// connection closes after one response. `Transfer-Encoding` is accepted only as a single `chunked`, in HTTP/1.1, and without a
/// Content-Length: most other uses leave the end of the body ambiguous.
fn has_body(request: &httparse::Request) -> Result<bool, Refusal> {
    let values = |name: &'static str| {
        let named = move |header: &&httparse::Header| header.name.eq_ignore_ascii_case(name);
        let headers = request.headers.iter().filter(named);
        headers.map(|header| header.value)
    };
    let mut length = None;
    for value in values("Content-Length") {
        length = Some(content_length(value)?).max(length);
    }
    let mut encodings = values("Transfer-Encoding");
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(length.is_some_and(|length| length > 0)),
        // Accept `Transfer-Encoding: chunked`, because s3fs before 1.92 and Java's BodyPublishers send it with an empty body.
        // Refuse it in HTTP/1.0, which does not define this header.
        (Some(encoding), None)
            if encoding.eq_ignore_ascii_case(b"chunked")
                && length.is_none()
                && request.version == Some(1) =>
        {
            Ok(true)
        }
        _ => Err(Refusal::Body),
    }
}

/// Parses a Content-Length, which has digits only (RFC 9110, 8.6).
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Malformed);
    }
    let text = std::str::from_utf8(value).unwrap_or_default();
    let length = text.parse().ok();
    length.filter(|length| *length <= MAX_BODY_BYTES).ok_or(Refusal::Body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RequestHead {
        RequestHead::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn headers_that_change_no_response_are_removed() {
        let head = parse(
            "GET /latest/ HTTP/1.0\r\nHost: x\r\nconnection: close\r\norigin: b \r\nExpect: y\r\nContent-Length: 0\r\nUser-Agent: z\r\nHost: 1.2.3.4\r\nhost: 1.2.3.4:5\r\n\r\n",
        );
        assert_eq!(head.request_line(), "GET /latest/ HTTP/1.0");
        assert_eq!(
            head.normalized.unwrap(),
            "GET /latest/ HTTP/1.1\r\nHost: x\r\norigin: b\r\n\r\n"
        );
        assert!(!head.has_more_input);
    }

    #[test]
    fn an_incomplete_head_is_awaited_up_to_the_maximum() {
        let begin = "GET / HTTP/1.1\r\nX: ";
        for length in 0..begin.len() {
            assert!(RequestHead::parse(&begin.as_bytes()[..length]).is_none());
        }
        let long = format!("{begin}{}", "x".repeat(MAX_BYTES));
        assert!(RequestHead::parse(&long.as_bytes()[..MAX_BYTES - 1]).is_none());
        let head = RequestHead::parse(&long.as_bytes()[..MAX_BYTES]).unwrap();
        assert_eq!(head.normalized, Err(Refusal::Malformed));
    }

    #[test]
    fn a_small_body_is_ignored_and_any_other_refused() {
        let with = |header: &str| parse(&format!("PUT / HTTP/1.1\r\n{header}\r\n\r\n"));
        assert!(with("Content-Length: 1024").normalized.is_ok());
        assert!(
            with("Content-Length: 1").has_more_input && !with("Content-Length: 0").has_more_input
        );
        assert!(with("Content-Length: 1\r\nContent-Length: 0").has_more_input);
        for large in ["1025", "1000000000000", "18446744073709551615", "18446744073709551616"] {
            let head = with(&format!("content-length: {large}"));
            assert_eq!(head.normalized, Err(Refusal::Body), "{large}");
        }
        for no_length in ["-1", "+1", "", "1, 1", "0x1", "abc"] {
            let head = with(&format!("Content-Length: {no_length}"));
            assert_eq!(head.normalized, Err(Refusal::Malformed), "{no_length}");
        }
    }

    #[test]
    fn a_chunked_body_is_ignored_if_nothing_else_says_its_length() {
        for chunked in ["chunked", "Chunked"] {
            let head = parse(&format!("PUT / HTTP/1.1\r\nTransfer-Encoding: {chunked}\r\n\r\n"));
            assert!(head.has_more_input, "{chunked}");
            assert_eq!(head.normalized.unwrap(), "PUT / HTTP/1.1\r\n\r\n");
        }
        for (version, headers) in [
            ("1.1", "Content-Length: 0\r\nTransfer-Encoding: chunked"),
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
            ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
            ("1.1", "Transfer-Encoding: gzip, chunked"),
            ("1.1", "Transfer-Encoding: \"chunked\""),
            ("1.1", "Transfer-Encoding: xchunked"),
            ("1.1", "Transfer-Encoding: identity"),
            ("1.1", "Transfer-Encoding:"),
            ("1.0", "Transfer-Encoding: chunked"),
        ] {
            let head = parse(&format!("PUT / HTTP/{version}\r\n{headers}\r\n\r\n"));
            assert_eq!(head.normalized, Err(Refusal::Body), "{version} {headers}");
        }
        let wrong = parse("PUT / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n");
        assert_eq!(wrong.normalized, Err(Refusal::Malformed));
    }

    #[test]
    fn invalid_request_heads_are_malformed() {
        for wrong in [
            "GET /\u{e9} HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET /\u{1b}[2J HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX y: z\r\n\r\n", "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(parse(wrong).normalized, Err(Refusal::Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn a_header_that_is_not_used_may_have_any_characters() {
        for value in ["caf\u{e9}".as_bytes(), b"caf\xe9"] {
            let head = [b"GET / HTTP/1.1\r\nUser-Agent: ", value, b"\r\n\r\n"].concat();
            let head = RequestHead::parse(&head).unwrap();
            assert_eq!(head.normalized.unwrap(), "GET / HTTP/1.1\r\n\r\n");
        }
    }

    #[test]
    fn a_malformed_head_is_logged_only_as_a_request_line() {
        assert_eq!(parse("GET /\u{1b} HTTP/2.0\r\n\r\n").request_line(), "GET /\u{1b} HTTP/2.0");
        for other in ["X-aws-ec2-metadata-token: x\r\n\r\n", "\0", "AQAE \r\n"] {
            assert_eq!(parse(other).request_line(), "-", "{other:?}");
        }
    }

    #[test]
    fn input_after_the_head_is_noticed() {
        assert!(parse("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n").has_more_input);
    }
}
