//! What the processes tell each other.

pub mod fetch;
pub mod server_state;
