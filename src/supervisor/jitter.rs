//! Random numbers for the jitter of the schedule.

use ring::rand::{SystemRandom, generate};

/// Returns a random number from 0 to 1, or 0.5 if the kernel gives no random bytes.
pub fn jitter() -> f64 {
    match generate(&SystemRandom::new()) {
        Ok(random) => f64::from(u32::from_ne_bytes(random.expose())) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_spread_between_0_and_1() {
        let numbers: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)), "{numbers:?}");
        let count_above = |least: f64| numbers.iter().filter(|number| **number > least).count();
        assert!((1..100).contains(&count_above(0.5)), "{numbers:?}");
    }
}
