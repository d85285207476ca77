//! Retries of what fails at the start, and the line that says when a fault looks like a mistake.

use std::time::Duration;

use crate::common::{BootTime, Fault, log};

/// Time after which a fault that is retried may be a mistake of the user.
const PATIENCE: Duration = Duration::from_secs(60);
/// Beginning of the line that says so.
pub const MISTAKE: &str = "a fault that lasts for a minute looks like a mistake: ";

/// Repeats `attempt` until it succeeds; the error is a permanent fault. `None` if `pause`, which waits between two attempts,
/// returns false.
pub fn retry<T>(
    mut pause: impl FnMut() -> bool,
    mut attempt: impl FnMut() -> Result<T, Fault>,
) -> Result<Option<T>, String> {
    let mut doubt = Doubt::default();
    loop {
        match attempt() {
            Ok(value) => return Ok(Some(value)),
            Err(Fault::Permanent(text)) => return Err(text),
            Err(Fault::Transient(text)) => doubt.warn(&text, BootTime::now()),
        }
        if !pause() {
            return Ok(None);
        }
    }
}

/// Failures in a row; made anew after a success.
#[derive(Default)]
pub struct Doubt {
    first: Option<BootTime>,
    is_logged: bool,
    last: String,
}

impl Doubt {
    /// Notes a failure. Returns true once: for the first failure that is `PATIENCE` after the first.
    pub fn is_due(&mut self, now: BootTime) -> bool {
        let first = *self.first.get_or_insert(now);
        let is_due = !self.is_logged && now >= first.after(PATIENCE);
        self.is_logged |= is_due;
        is_due
    }

    /// Notes a failure, and logs it unless its text equals the last one's.
    pub fn warn(&mut self, text: &str, now: BootTime) {
        if self.last != text {
            log::warning(&format!("{text}; trying again"));
            text.clone_into(&mut self.last);
        }
        if self.is_due(now) {
            log::warning(&format!("{MISTAKE}{text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_looks_like_a_mistake_once_after_a_minute() {
        let mut doubt = Doubt::default();
        let failures = [5, 59_999, 60_004, 60_005, 90_000].map(|at| doubt.is_due(BootTime(at)));
        assert_eq!(failures, [false, false, false, true, false]);
    }

    #[test]
    fn attempts_end_with_success_permanent_fault_or_pause() {
        let mut faults = [Fault::Transient("a".into()), Fault::Permanent("b".into())].into_iter();
        let mut attempt = || faults.next().map_or(Ok(7), Err);
        assert_eq!(retry(|| false, &mut attempt), Ok(None));
        assert_eq!(retry(|| true, &mut attempt), Err("b".to_owned()));
        assert_eq!(retry(|| true, &mut attempt), Ok(Some(7)));
    }
}
