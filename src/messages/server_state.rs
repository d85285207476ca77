//! What the supervisor hands over to the server: all that it serves, in one line of JSON on their channel.

use serde_json::{Value, json};

use crate::common::clock::BootTime;
use crate::common::config::HttpTokens;
use crate::common::credential::Credential;
use crate::common::metadata_snapshot::Snapshot;
use crate::common::pass_through::PassThrough;
use crate::common::role::{RoleArn, RoleName};
use crate::common::secret::Secret;
use crate::common::session_token::TokenKey;

/// All that the server knows. It never learns more: it has nothing of the supervisor's environment, and opens no file for it.
#[derive(Clone)]
pub struct ServerState {
    /// The role.
    pub role: RoleArn,
    /// The name that the list shows.
    pub role_name: RoleName,
    /// Whether requests without a token are served.
    pub http_tokens: HttpTokens,
    /// What session tokens are sealed with.
    pub token_key: TokenKey,
    /// The boot that session tokens belong to.
    pub boot_id: String,
    /// Whether to leave the access log out.
    pub quiet: bool,
    /// Whether only those are answered who are in the network of the address that they ask.
    pub same_network: bool,
    /// Host names that are answered though they have a dot.
    pub allow_hosts: Vec<String>,
    /// Whether `/metrics` is answered.
    pub metrics: bool,
    /// The region in use, if it is more than a guess.
    pub region: Option<String>,
    /// The Authorization token of the container form, if that is answered.
    pub container_token: Option<Secret>,
    /// With a container token, whether the instance form is served too.
    pub both_forms: bool,
    /// What of the host's other metadata is passed through.
    pub pass_through: Option<PassThrough>,
    /// That metadata, once it has been read.
    pub snapshot: Option<Snapshot>,
    /// What the supervisor has counted.
    pub counts: Counts,
    /// The credential, if there is one yet.
    pub credential: Option<Credential>,
}

/// What the supervisor counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Credentials that STS gave.
    pub refreshes: u64,
    /// Errands that brought none.
    pub failures: u64,
    /// Servers that were started after the first.
    pub server_restarts: u64,
}

impl ServerState {
    /// The credential, if it may still be served.
    pub fn valid_credential(&self, now: BootTime) -> Option<&Credential> {
        let credential = self.credential.as_ref();
        credential.filter(|credential| credential.is_valid(now))
    }

    /// One line, with its end.
    pub fn to_line(&self) -> String {
        let json = json!({
            "role": self.role.as_str(),
            "role_name": self.role_name.as_str(),
            "tokens_required": self.http_tokens == HttpTokens::Required,
            "token_key": self.token_key.to_hex(),
            "boot_id": self.boot_id,
            "quiet": self.quiet,
            "same_network": self.same_network,
            "allow_hosts": self.allow_hosts,
            "metrics": self.metrics,
            "region": self.region,
            "container_token": self.container_token.as_ref().map(Secret::expose),
            "both_forms": self.both_forms,
            "pass_through": self.pass_through.map(|what| [what.user_data, what.identity_signature]),
            "snapshot": self.snapshot.as_ref().map(Snapshot::to_json),
            "counts": [self.counts.refreshes, self.counts.failures, self.counts.server_restarts],
            "credential": self.credential.as_ref().map(Credential::to_json),
        });
        format!("{json}\n")
    }

    /// Reads what [`ServerState::to_line`] wrote.
    pub fn from_line(line: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| json[key].as_str();
        Some(ServerState {
            role: RoleArn::parse(text("role")?).ok()?,
            role_name: RoleName::parse(text("role_name")?).ok()?,
            http_tokens: if json["tokens_required"].as_bool()? {
                HttpTokens::Required
            } else {
                HttpTokens::Optional
            },
            token_key: TokenKey::from_hex(text("token_key")?)?,
            boot_id: text("boot_id")?.to_owned(),
            quiet: json["quiet"].as_bool()?,
            same_network: json["same_network"].as_bool()?,
            allow_hosts: json["allow_hosts"]
                .as_array()?
                .iter()
                .map(|name| name.as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
            metrics: json["metrics"].as_bool()?,
            region: text("region").map(str::to_owned),
            container_token: text("container_token").map(Secret::new),
            both_forms: json["both_forms"].as_bool()?,
            pass_through: match &json["pass_through"] {
                Value::Null => None,
                what => Some(PassThrough {
                    user_data: what[0].as_bool()?,
                    identity_signature: what[1].as_bool()?,
                }),
            },
            snapshot: match &json["snapshot"] {
                Value::Null => None,
                snapshot => Some(Snapshot::from_json(snapshot)?),
            },
            counts: Counts {
                refreshes: json["counts"][0].as_u64()?,
                failures: json["counts"][1].as_u64()?,
                server_restarts: json["counts"][2].as_u64()?,
            },
            credential: match &json["credential"] {
                Value::Null => None,
                credential => Some(Credential::from_json(credential)?),
            },
        })
    }
}
