//! The settings of one run, parsed from the command line and the variables.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::file::NamedFile;
use super::pass_through::PassThrough;
use super::role::{RoleArn, RoleName};

pub struct Config {
    pub role: RoleArn,
    pub assume_role: AssumeRole,
    /// The profile to use in AWS's shared files.
    pub profile: Option<String>,
    /// The name of the option or variable that sets STS's region, and the region; `None` as for `endpoint_url`.
    pub region: Option<(String, String)>,
    /// The name of the option or variable that sets STS's URL, and the URL. If `None`, a variable or profile setting of the SDKs
    /// may still set it.
    pub endpoint_url: Option<(String, String)>,
    /// The address to listen on; `None` if stdin is the listening socket.
    pub listen: Option<SocketAddr>,
    pub token_key_file: Option<NamedFile>,
    pub container_token_file: Option<NamedFile>,
    pub json_log: bool,
    pub server: ServerConfig,
    /// The environment variables. The fetcher reads those of AWS's SDKs.
    pub environment: Environment,
}

/// The settings that the supervisor passes on to the server.
#[derive(Clone, Serialize, Deserialize)]
pub struct ServerConfig {
    /// The role's name in the list of roles that clients read.
    pub role_name: RoleName,
    /// Whether a request of the instance form without a session token gets a 401 (IMDSv2 only).
    pub requires_session_token: bool,
    /// Whether a server with a container token serves the instance form too.
    pub both_forms: bool,
    /// Which of the host's metadata is served; `None` without `--pass-through`.
    pub pass_through: Option<PassThrough>,
    /// Whether to answer only clients on this host or on the subnet of the address they connect to.
    pub same_network: bool,
    /// Names that are accepted in the Host header, in addition to those that `browser::check` always accepts.
    pub allow_hosts: Vec<String>,
    pub metrics: bool,
    /// Whether to write no access log.
    pub quiet: bool,
}

/// The duration to request if the user sets none, or if STS refuses a longer one. It is STS's default, and also its maximum if
/// the source credential belongs to a role too (role chaining).
pub const DEFAULT_DURATION_SECONDS: u32 = 3600;

/// Checks a session policy; the error says what is wrong.
pub fn check_policy(text: &str) -> Result<(), String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(policy) if policy.is_object() => Ok(()),
        Ok(_) => Err("a policy is a JSON object".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

/// The parameters of AssumeRole, except the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssumeRole {
    /// The session name; if `None`, the fetcher makes one from the instance's id or the host's name.
    pub session_name: Option<String>,
    pub external_id: Option<String>,
    pub duration_seconds: u32,
    /// The session policy, a JSON text.
    pub policy: Option<String>,
    /// The file with the session policy. Each fetch of a credential reads the file again, because the user may change or mount
    /// the file at any time.
    pub policy_file: Option<NamedFile>,
    pub policy_arns: Vec<String>,
    /// The session tags, as pairs of key and value.
    pub tags: Vec<(String, String)>,
    pub transitive_tag_keys: Vec<String>,
    pub source_identity: Option<String>,
}
