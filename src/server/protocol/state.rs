//! All that is served at a time, with what is made from it once and not for every request.

use crate::common::credential::Credential;
use crate::common::secret::Secret;
use crate::common::session_token::TokenAuthority;
use crate::messages::server_state::HandOver;

/// What the supervisor has handed over last.
pub struct Served {
    /// As it was handed over.
    pub hand_over: HandOver,
    /// Gives session tokens, and checks them.
    pub tokens: TokenAuthority,
    /// The document of the credential, if there is one, in EC2's form.
    pub document: Option<Secret>,
    /// When the credential was made, in HTTP's form.
    pub last_modified: Option<String>,
}

impl From<HandOver> for Served {
    fn from(hand_over: HandOver) -> Self {
        let credential = hand_over.credential.as_ref();
        Served {
            tokens: TokenAuthority::new(&hand_over.token_key, &hand_over.boot_id),
            document: credential.map(|credential| Secret::new(credential.ec2_document())),
            last_modified: credential.map(Credential::last_modified),
            hand_over,
        }
    }
}
