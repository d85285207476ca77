//! One frame for each message.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The last byte of every frame, and of no part of one (COBS). A frame of this byte alone is a heartbeat.
pub const END: u8 = 0;

pub fn to_frame(message: &impl Serialize) -> Vec<u8> {
    // Into memory it cannot fail.
    postcard::to_allocvec_cobs(message).unwrap_or_default()
}

pub fn from_frame<Message: DeserializeOwned>(mut frame: Vec<u8>) -> Option<Message> {
    postcard::from_bytes_cobs(&mut frame).ok()
}

/// The first whole frame of the bytes that a peer has sent.
pub fn take_frame(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = received.iter().position(|byte| *byte == END)?;
    Some(received.drain(..=end).collect())
}
