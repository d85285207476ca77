//! The messages from the supervisor to the server: first the whole state, then each change of it.

use serde::{Deserialize, Serialize};

use crate::common::{BootTime, Credential, RoleArn, Secret, ServerConfig, TokenKey, log};

/// All settings and data of the server. The server gets them only in messages, because it inherits no environment variable of
/// the supervisor and opens none of the user's files.
#[derive(Serialize, Deserialize)]
pub struct ServerState {
    pub role: RoleArn,
    pub config: ServerConfig,
    /// The key that seals session tokens.
    pub token_key: TokenKey,
    pub log_format: log::Format,
    /// The region of STS; `None` while it is unknown or only guessed, and with `--pass-through`, which serves the host's region.
    pub region: Option<String>,
    /// The Authorization token that clients of `/v2/credentials/` must send; `None` if that path is not served.
    pub container_token: Option<Secret>,
    /// The host's metadata for `--pass-through`: a `Snapshot` that a fetcher encoded as a frame; `None` until it is fetched. The
    /// server moves the frame out of this field, and decodes it into `ResponseState::snapshot`.
    pub metadata: Option<Vec<u8>>,
    pub counts: Counts,
    pub credential: Option<Credential>,
}

/// Counters of the supervisor, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Credentials received from STS.
    pub refreshes: u64,
    /// Failed fetches of a credential.
    pub failures: u64,
    /// Servers started, the first one included.
    pub server_starts: u64,
}

/// One change of a [`ServerState`].
#[derive(Serialize, Deserialize)]
pub enum ServerUpdate {
    Fetched(Credential),
    FetchFailed,
    Region(String),
    ContainerToken(Secret),
    /// A `Snapshot` that a fetcher encoded as a frame.
    Metadata(Vec<u8>),
}

impl ServerState {
    pub fn apply(&mut self, update: ServerUpdate) {
        match update {
            ServerUpdate::Fetched(credential) => {
                self.credential = Some(credential);
                self.counts.refreshes += 1;
            }
            ServerUpdate::FetchFailed => self.counts.failures += 1,
            ServerUpdate::Region(name) => {
                self.region = Some(name).filter(|_| self.config.pass_through.is_none())
            }
            ServerUpdate::ContainerToken(token) => self.container_token = Some(token),
            ServerUpdate::Metadata(snapshot) => self.metadata = Some(snapshot),
        }
    }

    /// Returns the credential; `None` if there is none or it has expired.
    pub fn valid_credential(&self, now: BootTime) -> Option<&Credential> {
        let credential = self.credential.as_ref();
        credential.filter(|credential| credential.is_valid(now))
    }
}
