//! What the supervisor tells the server: the whole state once, at the start, then each change.

use serde::{Deserialize, Serialize};

use crate::common::clock::BootTime;
use crate::common::config::HttpTokens;
use crate::common::credential::Credential;
use crate::common::log;
use crate::common::metadata_snapshot::Snapshot;
use crate::common::pass_through::PassThrough;
use crate::common::role::{RoleArn, RoleName};
use crate::common::secret::Secret;
use crate::common::session_token::TokenKey;
use crate::messages::frame::from_frame;

/// All that the server knows: it inherits no environment variable and opens no file.
#[derive(Serialize, Deserialize)]
pub struct ServerState {
    pub role: RoleArn,
    /// The name in the list of roles.
    pub role_name: RoleName,
    pub http_tokens: HttpTokens,
    /// Signs session tokens.
    pub token_key: TokenKey,
    /// The boot that session tokens belong to.
    pub boot_id: String,
    /// Whether to write no access log.
    pub quiet: bool,
    pub log_format: log::Format,
    /// Whether to answer only clients on the subnet of the address they connect to.
    pub same_network: bool,
    /// Host names that are accepted although they have a dot.
    pub allow_hosts: Vec<String>,
    /// Whether to serve `/metrics`.
    pub metrics: bool,
    /// The region in use, unless it is a guess.
    pub region: Option<String>,
    /// The Authorization token of the container form, if that is served.
    pub container_token: Option<Secret>,
    /// With a container token, whether the instance form is served too.
    pub both_forms: bool,
    /// Which of the host's other metadata is served.
    pub pass_through: Option<PassThrough>,
    /// That metadata, once it was fetched. The supervisor has only the bytes.
    #[serde(skip)]
    pub snapshot: Option<Snapshot>,
    pub counts: Counts,
    pub credential: Option<Credential>,
}

/// What the supervisor counts, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Credentials that STS gave.
    pub refreshes: u64,
    /// Fetches that failed.
    pub failures: u64,
    /// Servers that were started after the first.
    pub server_restarts: u64,
}

/// One change of a [`ServerState`]. Everything else stays as it is.
#[derive(Serialize, Deserialize)]
pub enum ServerUpdate {
    Fetched(Credential),
    FetchFailed,
    Region(String),
    ContainerToken(Secret),
    /// A [`Snapshot`] as the fetcher encoded it.
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
            ServerUpdate::Region(name) => self.region = Some(name),
            ServerUpdate::ContainerToken(token) => self.container_token = Some(token),
            ServerUpdate::Metadata(snapshot) => self.snapshot = from_frame(snapshot),
        }
    }

    /// The credential, unless it has expired.
    pub fn valid_credential(&self, now: BootTime) -> Option<&Credential> {
        let credential = self.credential.as_ref();
        credential.filter(|credential| credential.is_valid(now))
    }
}
