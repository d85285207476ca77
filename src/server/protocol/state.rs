//! All that is served at a time, with what is made from it once and not for every request.

use crate::common::credential::Credential;
use crate::common::secret::Secret;
use crate::common::session_token::TokenAuthority;
use crate::messages::server_state::{ServerState, ServerUpdate};

/// What the supervisor has handed over last.
pub struct Served {
    /// As it was handed over.
    pub state: ServerState,
    /// Gives session tokens, and checks them.
    pub tokens: TokenAuthority,
    /// The document of the credential, if there is one, in EC2's form.
    pub document: Option<Secret>,
    /// When the credential was made, in HTTP's form.
    pub last_modified: Option<String>,
}

impl From<ServerState> for Served {
    fn from(state: ServerState) -> Self {
        let mut served = Served {
            tokens: TokenAuthority::new(&state.token_key, &state.boot_id),
            document: None,
            last_modified: None,
            state,
        };
        served.derive();
        served
    }
}

impl Served {
    pub fn apply(&mut self, update: ServerUpdate) {
        self.state.apply(update);
        self.derive();
    }

    fn derive(&mut self) {
        let credential = self.state.credential.as_ref();
        self.document = credential.map(|credential| Secret::new(credential.ec2_document()));
        self.last_modified = credential.map(Credential::last_modified);
    }
}
