//! Parses the JSON documents in which services and programs return a credential.

use serde_json::Value;

use crate::common::Secret;
use crate::fetcher::setting::is_key;
use crate::fetcher::source_credential::SourceCredential;

/// Parses a role's credential; `None` without a session token, which each credential of a role needs.
pub fn parse_role(json: &Value, origin: &str) -> Option<SourceCredential> {
    parse(json, "Token", origin).filter(|found| found.session_token.is_some())
}

/// Parses a credential whose session token has the JSON key `token_key`. `None` if the access key id or the secret access key is
/// missing or empty, or if one of them or the session token is malformed ([`is_key`]).
pub fn parse(json: &Value, token_key: &str, origin: &str) -> Option<SourceCredential> {
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
