//! A host's metadata service that behaves as EC2's, as an old one, or as one beyond the hop limit.

use std::io::Write;
use std::time::Duration;

use super::http;
use super::loopback::{Connection, Request};
use super::metadata_service::MetadataService;
use super::{SECRET, Watched};

pub type ImdsClient = MetadataService<Host>;

pub struct Host {
    tokens: Tokens,
    document: Watched<String>,
    wrong: Watched<Option<(Step, Wrong)>>,
}

/// How a PUT for a session token is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// IMDSv2 only.
    Required,
    /// With this status; requests without a token are served (IMDSv1).
    Refused(u16),
    /// Not at all, as behind a bridge with a hop limit of 1.
    Silent,
}

/// The requests of a client, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Token,
    List,
    Document,
}

/// How a response is wrong.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    Status(u16),
    Body(&'static str),
    Hang,
    /// A byte at a time.
    Drip,
    /// Half of the body, then a close.
    Cut,
    TooLong,
}

const TOKEN: &str = "AQAETHEHOSTSTOKEN==";
/// Role, region and id of the instance.
pub const ROLE_NAME: &str = "host-role";
pub const REGION: &str = "eu-north-1";
pub const INSTANCE_ID: &str = "i-0123456789abcdef0";

impl ImdsClient {
    /// With this access key id in its role's credential.
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

    /// Answers this step wrongly from now on, or none.
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
