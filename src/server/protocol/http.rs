//! A request as the answering functions see it, and a response as it goes over the wire.

use std::borrow::Cow;
use std::time::SystemTime;

/// One request, as tiny_http has read it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in the client's own letters.
    pub method: &'a str,
    /// The request target: a path, with a query if the client sent one.
    pub target: &'a str,
    /// The headers in order, but for those that the gate leaves out.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<'a> Request<'a> {
    /// The first header with this name, in any letter case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// One complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: Status,
    /// The body's type.
    pub content_type: &'static str,
    /// Further headers, each complete with its value.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Cow<'static, [u8]>,
    /// What there is to count about it.
    pub outcome: Option<Outcome>,
}

/// What an answer is counted as, beside being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Version 1 of the protocol was used.
    VersionOne,
    /// It was refused, and why.
    Refused(Refusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its Host header is a name of the network's.
    Host,
    /// A script in a browser's page sent it.
    Script,
    /// It came from another network than that of the address which it asked.
    Network,
    /// It came through a proxy.
    Forwarded,
    /// It has no token, and one is required.
    NoToken,
    /// Its token is not, or no longer, valid.
    BadToken,
    /// It asks for a token with a life that none has.
    BadTtl,
    /// Its method is not answered there.
    Method,
    /// It announces a body that is large, or does not say how large.
    Body,
    /// It is no request.
    Malformed,
}

impl Refusal {
    /// All of them, in the order of their declaration, with the names that metrics have for them.
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

/// The statuses that this server answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Ok = 200,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    PayloadTooLarge = 413,
    InternalServerError = 500,
    ServiceUnavailable = 503,
}

impl Status {
    /// The number.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The reason phrase; for 405 EC2's own.
    pub fn reason(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::BadRequest => "Bad Request",
            Status::Unauthorized => "Unauthorized",
            Status::Forbidden => "Forbidden",
            Status::NotFound => "Not Found",
            Status::MethodNotAllowed => "Not Allowed",
            Status::PayloadTooLarge => "Payload Too Large",
            Status::ServiceUnavailable => "Service Unavailable",
            Status::InternalServerError => "Internal Server Error",
        }
    }
}

impl Response {
    /// A text/plain answer.
    pub fn text(body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Response {
            status: Status::Ok,
            content_type: "text/plain",
            headers: Vec::new(),
            body,
            outcome: None,
        }
    }

    /// An answer with nothing but its status.
    pub fn empty(status: Status) -> Self {
        Response {
            status,
            ..Response::text("")
        }
    }

    /// The same answer with another status.
    pub fn status(self, status: Status) -> Self {
        Response { status, ..self }
    }

    /// The same answer with another type.
    pub fn typed(self, content_type: &'static str) -> Self {
        Response {
            content_type,
            ..self
        }
    }

    /// The same answer, as a refusal.
    pub fn refused(self, refusal: Refusal) -> Self {
        Response {
            outcome: Some(Outcome::Refused(refusal)),
            ..self
        }
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The whole answer as one piece. `Connection: close`, as EC2 says it; for HEAD without the body, its length said.
    pub fn to_bytes(&self, is_head: bool, now: SystemTime) -> Vec<u8> {
        let mut head = String::with_capacity(320 + self.body.len());
        let mut push = |parts: &[&str]| parts.iter().for_each(|part| head.push_str(part));
        push(&[
            "HTTP/1.1 ",
            &self.status.code().to_string(),
            " ",
            self.status.reason(),
            "\r\n",
        ]);
        push(&[
            "Content-Type: ",
            self.content_type,
            "\r\nContent-Length: ",
            &self.body.len().to_string(),
            "\r\n",
        ]);
        for (name, value) in &self.headers {
            push(&[name, ": ", value, "\r\n"]);
        }
        push(&[
            "Date: ",
            &httpdate::fmt_http_date(now),
            "\r\nServer: EC2ws\r\nConnection: close\r\n\r\n",
        ]);
        let mut bytes = head.into_bytes();
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
    fn an_answer_is_written_whole_with_its_length_and_closes() {
        let bytes = Response::text("exc_web")
            .with("Accept-Ranges", "none")
            .to_bytes(false, UNIX_EPOCH);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nAccept-Ranges: none\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: EC2ws\r\nConnection: close\r\n\r\nexc_web"
        );
    }

    #[test]
    fn an_answer_to_head_says_its_length_and_has_no_body() {
        let text = String::from_utf8(Response::text("exc_web").to_bytes(true, UNIX_EPOCH)).unwrap();
        assert!(text.contains("Content-Length: 7\r\n") && text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_header_is_found_in_any_letter_case() {
        let request = Request {
            method: "GET",
            target: "/",
            headers: &[("x-FORWARDED-for", "1.2.3.4")],
        };
        assert_eq!(request.header("X-Forwarded-For"), Some("1.2.3.4"));
        assert_eq!(request.header("Via"), None);
    }
}
