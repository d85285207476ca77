//! What a fetcher tells the supervisor, on its stdout.

use serde::{Deserialize, Serialize};

use crate::common::credential::Credential;
use crate::common::fault::Fault;
use crate::common::secret::Secret;

/// A credential, and what the next fetcher should know.
#[derive(Serialize, Deserialize)]
pub struct Fetched {
    pub credential: Credential,
    /// How many seconds this machine's clock is behind that of STS.
    pub clock_offset: i64,
    /// The longest life in seconds that STS grants, if that is less than the user asks for.
    pub duration_limit: Option<u32>,
}

/// The host's other metadata, which the supervisor forwards without decoding it.
#[derive(Serialize, Deserialize)]
pub struct FetchedMetadata {
    /// How many items were read.
    pub items: usize,
    /// How many more there are than fit.
    pub left_out: usize,
    /// The `Snapshot`, as a frame.
    pub snapshot: Vec<u8>,
}

/// Any number of steps and other information; then one outcome, which is the last report.
#[derive(Serialize, Deserialize)]
pub enum FetchReport {
    /// What the fetcher does now.
    Step(String),
    /// A line for the log.
    Notice(String),
    /// The region in use, unless it is a guess.
    Region(String),
    /// For how many seconds STS asks not to be called.
    RetryAfter(u32),
    Fetched(Fetched),
    Metadata(FetchedMetadata),
    /// The token of the container form.
    ContainerToken(Secret),
    /// The watched file is as it was reported.
    Unchanged,
    Failed(Fault),
}

impl FetchReport {
    pub fn is_outcome(&self) -> bool {
        matches!(
            self,
            FetchReport::Fetched(_)
                | FetchReport::Metadata(_)
                | FetchReport::Unchanged
                | FetchReport::Failed(_)
        )
    }
}
