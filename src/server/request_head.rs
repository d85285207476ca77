//! The head of a request: as a client sends it, and as tiny_http is given it. Pure.

use crate::server::protocol::http::Refusal;

/// A head is at most this long. SDKs send some 300 bytes; the longest token that any of them may show is below 4 KiB.
pub const MAX_BYTES: usize = 8 * 1024;
/// SDKs send fewer than ten.
const MAX_HEADERS: usize = 64;
/// No request here has a body. One that is so small is passed over, as EC2 does; more is refused.
const MAX_BODY_BYTES: u64 = 1024;

/// What tiny_http would act on by itself: it reads a body, or allocates it; ends the connection; answers.
pub const LEFT_OUT: [&str; 4] = [
    "Connection",
    "Content-Length",
    "Expect",
    "Transfer-Encoding",
];

/// A request whose head has come whole.
pub struct RequestHead {
    /// Its first line, for the log.
    pub line: String,
    /// What tiny_http is given: it takes each of these, and waits for nothing more.
    pub head: Result<String, Refusal>,
    /// Whether the client has sent, or will send, more than the head.
    pub has_more_input: bool,
}

impl RequestHead {
    /// Reads the bytes that have come. `None` if the head does not end in them.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Partial) if bytes.len() < MAX_BYTES => None,
            Ok(httparse::Status::Complete(length)) => {
                // A head that fills the buffer may have more behind it, which is not read yet.
                let has_more = bytes.len() > length || length == MAX_BYTES;
                Some(RequestHead::from_parts(&request, has_more, bytes))
            }
            Ok(httparse::Status::Partial) | Err(_) => Some(RequestHead::malformed(bytes)),
        }
    }

    fn from_parts(request: &httparse::Request, has_more: bool, bytes: &[u8]) -> Self {
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return RequestHead::malformed(bytes);
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        let mut body = Ok(0);
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("Transfer-Encoding") {
                body = Err(Refusal::Body);
            }
            if header.name.eq_ignore_ascii_case("Content-Length") {
                body = body.and_then(|so_far| Ok(length(header.value)?.max(so_far)));
            }
            if LEFT_OUT
                .iter()
                .any(|name| header.name.eq_ignore_ascii_case(name))
            {
                continue;
            }
            let Ok(value) = std::str::from_utf8(header.value) else {
                return RequestHead::malformed(bytes);
            };
            for part in [header.name, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        }
        // tiny_http takes no other.
        if !head.is_ascii() {
            return RequestHead::malformed(bytes);
        }
        head.push_str("\r\n");
        RequestHead {
            line: format!("{method} {target} HTTP/1.{minor}"),
            has_more_input: has_more || body != Ok(0),
            head: body.map(|_| head),
        }
    }

    fn malformed(bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|byte| matches!(byte, b'\r' | b'\n'));
        let line = String::from_utf8_lossy(lines.find(|line| !line.is_empty()).unwrap_or_default());
        // What is no first line may be a header, and hold a token.
        let is_first = line
            .rsplit_once(' ')
            .is_some_and(|(_, version)| version.starts_with("HTTP/"));
        RequestHead {
            line: if is_first {
                line.into_owned()
            } else {
                "-".to_owned()
            },
            head: Err(Refusal::Malformed),
            has_more_input: true,
        }
    }
}

/// RFC 9110, 8.6: digits, and nothing else.
fn length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Malformed);
    }
    let length = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    length
        .filter(|length| *length <= MAX_BODY_BYTES)
        .ok_or(Refusal::Body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RequestHead {
        RequestHead::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_head_is_passed_on_without_what_tiny_http_would_act_on_by_itself() {
        let asked = read(
            "GET /latest/ HTTP/1.0\r\nHost: x\r\nconnection: close\r\nX-a: b \r\nExpect: y\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(asked.line, "GET /latest/ HTTP/1.0");
        assert_eq!(
            asked.head.unwrap(),
            "GET /latest/ HTTP/1.1\r\nHost: x\r\nX-a: b\r\n\r\n"
        );
        assert!(!asked.has_more_input);
    }

    #[test]
    fn a_head_that_has_not_ended_is_waited_for_until_it_is_too_long() {
        let begin = "GET / HTTP/1.1\r\nX: ";
        for length in 0..begin.len() {
            assert!(RequestHead::read(&begin.as_bytes()[..length]).is_none());
        }
        let long = format!("{begin}{}", "x".repeat(MAX_BYTES));
        assert!(RequestHead::read(&long.as_bytes()[..MAX_BYTES - 1]).is_none());
        let asked = RequestHead::read(&long.as_bytes()[..MAX_BYTES]).unwrap();
        assert_eq!(asked.head, Err(Refusal::Malformed));
    }

    #[test]
    fn a_small_body_is_passed_over_and_a_larger_one_or_one_of_unknown_length_refused() {
        let with = |header: &str| read(&format!("PUT / HTTP/1.1\r\n{header}\r\n\r\n"));
        assert!(with("Content-Length: 1024").head.is_ok());
        assert!(
            with("Content-Length: 1").has_more_input && !with("Content-Length: 0").has_more_input
        );
        assert!(with("Content-Length: 1\r\nContent-Length: 0").has_more_input);
        for large in [
            "1025",
            "1000000000000",
            "18446744073709551615",
            "18446744073709551616",
        ] {
            let asked = with(&format!("content-length: {large}"));
            assert_eq!(asked.head, Err(Refusal::Body), "{large}");
        }
        for no_length in ["-1", "+1", "", "1, 1", "0x1", "abc"] {
            let asked = with(&format!("Content-Length: {no_length}"));
            assert_eq!(asked.head, Err(Refusal::Malformed), "{no_length}");
        }
        for both in [
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: x\r\nContent-Length: 0",
        ] {
            assert_eq!(with(both).head, Err(Refusal::Body), "{both}");
        }
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        for wrong in [
            "GET /\u{e9} HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX: \u{e9}\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /\u{1b}[2J HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX y: z\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(read(wrong).head, Err(Refusal::Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn of_what_is_malformed_the_log_has_the_first_line_and_no_header() {
        assert_eq!(
            read("GET /\u{1b} HTTP/2.0\r\n\r\n").line,
            "GET /\u{1b} HTTP/2.0"
        );
        for other in ["X-aws-ec2-metadata-token: x\r\n\r\n", "\0", "AQAE \r\n"] {
            assert_eq!(read(other).line, "-", "{other:?}");
        }
    }

    #[test]
    fn what_follows_a_head_is_noticed() {
        assert!(read("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n").has_more_input);
    }
}
