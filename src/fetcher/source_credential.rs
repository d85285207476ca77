//! The host's own credential, which signs AssumeRole. It comes from settings, from a JSON document, or from STS (web identity).

use aws_credential_types::Credentials;
use serde_json::Value;

use crate::common::Fault;
use crate::fetcher::setting::{Setting, is_key};

pub struct SourceCredential {
    /// The keys, and the session token, which only a temporary credential has. The `Debug` form hides the secret ones.
    pub keys: Credentials,
    /// The credential's source, as log lines and errors name it.
    pub origin: String,
}

/// The result of a source: `None` if it is not configured, an error if its configuration is incomplete.
pub type Found = Result<Option<SourceCredential>, Fault>;

impl SourceCredential {
    pub fn new(key_id: &str, secret: &str, token: Option<&str>, origin: &str) -> Self {
        let keys = Credentials::new(key_id, secret, token.map(str::to_owned), None, "source");
        SourceCredential { keys, origin: origin.to_owned() }
    }

    /// Finds an access key with its session token. The array has the names of four settings: access key id, secret access key,
    /// session token, and the session token's old name. `setting` looks up a setting by its name.
    pub fn find<'a>(
        setting: impl Fn(&str) -> Option<Setting<'a>>,
        [key_id, secret, token, old_token]: [&str; 4],
        origin: &str,
    ) -> Found {
        let session_token = setting(token).or_else(|| setting(old_token));
        let lone = |set: Setting, unset: &str| {
            set.wrong(&format!("it is set, {unset} is not; set both or neither"))
        };
        match (setting(key_id), setting(secret), session_token) {
            (Some(key_id), Some(secret), token) => {
                let token = token.map(|token| token.key()).transpose()?;
                Ok(Some(Self::new(key_id.key()?, secret.key()?, token, origin)))
            }
            (None, None, None) => Ok(None),
            (Some(set), None, _) => lone(set, secret),
            (None, Some(set), _) => lone(set, key_id),
            (None, None, Some(token)) => token
                .wrong(&format!("it is set, {key_id} and {secret} are not; set all three or none")),
        }
    }

    /// Parses the document of a role's credential; `None` without a session token, which each credential of a role needs.
    pub fn parse_role(json: &Value, origin: &str) -> Option<Self> {
        Self::parse(json, "Token", origin).filter(|found| found.keys.session_token().is_some())
    }

    /// Parses the JSON document in which a service or a program returns a credential; `token_key` is the JSON key of the session
    /// token. The access key id and the secret access key are required, the session token is optional. `None` if a required value
    /// is missing, or if any value is malformed ([`is_key`]).
    pub fn parse(json: &Value, token_key: &str, origin: &str) -> Option<Self> {
        let text = |key: &str| json[key].as_str().filter(|text| is_key(text));
        // Reject a malformed token. If the token counted as missing, the error of STS would be about the access key instead.
        let session_token = match &json[token_key] {
            Value::Null => None,
            token if token == "" => None,
            _ => Some(text(token_key)?),
        };
        Some(Self::new(text("AccessKeyId")?, text("SecretAccessKey")?, session_token, origin))
    }
}
