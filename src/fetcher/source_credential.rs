//! The host's own credential, which signs AssumeRole.

use crate::common::secret::Secret;

pub struct SourceCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    /// Set if the credential is temporary itself.
    pub session_token: Option<Secret>,
    /// Where the credential comes from, in words.
    pub origin: String,
}
