//! When a refresh is due. Pure: chance comes in as a number from 0 to 1.

use std::time::Duration;

/// What an hour's credential has left when it is replaced. SDKs begin to ask again 15 to 25 minutes before expiry (botocore,
/// s3cmd, s3fs), so nobody ever gets less than they want.
const TARGET_LEFT: Duration = Duration::from_secs(30 * 60);
/// The least time between two refreshes of a long enough credential; of the shortest that STS gives, 15 minutes, it leaves 11.
const MIN_USE: Duration = Duration::from_secs(4 * 60);
/// A refresh comes earlier by up to this part of its time, so that hosts drift apart. Only ever earlier.
const JITTER: f64 = 0.1;
/// The first retry comes after at most this, and each further one after at most twice as long …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this: long enough not to burden a failing STS, short enough to be well again soon.
pub const MAX_RETRY: Duration = Duration::from_secs(60);

/// How long after its receipt a credential with this lifetime is due to be replaced, at the latest: 30 minutes before the end
/// of an hour's, 11 before the end of 15 minutes'; half way through one that is shorter.
pub fn due(lifetime: Duration) -> Duration {
    let left = (lifetime / 2).max(TARGET_LEFT.min(lifetime.saturating_sub(MIN_USE)));
    lifetime - left
}

/// When to refresh in a steady state: [`due`], earlier by up to a tenth.
pub fn steady(lifetime: Duration, jitter: f64) -> Duration {
    due(lifetime).mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0))
}

/// When to refresh for the first time after a start or an outage: anywhere until [`due`], so that hosts that began together
/// spread out at once; but not within a second, lest a broken chance ask without pause.
pub fn spread(lifetime: Duration, jitter: f64) -> Duration {
    due(lifetime)
        .mul_f64(jitter.clamp(0.0, 1.0))
        .max(FIRST_RETRY.min(due(lifetime)))
}

/// How long to wait after the `failures`th failure in a row (1, 2 …): equal jitter, half of it fixed
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). With full jitter a host of an hour's outage
/// asks every 30 s in the mean, and a fleet of them twice as often as it should.
pub fn retry(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    (FIRST_RETRY * 2u32.pow(doublings))
        .min(MAX_RETRY)
        .mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn an_hours_credential_is_replaced_with_30_minutes_left_and_15_minutes_with_11_left() {
        assert_eq!(due(minutes(60)), minutes(30));
        assert_eq!(due(minutes(15)), minutes(4));
        assert_eq!(due(minutes(12 * 60)), minutes(6 * 60));
        assert_eq!(due(Duration::from_secs(15)), Duration::from_millis(7500));
    }

    #[test]
    fn the_jitter_is_only_ever_earlier() {
        assert_eq!(steady(minutes(60), 0.0), minutes(30));
        assert_eq!(steady(minutes(60), 1.0), minutes(27));
    }

    #[test]
    fn the_first_refresh_falls_anywhere_until_it_is_due() {
        assert_eq!(spread(minutes(60), 0.0), Duration::from_secs(1));
        assert_eq!(spread(minutes(60), 0.5), minutes(15));
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
