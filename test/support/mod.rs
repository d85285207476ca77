//! Code that the tests share: it runs the binary, stands in for the binary's peers, and sends requests to it.

pub mod any_answer;
pub mod any_head;
// Only test/load uses all fields of an attack: test/hostile ignores the rates, such as `per_second`.
#[allow(dead_code)]
pub mod attack;
pub mod certificates;
pub mod container;
pub mod directory;
pub mod ec2_role;
pub mod fault;
pub mod host_metadata;
pub mod http;
pub mod json_log;
pub mod loopback;
pub mod metadata_service;
pub mod namespace;
pub mod port;
pub mod skip;
pub mod sts;
pub mod upstream;
pub mod watched;

pub use directory::Directory;
pub use ec2_role::{Ec2Role, Ended, ROLE, Start};
pub use fault::{Fault, When};
pub use port::PortState;
pub use skip::skip;
pub use sts::{Reply, Sts};
pub use watched::{TIMEOUT, Watched, each, until};

/// Part of the secret keys and tokens in test credentials. Dropping an `Ec2Role` searches the log and stdout for this text.
pub const SECRET: &str = "s3cr3t";
