//! Framing of the messages between the processes: one COBS frame for each message.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The last byte of every frame; COBS encoding keeps this byte out of the rest of the frame. A frame of this byte alone is a
/// heartbeat.
pub const FRAME_END: u8 = 0;

pub fn to_frame(message: &impl Serialize) -> Vec<u8> {
    // Encoding into a `Vec` cannot fail for these messages.
    postcard::to_allocvec_cobs(message).unwrap_or_default()
}

pub fn from_frame<Message: DeserializeOwned>(mut frame: Vec<u8>) -> Option<Message> {
    postcard::from_bytes_cobs(&mut frame).ok()
}

/// Removes the first whole frame from the received bytes, and returns it; `None` if the frame is incomplete.
pub fn take_frame(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = received.iter().position(|byte| *byte == FRAME_END)?;
    Some(received.drain(..=end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_in_order_once_their_frame_is_whole() {
        let mut received = [to_frame(&(1, "a\0b")), to_frame(&(2, ""))].concat();
        let end = received.pop().unwrap();
        let mut take = |more: &[u8]| {
            received.extend(more);
            take_frame(&mut received).map(from_frame::<(i32, String)>)
        };
        assert_eq!(take(&[]), Some(Some((1, "a\0b".to_owned()))));
        assert_eq!(take(&[]), None);
        assert_eq!(take(&[end]), Some(Some((2, String::new()))));
        assert_eq!(take(b"\x05x\0"), Some(None));
    }
}
