//! The host's own credential, which signs AssumeRole.

use crate::common::Secret;

pub struct SourceCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    /// The session token, which only a temporary credential has.
    pub session_token: Option<Secret>,
    /// The credential's source, as log lines and errors name it.
    pub origin: String,
}
