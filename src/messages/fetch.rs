//! What supervisor and fetcher tell each other: orders one way, reports the other, a line of JSON each.

use serde_json::{Value, json};

use crate::common::credential::Credential;
use crate::common::fault::Fault;
use crate::common::metadata_snapshot::Snapshot;
use crate::common::session_token::{TokenAuthority, TokenKey};

/// What an fetcher is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// A credential of the role.
    #[default]
    Credential,
    /// The host's other metadata.
    Metadata,
}

/// What the supervisor tells an fetcher, on its stdin.
#[derive(Clone, Default)]
pub struct FetchOrders {
    /// What it is for.
    pub task: Task,
    /// The key of this server's session tokens, by which it knows itself.
    pub token_key: Option<TokenKey>,
    /// The boot of these tokens.
    pub boot_id: String,
    /// The access key id that is served now: a source must not be what is served.
    pub serving: Option<String>,
    /// The region that an earlier fetcher reported.
    pub region: Option<String>,
    /// Learnt by an earlier fetcher: how far this clock is behind STS's, in seconds.
    pub clock_offset: i64,
    /// Learnt by an earlier fetcher: the longest life that STS allows.
    pub duration_limit: Option<u32>,
}

impl FetchOrders {
    /// One line, with its end.
    pub fn to_line(&self) -> String {
        let json = json!({
            "metadata": self.task == Task::Metadata,
            "token_key": self.token_key.as_ref().map(TokenKey::to_hex),
            "boot_id": self.boot_id,
            "serving": self.serving,
            "region": self.region,
            "clock_offset": self.clock_offset,
            "duration_limit": self.duration_limit,
        });
        format!("{json}\n")
    }

    /// What knows a token of this server again.
    pub fn own_tokens(&self) -> Option<TokenAuthority> {
        self.token_key
            .as_ref()
            .map(|key| TokenAuthority::new(key, &self.boot_id))
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(line).ok()?;
        Some(FetchOrders {
            task: if json["metadata"].as_bool()? {
                Task::Metadata
            } else {
                Task::Credential
            },
            token_key: json["token_key"].as_str().and_then(TokenKey::from_hex),
            boot_id: json["boot_id"].as_str()?.to_owned(),
            serving: json["serving"].as_str().map(str::to_owned),
            region: json["region"].as_str().map(str::to_owned),
            clock_offset: json["clock_offset"].as_i64()?,
            duration_limit: duration_limit(&json),
        })
    }
}

fn duration_limit(json: &Value) -> Option<u32> {
    json["duration_limit"].as_u64()?.try_into().ok()
}

/// A credential, and what was learnt for the next fetcher.
pub struct Fetched {
    /// The role's credential.
    pub credential: Credential,
    /// How far this clock is behind STS's, in seconds.
    pub clock_offset: i64,
    /// The longest life that STS allows, in seconds, if it is less than what was asked for.
    pub duration_limit: Option<u32>,
}

/// What an fetcher tells the supervisor, a line each on its stdout: any number of steps, then one outcome.
pub enum FetchReport {
    /// What it does now.
    Step(String),
    /// Something the user should know, though it went on.
    Notice(String),
    /// The region in use, known and not guessed.
    Region(String),
    /// It has a credential.
    Fetched(Fetched),
    /// It has the host's other metadata.
    Metadata(Snapshot),
    /// It has none.
    Failed(Fault),
}

impl FetchReport {
    /// One line, with its end.
    pub fn to_line(&self) -> String {
        let json = match self {
            FetchReport::Step(text) => json!({ "step": text }),
            FetchReport::Notice(text) => json!({ "notice": text }),
            FetchReport::Region(name) => json!({ "region": name }),
            FetchReport::Fetched(fetched) => json!({
                "credential": fetched.credential.to_json(),
                "clock_offset": fetched.clock_offset,
                "duration_limit": fetched.duration_limit,
            }),
            FetchReport::Metadata(snapshot) => json!({ "metadata": snapshot.to_json() }),
            FetchReport::Failed(Fault::Permanent(text)) => json!({ "permanent": text }),
            FetchReport::Failed(Fault::Transient(text)) => json!({ "transient": text }),
        };
        format!("{json}\n")
    }

    /// Reads what [`FetchReport::to_line`] wrote.
    pub fn from_line(line: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        if json["credential"].is_object() {
            return Some(FetchReport::Fetched(Fetched {
                credential: Credential::from_json(&json["credential"])?,
                clock_offset: json["clock_offset"].as_i64()?,
                duration_limit: duration_limit(&json),
            }));
        }
        if json["metadata"].is_object() {
            return Snapshot::from_json(&json["metadata"]).map(FetchReport::Metadata);
        }
        text("step")
            .map(FetchReport::Step)
            .or_else(|| text("notice").map(FetchReport::Notice))
            .or_else(|| text("region").map(FetchReport::Region))
            .or_else(|| text("permanent").map(|text| FetchReport::Failed(Fault::Permanent(text))))
            .or_else(|| text("transient").map(|text| FetchReport::Failed(Fault::Transient(text))))
    }
}
