//! The settings of one run, parsed: what the command line and the variables say.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::file::NamedFile;
use super::pass_through::PassThrough;
use super::role::{RoleArn, RoleName};

/// Everything that can be set, parsed.
pub struct Config {
    /// The role to assume.
    pub role: RoleArn,
    /// What else to ask AssumeRole for.
    pub assume_role: AssumeRole,
    /// The profile of the shared files.
    pub profile: Option<String>,
    /// The region of STS.
    pub region: Option<String>,
    /// Where STS is, in place of AWS's own.
    pub endpoint_url: Option<String>,
    /// Where to listen.
    pub listen: Listen,
    /// The name that the list shows.
    pub role_name: RoleName,
    /// Whether version 1 is answered.
    pub http_tokens: HttpTokens,
    /// Where the key of session tokens is kept.
    pub token_key_file: Option<NamedFile>,
    /// Where the Authorization token of the container form is.
    pub container_token_file: Option<NamedFile>,
    /// What of the host's metadata is passed through.
    pub pass_through: Option<PassThrough>,
    /// Whether only those are answered who are in the network of the address that they ask.
    pub same_network: bool,
    /// Host names that are answered though they have a dot.
    pub allow_hosts: Vec<String>,
    /// Whether `/metrics` is answered.
    pub metrics: bool,
    /// Whether to leave the access log out.
    pub quiet: bool,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On an address.
    Address(SocketAddr),
    /// On the socket that is stdin.
    Stdin,
}

/// Whether version 1 of the protocol, without tokens, is answered: the names of `modify-instance-metadata-options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpTokens {
    /// Versions 1 and 2.
    Optional,
    /// Version 2 only: no token, 401.
    Required,
}

/// The lifetime that STS gives by default, and the most that it gives to a role that assumes a role (role chaining).
pub const DEFAULT_DURATION_SECONDS: u32 = 3600;

/// What the user may ask AssumeRole for, beside the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssumeRole {
    /// RoleSessionName; the source gives one where this is `None`.
    pub session_name: Option<String>,
    /// ExternalId.
    pub external_id: Option<String>,
    /// DurationSeconds.
    pub duration_seconds: u32,
    /// Policy, a JSON text.
    pub policy: Option<String>,
    /// PolicyArns.
    pub policy_arns: Vec<String>,
    /// Tags, each a key and a value.
    pub tags: Vec<(String, String)>,
    /// TransitiveTagKeys.
    pub transitive_tag_keys: Vec<String>,
    /// SourceIdentity.
    pub source_identity: Option<String>,
}
