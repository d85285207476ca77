//! Limits the rate of the access log, so that no client can fill the host's disk or displace other services' lines.

use std::mem::take;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// Maximum lines in a window of one minute. The containers of a host normally cause fewer. If clients cause this many lines every
/// minute, all of the maximum length, a text log grows by about 20 MB an hour.
const MAX_LINES: u64 = 1000;

pub struct AccessLog {
    window_end: Instant,
    requests: u64,
    /// Requests of `--check` on this machine. They are counted instead of logged, because they come every few seconds and would
    /// outnumber the requests of containers.
    checks: u64,
}

impl AccessLog {
    pub fn new(now: Instant) -> Self {
        AccessLog { window_end: now + WINDOW, requests: 0, checks: 0 }
    }

    /// Counts a request, and returns whether to log it.
    pub fn admits(&mut self, is_check: bool) -> bool {
        let count = if is_check { &mut self.checks } else { &mut self.requests };
        *count += 1;
        !is_check && self.requests <= MAX_LINES
    }

    /// Ends the window if its time is over, and returns the log line that counts the omitted requests.
    pub fn end_window(&mut self, now: Instant) -> Option<String> {
        if now < self.window_end {
            return None;
        }
        self.window_end = now + WINDOW;
        let (checks, excess) =
            (take(&mut self.checks), take(&mut self.requests).saturating_sub(MAX_LINES));
        (checks + excess > 0).then(|| {
            format!(
                "access log: left out {excess} requests beyond {MAX_LINES} a minute and {checks} of --check on this machine"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_rate_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut log = AccessLog::new(start);
        let logged = (0..3 * MAX_LINES).filter(|_| log.admits(false)).count();
        assert_eq!(logged as u64, MAX_LINES);
        assert_eq!(log.end_window(start + WINDOW - Duration::from_nanos(1)), None);
        let line = log.end_window(start + WINDOW).unwrap();
        assert!(line.contains("left out 2000 requests beyond 1000"), "{line}");
        assert!(log.admits(false));
        assert_eq!(log.end_window(start + 2 * WINDOW), None);
    }

    #[test]
    fn checks_are_counted_in_one_line_a_minute() {
        let start = Instant::now();
        let mut log = AccessLog::new(start);
        assert!(!(0..12).any(|_| log.admits(true)) && log.admits(false));
        let line = log.end_window(start + WINDOW).unwrap();
        assert!(line.contains(" 0 requests") && line.contains(" 12 of --check"), "{line}");
        assert!(!log.admits(true));
        assert_eq!(log.end_window(start + WINDOW), None);
        assert!(log.end_window(start + 2 * WINDOW).is_some());
    }
}
