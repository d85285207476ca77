//! The JSON documents in which AWS's sources give a credential.

use serde_json::Value;

use crate::common::credential::SourceCredential;
use crate::common::secret::Secret;

/// A role's credential from the JSON document of a service; `None` if a part is missing: without its token it is none, to SDKs too.
pub fn read_role(json: &Value, origin: &str) -> Option<SourceCredential> {
    read(json, "Token", origin).filter(|found| found.session_token.is_some())
}

/// A credential from one of the JSON documents that AWS's sources use; `None` if a key is missing.
pub fn read(json: &Value, token_key: &str, origin: &str) -> Option<SourceCredential> {
    let text = |key: &str| json[key].as_str().filter(|text| !text.is_empty());
    Some(SourceCredential {
        access_key_id: text("AccessKeyId")?.to_owned(),
        secret_access_key: Secret::new(text("SecretAccessKey")?),
        session_token: text(token_key).map(Secret::new),
        origin: origin.to_owned(),
    })
}
