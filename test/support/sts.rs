//! An STS on a loopback port that returns prepared replies.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::loopback::{Connection, Loopback, Request};
use super::{PortState, SECRET, Watched};

pub struct Sts {
    service: Loopback,
    state: Arc<State>,
}

struct State {
    calls: Watched<Vec<Call>>,
    /// The last reply is used for all further calls.
    replies: Watched<VecDeque<Reply>>,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub request: Request,
    pub at: Instant,
}

impl Call {
    /// The value of a parameter in the form-encoded body; empty if it is missing.
    pub fn parameter(&self, name: &str) -> String {
        let pairs = self
            .request
            .body
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs
            .into_iter()
            .find(|(key, _)| *key == name)
            .unwrap_or_default();
        percent_encoding::percent_decode_str(value)
            .decode_utf8()
            .unwrap()
            .into_owned()
    }

    /// The access key id of the signature; empty without a signature.
    pub fn access_key_id(&self) -> &str {
        let authorization = self.request.header("Authorization");
        let after = authorization
            .split_once("Credential=")
            .map_or("", |(_, after)| after);
        after.split('/').next().unwrap()
    }

    /// The time of the signature in seconds since the epoch; 0 if it is missing or invalid.
    fn signed_at(&self) -> i64 {
        let date = self.request.header("X-Amz-Date"); // for example 20261123T210000Z
        let part = |from: usize, to: usize| date.get(from..to).unwrap_or("0");
        let iso = format!(
            "{}-{}-{}T{}:{}:{}Z",
            part(0, 4),
            part(4, 6),
            part(6, 8),
            part(9, 11),
            part(11, 13),
            part(13, 15)
        );
        ec2_role::common::clock::parse_iso8601(&iso)
            .map_or(0, ec2_role::common::clock::epoch_seconds)
    }
}

/// The Retry-After header of a reply, in each of its forms.
#[derive(Clone, Copy, Debug)]
pub enum RetryAfter {
    Seconds(u32),
    /// A date that is this many seconds after the reply's own `Date`.
    Date(i64),
}

#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    body: Body,
    expiration: Expiration,
    lifetime: i64,
    clock: i64,
    /// Seconds by which the `Date` header is ahead of STS's own clock.
    date: i64,
    retry_after: Option<RetryAfter>,
    is_strict: bool,
    delay: Duration,
    manner: Manner,
}

#[derive(Clone)]
enum Body {
    Credential,
    Error(String, String),
    Bytes(Vec<u8>),
}

/// Failed tests print replies, so this prints only the first bytes of a body.
impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Credential => formatter.write_str("Credential"),
            Body::Error(code, _) => write!(formatter, "Error({code})"),
            Body::Bytes(bytes) => {
                let first = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
                write!(formatter, "{} bytes, {first:?} …", bytes.len())
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// `2026-01-01T00:00:00Z`
    Iso,
    /// `2026-01-01T00:00:00.227783Z`, as moto writes it.
    Microseconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Whole,
    HangBeforeFirstByte,
    HangMidHead,
    HangMidBody,
    Drip(Duration),
    CutMidBody,
    CloseAtOnce,
    WithoutHead,
}

impl Reply {
    /// A credential that is valid for an hour.
    pub fn good() -> Self {
        Reply {
            status: 200,
            body: Body::Credential,
            expiration: Expiration::Iso,
            lifetime: 3600,
            clock: 0,
            date: 0,
            retry_after: None,
            is_strict: false,
            delay: Duration::ZERO,
            manner: Manner::Whole,
        }
    }

    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Reply {
            status,
            body: Body::Error(code.into(), message.into()),
            ..Self::good()
        }
    }

    pub fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply {
            status,
            body: Body::Bytes(body.into()),
            ..Self::good()
        }
    }

    /// Accepts the call and never responds.
    pub fn hang() -> Self {
        Reply {
            manner: Manner::HangBeforeFirstByte,
            ..Self::good()
        }
    }

    pub fn hang_mid_head() -> Self {
        Reply {
            manner: Manner::HangMidHead,
            ..Self::good()
        }
    }

    pub fn hang_mid_body() -> Self {
        Reply {
            manner: Manner::HangMidBody,
            ..Self::good()
        }
    }

    pub fn cut_mid_body() -> Self {
        Reply {
            manner: Manner::CutMidBody,
            ..Self::good()
        }
    }

    pub fn close_at_once() -> Self {
        Reply {
            manner: Manner::CloseAtOnce,
            ..Self::good()
        }
    }

    /// A reply of exactly these bytes, which may be invalid HTTP.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Reply {
            manner: Manner::WithoutHead,
            ..Self::bytes(200, bytes)
        }
    }

    /// Sends the body one byte at a time, with this pause before each byte.
    pub fn drip(self, each: Duration) -> Self {
        Reply {
            manner: Manner::Drip(each),
            ..self
        }
    }

    pub fn after(self, delay: Duration) -> Self {
        Reply { delay, ..self }
    }

    pub fn valid_for(self, seconds: i64) -> Self {
        Reply {
            lifetime: seconds,
            ..self
        }
    }

    pub fn expiration(self, expiration: Expiration) -> Self {
        Reply { expiration, ..self }
    }

    /// Sets STS's clock ahead by this many seconds. Like the real STS, the reply then rejects a signature whose time differs from
    /// STS's clock by more than five minutes.
    pub fn clock_ahead(self, seconds: i64) -> Self {
        Reply {
            clock: seconds,
            is_strict: true,
            ..self
        }
    }

    /// The `Date` header is ahead by this many seconds, like that of a proxy with a wrong clock.
    pub fn date_ahead(self, seconds: i64) -> Self {
        Reply {
            date: seconds,
            ..self
        }
    }

    pub fn retry_after(self, retry_after: RetryAfter) -> Self {
        Reply {
            retry_after: Some(retry_after),
            ..self
        }
    }

    fn send(&self, number: usize, call: &Call, connection: &mut Connection) {
        std::thread::sleep(self.delay);
        let now = epoch_now() + self.clock;
        if self.is_strict && (call.signed_at() - now).abs() > 300 {
            let refusal = Reply::error(
                403,
                "SignatureDoesNotMatch",
                "Signature expired: it is not near the current time",
            );
            return Reply {
                clock: self.clock,
                date: self.date,
                ..refusal
            }
            .send(number, call, connection);
        }
        let body = self.body(number, now);
        let http_date = |ahead: i64| {
            let seconds = (now + self.date + ahead).max(0) as u64;
            httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
        };
        let date = http_date(0);
        let retry_after = match self.retry_after {
            None => String::new(),
            Some(RetryAfter::Seconds(seconds)) => format!("Retry-After: {seconds}\r\n"),
            Some(RetryAfter::Date(ahead)) => format!("Retry-After: {}\r\n", http_date(ahead)),
        };
        let headers = format!(
            "x-amzn-RequestId: {}\r\nContent-Type: text/xml\r\nDate: {date}\r\n{retry_after}",
            request_id(number)
        );
        let half = body.len() / 2;
        match self.manner {
            Manner::Whole => connection.answer(self.status, &headers, &body),
            Manner::CloseAtOnce => {}
            Manner::WithoutHead => _ = connection.0.write_all(&body),
            Manner::HangBeforeFirstByte => connection.hang(),
            Manner::HangMidHead => {
                _ = connection.0.write_all(b"HTTP/1.1 200 OK\r\nContent-");
                connection.hang();
            }
            manner => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {} Status\r\n{headers}Content-Length: {length}\r\n\r\n",
                    self.status
                );
                _ = connection.0.write_all(head.as_bytes());
                if let Manner::Drip(each) = manner {
                    for byte in body {
                        std::thread::sleep(each);
                        if connection.0.write_all(&[byte]).is_err() {
                            return;
                        }
                    }
                    return;
                }
                _ = connection.0.write_all(&body[..half]);
                if manner == Manner::HangMidBody {
                    connection.hang();
                }
            }
        }
    }

    fn body(&self, number: usize, now: i64) -> Vec<u8> {
        let id = request_id(number);
        match &self.body {
            Body::Bytes(bytes) => return bytes.clone(),
            Body::Error(code, message) => format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
                 <Message>{message}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            ),
            Body::Credential => {
                let expiration = self.expiration.write(now + self.lifetime);
                let (key, secret, token) = (
                    access_key_id(number),
                    secret_access_key(number),
                    session_token(number),
                );
                format!(
                    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
                     <AssumedRoleId>AROA:s</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/exc_web/s</Arn></AssumedRoleUser>\
                     <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                     <SessionToken>{token}</SessionToken><Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult>\
                     <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></AssumeRoleResponse>"
                )
            }
        }
        .into_bytes()
    }
}

impl Expiration {
    fn write(self, epoch: i64) -> String {
        let iso = ec2_role::common::clock::iso8601(UNIX_EPOCH + Duration::from_secs(epoch as u64));
        match self {
            Expiration::Iso => iso,
            Expiration::Microseconds => format!("{}.227783Z", iso.trim_end_matches('Z')),
        }
    }
}

/// The access key id in the reply to this call; calls are counted from 1.
pub fn access_key_id(number: usize) -> String {
    format!("ASIA{number:016}")
}

/// Part of every secret of the role. Dropping an `Ec2Role` searches its HOME for this text, so no test may write the text there.
pub const SECRET_OF_ROLE: &str = "+of/the/role/";

pub fn secret_access_key(number: usize) -> String {
    format!("{SECRET}/key{SECRET_OF_ROLE}{number}")
}

pub fn session_token(number: usize) -> String {
    format!(
        "{SECRET}/token{SECRET_OF_ROLE}{number}//{}==",
        "x".repeat(400)
    )
}

pub fn request_id(number: usize) -> String {
    format!("c0ffee00-0000-4000-8000-{number:012}")
}

fn epoch_now() -> i64 {
    ec2_role::common::clock::epoch_seconds(SystemTime::now())
}

impl Sts {
    /// Sends the replies in this order; the last one is used for all further calls.
    pub fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let state = Arc::new(State {
            calls: Watched::default(),
            replies: Watched::default(),
        });
        state.replies.change(|queue| queue.extend(replies));
        let of_service = Arc::clone(&state);
        let service = Loopback::start(move |request, connection| {
            let call = Call {
                request,
                at: Instant::now(),
            };
            // Count the call under the lock of the replies, so that a call's number and its reply match.
            let (number, reply) = of_service.replies.change(|queue| {
                let number = of_service.calls.change(|calls| {
                    calls.push(call.clone());
                    calls.len()
                });
                let reply = if queue.len() > 1 {
                    queue.pop_front()
                } else {
                    queue.front().cloned()
                };
                (number, reply.expect("a reply"))
            });
            reply.send(number, &call, connection);
        });
        Sts { service, state }
    }

    /// Uses this reply for every call from now on.
    pub fn replies_now(&self, reply: Reply) {
        self.state.replies.change(|queue| *queue = [reply].into());
    }

    pub fn set_port_state(&self, state: PortState) {
        self.service.set_port_state(state);
    }

    pub fn url(&self) -> String {
        self.service.url()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.look(Clone::clone)
    }

    #[track_caller]
    pub fn wait_for_calls(&self, number: usize) -> Vec<Call> {
        let what = format!("call {number} of STS");
        self.state.calls.wait(&what, |calls| {
            (calls.len() >= number).then(|| calls.clone())
        })
    }
}
