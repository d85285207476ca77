//! The messages between the processes.

mod fetch_orders;
mod fetch_report;
mod frame;
mod server_state;

pub use fetch_orders::{FetchOrders, Task};
pub use fetch_report::{FetchReport, Fetched, Report};
pub use frame::{FRAME_END, from_frame, take_frame, to_frame};
pub use server_state::{Counts, ServerState, ServerUpdate};
