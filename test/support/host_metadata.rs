//! A host's metadata service, as told: EC2's own, an old one, one that is out of reach of a container.

use super::http;
use super::loopback::{Connection, Request};
use super::metadata_service::MetadataService;
use super::{SECRET, Watched};

pub type HostMetadata = MetadataService<Host>;

pub struct Host {
    tokens: Tokens,
    document: Watched<String>,
}

/// What becomes of a PUT for a session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// Version 2, and nothing without a token.
    Required,
    /// This status, and version 1 for all that asks without a token.
    Refused(u16),
    /// No answer: the hop limit is 1, and a bridge between.
    Silent,
}

const TOKEN: &str = "AQAETHEHOSTSTOKEN==";
/// What the service calls its instance's role, region and instance.
pub const ROLE_NAME: &str = "host-role";
pub const REGION: &str = "eu-north-1";
pub const INSTANCE_ID: &str = "i-0123456789abcdef0";

impl HostMetadata {
    /// Its role's credential has this access key id.
    pub fn start(tokens: Tokens, access_key_id: &str) -> Self {
        let document = Watched::default();
        let host = Self::answering(Host { tokens, document }, Host::answer);
        host.rotate(access_key_id);
        host
    }

    /// Gives another credential from now on.
    pub fn rotate(&self, access_key_id: &str) {
        self.document_now(&format!(
            "{{\"Code\":\"Success\",\"AccessKeyId\":\"{access_key_id}\",\"SecretAccessKey\":\"{SECRET}/key+of/the/host\",\"Token\":\"{SECRET}/token\"}}"
        ));
    }

    pub fn document_now(&self, document: &str) {
        self.state.document.change(|now| *now = document.to_owned());
    }
}

impl Host {
    fn answer(&self, request: &Request, connection: &mut Connection) {
        if request.method == "PUT" {
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
        let list = "/latest/meta-data/iam/security-credentials/";
        let body = match request.target.as_str() {
            "/latest/meta-data/placement/region" => REGION.to_owned(),
            "/latest/meta-data/instance-id" => INSTANCE_ID.to_owned(),
            target if target == list => ROLE_NAME.to_owned(),
            target if target == format!("{list}{ROLE_NAME}") => self.document.look(Clone::clone),
            _ => return connection.answer(404, "", b""),
        };
        connection.answer(200, "", body.as_bytes());
    }
}
