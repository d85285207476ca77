//! The host's own credential, which signs AssumeRole, and its form as a JSON document.

use serde_json::Value;

use crate::common::Secret;
use crate::fetcher::setting::is_key;

pub struct SourceCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    /// The session token, which only a temporary credential has.
    pub session_token: Option<Secret>,
    /// The credential's source, as log lines and errors name it.
    pub origin: String,
}

impl SourceCredential {
    /// Parses the document of a role's credential; `None` without a session token, which each credential of a role needs.
    pub fn parse_role(json: &Value, origin: &str) -> Option<Self> {
        Self::parse(json, "Token", origin).filter(|found| found.session_token.is_some())
    }

    /// Parses a document in which a service or a program returns a credential. Its session token has the JSON key `token_key`.
    /// `None` if the access key id or the secret access key is missing or empty, or if one of them or the session token is
    /// malformed ([`is_key`]).
    pub fn parse(json: &Value, token_key: &str, origin: &str) -> Option<Self> {
        let text = |key: &str| json[key].as_str().filter(|text| is_key(text));
        // A malformed token is an error. If it counted as missing, STS would refuse the access key, with an error about the key.
        let session_token = match &json[token_key] {
            Value::Null => None,
            token if token == "" => None,
            _ => Some(Secret::new(text(token_key)?)),
        };
        Some(SourceCredential {
            access_key_id: text("AccessKeyId")?.to_owned(),
            secret_access_key: Secret::new(text("SecretAccessKey")?),
            session_token,
            origin: origin.to_owned(),
        })
    }
}
