//! The messages between the processes.

pub mod fetch_orders;
pub mod fetch_report;
pub mod frame;
pub mod server_state;
