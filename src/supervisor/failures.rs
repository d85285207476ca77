//! Counts and logs failures in a row. If they last for `PATIENCE`, the log says that they may be a mistake of the user, and it
//! repeats this every `REMINDER`. `schedule::retry` computes the time between retries.

use std::time::Duration;

use crate::common::{BootTime, Fault, log};

/// Time after which a fault that is retried is reported as a possible mistake of the user.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time after which the line about a lasting fault is repeated. A log of limited size may have lost the earlier line, because
/// each request of a container adds a line.
const REMINDER: Duration = Duration::from_secs(60 * 60);
/// End of the log line about a fault that has lasted for `PATIENCE` or longer.
pub const MISTAKE: &str = "; it has lasted for over a minute, so it may be a mistake";

/// Repeats `attempt` until it succeeds, with a `pause` between two attempts. The error is a permanent fault.
pub fn until_success<T>(
    pause: impl Fn(),
    mut attempt: impl FnMut() -> Result<T, Fault>,
) -> Result<T, String> {
    let mut failures = Failures::default();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Fault::Permanent(text)) => return Err(text),
            Err(Fault::Transient(text)) => failures.warn(&text, BootTime::now()),
        }
        pause();
    }
}

/// Counts the failures in a row. After a success, the caller replaces this value with a new one.
#[derive(Default)]
pub struct Failures {
    pub count: u32,
    /// The time from which the next failure looks like a mistake; not used before the first failure.
    mistake_due: BootTime,
    last: String,
}

impl Failures {
    /// Counts a failure, and returns the end of its log line: `MISTAKE` as soon as the failures have lasted for `PATIENCE`, and
    /// again every `REMINDER`; otherwise an empty text.
    pub fn note(&mut self, now: BootTime) -> &'static str {
        let is_due = self.count > 0 && now >= self.mistake_due;
        if is_due || self.count == 0 {
            self.mistake_due = now.after(if is_due { REMINDER } else { PATIENCE });
        }
        self.count += 1;
        if is_due { MISTAKE } else { "" }
    }

    /// Counts a failure. Returns what `note` returns, the end of the log line, or `None` if nothing is to be logged: the text
    /// equals the last one and `MISTAKE` is not due.
    pub fn news(&mut self, text: &str, now: BootTime) -> Option<&'static str> {
        let mistake = self.note(now);
        let is_news = self.last != text || !mistake.is_empty();
        text.clone_into(&mut self.last);
        is_news.then_some(mistake)
    }

    /// Counts a failure, and logs it if it is news.
    pub fn warn(&mut self, text: &str, now: BootTime) {
        if let Some(mistake) = self.news(text, now) {
            log::warning(&format!("{text}; trying again{mistake}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn fault_looks_like_a_mistake_after_a_minute_and_each_hour() {
        let mut failures = Failures::default();
        let mut ends =
            |times: &[u64]| times.iter().map(|at| failures.note(BootTime(*at))).collect::<Vec<_>>();
        assert_eq!(ends(&[5, 59_999, 60_004, 60_005, 90_000]), ["", "", "", MISTAKE, ""]);
        assert_eq!(ends(&[3_660_004, 3_660_005, 3_660_006, 7_260_005]), ["", MISTAKE, "", MISTAKE]);
    }

    #[test]
    fn attempts_end_with_success_or_a_permanent_fault() {
        let mut faults = [Fault::Transient("a".into()), Fault::Permanent("b".into())].into_iter();
        let mut attempt = || faults.next().map_or(Ok(7), Err);
        let pauses = Cell::new(0);
        let pause = || pauses.set(pauses.get() + 1);
        assert_eq!(until_success(pause, &mut attempt), Err("b".to_owned()));
        assert_eq!(pauses.get(), 1);
        assert_eq!(until_success(pause, &mut attempt), Ok(7));
        assert_eq!(pauses.get(), 1);
    }
}
