//! The server's state with what responses need of it precomputed: once for each change, not for each request.

use crate::common::credential::Credential;
use crate::common::secret::Secret;
use crate::common::session_token::TokenAuthority;
use crate::messages::server_state::ServerState;

pub struct ResponseState {
    /// As the supervisor sent it.
    pub server: ServerState,
    pub tokens: TokenAuthority,
    /// The credential in EC2's form.
    pub document: Option<Secret>,
    /// When STS issued the credential, as HTTP writes it.
    pub last_modified: Option<String>,
}

impl From<ServerState> for ResponseState {
    fn from(server: ServerState) -> Self {
        let credential = server.credential.as_ref();
        ResponseState {
            tokens: TokenAuthority::new(&server.token_key, &server.boot_id),
            document: credential
                .map(|credential| Secret::new(credential.ec2_document(server.role.account_id()))),
            last_modified: credential.map(Credential::last_modified),
            server,
        }
    }
}
