//! What the supervisor tells a fetcher, on its stdin.

use serde::{Deserialize, Serialize};

use crate::common::session_token::{TokenAuthority, TokenKey};

/// What a fetcher fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// A credential of the role.
    #[default]
    Credential,
    /// The host's other metadata.
    Metadata,
    /// The token in `--container-token-file`, each time that it changes.
    ContainerToken,
}

/// What a fetcher needs beside the settings, which it parses itself from the arguments and variables of the supervisor.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct FetchOrders {
    pub task: Task,
    /// The key of this server's session tokens. A metadata service whose session token has this key's seal is this server itself,
    /// which cannot be the source.
    pub token_key: Option<TokenKey>,
    /// The boot that session tokens belong to.
    pub boot_id: String,
    /// The access key id of the served credential, which cannot be the source.
    pub serving: Option<String>,
    /// The region in use, as an earlier fetcher found.
    pub region: Option<String>,
    /// How many seconds this machine's clock is behind that of STS, as an earlier fetcher found.
    pub clock_offset: i64,
    /// The longest life in seconds that STS grants, as an earlier fetcher found.
    pub duration_limit: Option<u32>,
}

impl FetchOrders {
    /// Whether a session token is one of this server.
    pub fn is_own_token(&self, token: &str) -> bool {
        let key = self.token_key.as_ref();
        key.is_some_and(|key| TokenAuthority::new(key, &self.boot_id).open(token).is_some())
    }
}
