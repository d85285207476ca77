//! Computes when a refresh or a retry is due. Pure: the caller passes in `jitter`, a random number from 0 to 1.

use std::time::Duration;

/// A credential of an hour or more is replaced while at least this much of its life is left. Clients such as botocore, s3cmd and
/// s3fs refresh a credential when 15 to 25 minutes are left. If the served credential had less left, these clients would request
/// it again and again.
const TARGET_LEFT: Duration = Duration::from_secs(30 * 60);
/// [`due`] is at least this time, or half of the lifetime if that is shorter. Without this minimum, a credential that lives for
/// [`TARGET_LEFT`] or less would be replaced at once.
const MIN_USE: Duration = Duration::from_secs(4 * 60);
/// Jitter makes a refresh earlier, by up to this fraction of the wait, and never later. Jitter spreads the refreshes of many
/// hosts, and of the servers of one host.
const JITTER: f64 = 0.1;
/// The first credential after a start or an outage is replaced at a random time ([`spread`]), but not before this fraction of
/// [`due`], because so early a replacement would be useless.
const MIN_SPREAD: f64 = 0.1;
/// Maximum wait before the first retry. Each further retry doubles the maximum, up to `MAX_RETRY`, which is long enough to spare
/// a failing STS and short enough to recover soon.
const FIRST_RETRY: Duration = Duration::from_secs(1);
pub const MAX_RETRY: Duration = Duration::from_secs(60);

/// Returns the maximum time from the receipt of a credential to its replacement: half of the lifetime, or less for a lifetime
/// between 8 minutes and an hour. Examples: a lifetime of an hour gives 30 minutes; one of 15 minutes gives 4.
pub fn due(lifetime: Duration) -> Duration {
    let left = (lifetime / 2).max(TARGET_LEFT.min(lifetime.saturating_sub(MIN_USE)));
    lifetime - left
}

/// Returns when to refresh in a steady state: at [`due`], or up to a tenth earlier.
pub fn steady(lifetime: Duration, jitter: f64) -> Duration {
    earlier(due(lifetime), jitter)
}

/// Returns a wait that is shortened by up to a tenth.
pub fn earlier(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0))
}

/// Returns when to refresh the first credential after a start or an outage: at a random time, so that hosts that started together
/// do not refresh together. The earliest time is a tenth of [`due`], but at least a second; the latest is [`due`].
pub fn spread(lifetime: Duration, jitter: f64) -> Duration {
    let due = due(lifetime);
    let wait = due.mul_f64(MIN_SPREAD + (1.0 - MIN_SPREAD) * jitter.clamp(0.0, 1.0));
    wait.max(FIRST_RETRY.min(due))
}

/// Returns how long to wait after `failures` failures in a row: exponential back-off with equal jitter
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). With full jitter, whose waits are a third
/// shorter on average, a fleet would call STS 1.5 times as often during an outage.
pub fn retry(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    (FIRST_RETRY * 2u32.pow(doublings)).min(MAX_RETRY).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn refresh_is_due_at_half_of_the_lifetime_or_earlier() {
        assert_eq!(due(minutes(60)), minutes(30));
        assert_eq!(due(minutes(15)), minutes(4));
        assert_eq!(due(minutes(12 * 60)), minutes(6 * 60));
        assert_eq!(due(Duration::from_secs(15)), Duration::from_millis(7500));
    }

    #[test]
    fn jitter_only_makes_a_refresh_earlier() {
        assert_eq!(steady(minutes(60), 0.0), minutes(30));
        assert_eq!(steady(minutes(60), 1.0), minutes(27));
    }

    #[test]
    fn first_refresh_falls_anywhere_after_a_tenth_of_the_time() {
        assert_eq!(spread(minutes(60), 0.0), minutes(3));
        assert_eq!(spread(minutes(60), 0.5), Duration::from_secs(990));
        assert_eq!(spread(minutes(60), 1.0), minutes(30));
    }

    #[test]
    fn retries_double_from_one_second_to_a_minute() {
        let most: Vec<u64> = (1..=9).map(|n| retry(n, 1.0).as_secs()).collect();
        assert_eq!(most, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry(u32::MAX, 0.5), Duration::from_secs(45));
        assert_eq!(retry(3, 0.0), Duration::from_secs(2));
    }
}
