//! The message from the supervisor to a fetcher, sent on the fetcher's stdin.

use serde::{Deserialize, Serialize};

use crate::common::{TokenAuthority, TokenKey};

/// The value that a fetcher fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// A credential of the role.
    #[default]
    Credential,
    /// The host's metadata for `--pass-through`.
    Metadata,
    /// The token in `--container-token-file`. The fetcher watches the file, and reports the token again after each change.
    ContainerToken,
}

/// Orders of one fetch. The settings are not included: the fetcher parses them itself from the supervisor's arguments and
/// variables.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct FetchOrders {
    pub task: Task,
    /// The key that seals this server's session tokens. A fetcher uses it to detect a loop: if a service issues a session token
    /// that is sealed with this key, the service is this server itself, which cannot be the source.
    pub token_key: Option<TokenKey>,
    /// The access key id of the served credential, to detect a loop: the served credential cannot be its own source.
    pub serving: Option<String>,
    /// The region that an earlier fetcher found, if any. It is used if the request for the host's region fails.
    pub region: Option<String>,
    /// Seconds by which this machine's clock is behind the clock of STS, measured by an earlier fetcher; 0 if unknown.
    pub clock_offset: i64,
    /// The duration, in seconds, with which an earlier fetcher succeeded after STS refused the user's longer one.
    pub duration_limit: Option<u32>,
}

impl FetchOrders {
    /// Whether `token` is a session token that this server issued.
    pub fn is_own_token(&self, token: &str) -> bool {
        let key = self.token_key.as_ref();
        key.is_some_and(|key| TokenAuthority::new(key).open(token).is_some())
    }
}
