//! The messages from a fetcher to the supervisor, sent on the fetcher's stdout.

use serde::{Deserialize, Serialize};

use crate::common::{Credential, Fault, Secret};

/// A credential, and what this fetch learned about STS; the supervisor gives that to the next fetch in `FetchOrders`.
#[derive(Serialize, Deserialize)]
pub struct Fetched {
    pub credential: Credential,
    /// Seconds by which this machine's clock is behind the clock of STS.
    pub clock_offset: i64,
    /// The duration, in seconds, that STS accepted, if it is shorter than the user's; `None` if STS accepted the user's.
    pub duration_limit: Option<u32>,
}

/// A report of a fetcher. A fetcher sends any number of reports; the last one is the outcome of the fetch.
#[derive(Serialize, Deserialize)]
pub enum FetchReport {
    /// The step that the fetcher begins. The supervisor logs it if the fetcher is killed at its deadline or ends without an
    /// outcome.
    Step(String),
    /// A line for the log.
    Notice(String),
    /// The region in use, for the server and for later fetchers. A guessed region is not reported, because it may be wrong.
    Region(String),
    /// Seconds that STS asks callers to wait (its Retry-After header).
    RetryAfter(u32),
    Fetched(Fetched),
    /// The host's metadata for `--pass-through`. The supervisor forwards it without decoding it.
    Metadata {
        items: usize,
        /// Number of items and directories left out because they were too many or too large.
        left_out: usize,
        /// The `Snapshot`, encoded as a frame.
        snapshot: Vec<u8>,
    },
    /// The Authorization token that clients of `/v2/credentials/` must send, read from `--container-token-file`.
    ContainerToken(Secret),
    /// The fetcher has watched the token file for a minute (`WATCH` in `fetcher/container_token.rs`) and ends. The file still has
    /// the token that the fetcher reported last. The supervisor starts the next fetcher at once.
    Unchanged,
    Failed(Fault),
}

/// The function to which a fetch passes its reports.
pub type Report<'a> = &'a dyn Fn(FetchReport);

impl FetchReport {
    pub fn is_outcome(&self) -> bool {
        matches!(
            self,
            FetchReport::Fetched(_)
                | FetchReport::Metadata { .. }
                | FetchReport::Unchanged
                | FetchReport::Failed(_)
        )
    }
}
