//! Modules that every process uses: values, clocks, files, the log. They import nothing from the other folders of `src/`.

pub mod clock;
mod config;
mod credential;
mod environment;
mod fault;
mod file;
mod http_headers;
pub mod limit;
pub mod log;
mod metadata_snapshot;
mod pass_through;
mod process;
mod role;
mod secret;
mod session_token;

pub use clock::BootTime;
pub use config::{AssumeRole, Config, DEFAULT_DURATION_SECONDS, ServerConfig, check_policy};
pub use credential::{Credential, ec2_form};
pub use environment::{Environment, is_first};
pub use fault::{Fault, permanent, transient};
pub use file::{Contents, NamedFile};
pub use http_headers::{CHECK_AGENT, TOKEN_HEADER, TTL_HEADER};
pub use metadata_snapshot::{Item, Snapshot};
pub use pass_through::PassThrough;
pub use process::{ProcessKind, SUPERVISOR_SIGNALS};
pub use role::{RoleArn, RoleName};
pub use secret::{HIDDEN, Secret};
pub use session_token::{TokenAuthority, TokenKey, Ttl};
