//! The protocol maps a request, a state and a time to a response. Pure: no clock, socket, environment or log.

pub mod browser;
pub mod container_credentials;
mod directory;
pub mod http;
pub mod imds;
pub mod metrics;
pub mod router;
pub mod state;
