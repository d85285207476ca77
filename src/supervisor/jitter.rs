//! Random numbers for the jitter of the schedule.

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns a random number from 0 to 1, or 0.5 if the kernel gives no random bytes.
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(4) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        _ => 0.5,
    }
}
