//! Modules that every process uses: values, clocks, files, the log. They import nothing from the other folders of `src/`.

pub mod clock;
pub mod config;
pub mod credential;
pub mod environment;
pub mod fault;
pub mod file;
pub mod http_headers;
pub mod limit;
pub mod log;
pub mod metadata_snapshot;
pub mod pass_through;
pub mod process;
pub mod role;
pub mod secret;
pub mod session_token;
