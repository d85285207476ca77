//! Stands in for a host's metadata service that has a role. [`Tokens`] says whether it supports session tokens (IMDSv2), refuses
//! them (IMDSv1), or gives no response to a PUT.

use std::io::Write;
use std::time::Duration;

use super::http;
use super::loopback::{Connection, Request};
use super::metadata_service::MetadataService;
use super::{SECRET, Watched};

pub type HostMetadata = MetadataService<Host>;

pub struct Host {
    tokens: Tokens,
    document: Watched<String>,
    wrong: Watched<Option<(Step, Wrong)>>,
}

/// The response to a PUT for a session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// A PUT gets a token, and requests without a token are refused (IMDSv2 only).
    Required,
    /// A PUT gets this status, and requests without a token are served (IMDSv1).
    Refused(u16),
    /// A PUT gets no response. EC2 behaves like this to a container on a bridge if the instance's hop limit is 1.
    Silent,
}

/// The requests that a client makes for a credential, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Token,
    List,
    Document,
}

/// The way in which a response is wrong.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    Status(u16),
    Body(&'static str),
    Hang,
    /// The body comes one byte at a time.
    Drip,
    /// The connection closes after half of the body.
    Cut,
    TooLong,
}

const TOKEN: &str = "AQAETHEHOSTSTOKEN==";
pub const ROLE_NAME: &str = "host-role";
pub const REGION: &str = "eu-north-1";
pub const INSTANCE_ID: &str = "i-0123456789abcdef0";

impl HostMetadata {
    /// Starts the service. The credential of its role has this access key id.
    pub fn start(tokens: Tokens, access_key_id: &str) -> Self {
        let host = Host {
            tokens,
            document: Watched::default(),
            wrong: Watched::default(),
        };
        let host = Self::answering(host, Host::answer);
        host.rotate(access_key_id);
        host
    }

    /// Serves another credential from now on.
    pub fn rotate(&self, access_key_id: &str) {
        self.document_now(&format!(
            "{{\"Code\":\"Success\",\"AccessKeyId\":\"{access_key_id}\",\"SecretAccessKey\":\"{SECRET}/key+of/the/host\",\"Token\":\"{SECRET}/token\"}}"
        ));
    }

    pub fn document_now(&self, document: &str) {
        self.state.document.change(|now| *now = document.to_owned());
    }

    /// Makes the responses to this step wrong from now on; with `None`, the responses to all steps are right again.
    pub fn wrong_now(&self, wrong: Option<(Step, Wrong)>) {
        self.state.wrong.change(|now| *now = wrong);
    }
}

impl Host {
    fn answer(&self, request: &Request, connection: &mut Connection) {
        let list = "/latest/meta-data/iam/security-credentials/";
        let step = match request.target.strip_prefix(list) {
            _ if request.method == "PUT" => Some(Step::Token),
            Some("") => Some(Step::List),
            Some(_) => Some(Step::Document),
            None => None,
        };
        match self.wrong.look(|wrong| *wrong) {
            Some((at, wrong)) if Some(at) == step => return self.go_wrong(wrong, connection),
            _ => {}
        }
        if step == Some(Step::Token) {
            return match self.tokens {
                Tokens::Required => connection.answer(200, "", TOKEN.as_bytes()),
                Tokens::Refused(status) => connection.answer(status, "", b""),
                Tokens::Silent => connection.hang(),
            };
        }
        let shown = request.header(http::TOKEN);
        let expected = if self.tokens == Tokens::Required {
            TOKEN
        } else {
            ""
        };
        if shown != expected {
            return connection.answer(401, "", b"");
        }
        let body = match request.target.as_str() {
            "/latest/meta-data/placement/region" => REGION.to_owned(),
            "/latest/meta-data/instance-id" => INSTANCE_ID.to_owned(),
            target if target == list => ROLE_NAME.to_owned(),
            target if target == format!("{list}{ROLE_NAME}") => self.document.look(Clone::clone),
            _ => return connection.answer(404, "", b""),
        };
        connection.answer(200, "", body.as_bytes());
    }

    fn go_wrong(&self, wrong: Wrong, connection: &mut Connection) {
        let body = self.document.look(|document| document.clone().into_bytes());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let half = [head.as_bytes(), &body[..body.len() / 2]].concat();
        match wrong {
            Wrong::Status(status) => connection.answer(status, "", b""),
            Wrong::Body(body) => connection.answer(200, "", body.as_bytes()),
            Wrong::Hang => connection.hang(),
            Wrong::Cut => _ = connection.0.write_all(&half),
            Wrong::TooLong => connection.answer(200, "", &[b'x'; 300 * 1024]),
            Wrong::Drip => {
                _ = connection.0.write_all(head.as_bytes());
                for byte in body {
                    std::thread::sleep(Duration::from_millis(50));
                    if connection.0.write_all(&[byte]).is_err() {
                        return;
                    }
                }
            }
        }
    }
}
