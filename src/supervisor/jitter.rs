//! The random part of the schedule.

use rustix::rand::{GetRandomFlags, getrandom};

/// A random number from 0 to 1; the middle if the kernel gives none.
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(4) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        _ => 0.5,
    }
}
