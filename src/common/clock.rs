//! Reads CLOCK_BOOTTIME, and formats and parses the times of the wall clock.
//!
//! The deadlines of credentials and session tokens are on CLOCK_BOOTTIME, which nobody can set and which counts during
//! suspend. The wall clock is for times that others read: in signatures, documents, HTTP headers and log lines.

use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::{Deserialize, Serialize};

/// A point on CLOCK_BOOTTIME, in milliseconds since the machine booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootTime(pub u64);

impl BootTime {
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        BootTime(time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
    }

    /// The point that is `span` later; saturates at the maximum.
    pub fn after(self, span: Duration) -> Self {
        BootTime(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `now` to this point; zero if this point is past.
    pub(crate) fn left(self, now: BootTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

/// Formats a time as in EC2's documents, `2026-01-31T18:20:00Z`: whole seconds in UTC, because some SDKs parse no other form.
pub fn iso8601(time: SystemTime) -> String {
    // Drop the fraction of a second, because `fmt` would write it. For a year before 1 or after 9999, `fmt` fails and the result
    // is empty.
    DateTime::from_secs(epoch_seconds(time)).fmt(Format::DateTime).unwrap_or_default()
}

/// Parses an RFC 3339 time, which ends in `Z` or an offset. The fraction is optional. The offset may lack its colon, because
/// Python's `%z` writes `+0000`.
pub fn parse_iso8601(text: &str) -> Option<SystemTime> {
    let parse = |text: &str| DateTime::from_str(text, Format::DateTimeWithOffset).ok();
    let time = parse(text).or_else(|| {
        let (before, minutes) = text.split_at_checked(text.len().checked_sub(2)?)?;
        parse(&format!("{before}:{minutes}"))
    });
    SystemTime::try_from(time?).ok()
}

/// Returns the whole seconds since 1970, negative for earlier times.
pub fn epoch_seconds(time: SystemTime) -> i64 {
    DateTime::from(time).secs()
}

/// Adds seconds, which can be negative, to a time; returns the time unchanged if the sum is out of range.
pub fn shifted(time: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { time.checked_sub(by) } else { time.checked_add(by) }.unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_are_parsed_in_every_form_and_written_in_ec2s() {
        let time = UNIX_EPOCH + Duration::from_secs(1_685_621_200);
        assert_eq!(iso8601(time), "2023-06-01T12:06:40Z");
        assert_eq!(parse_iso8601("2023-06-01T12:06:40Z"), Some(time));
        assert_eq!(parse_iso8601("2023-06-01T14:06:40+02:00"), Some(time));
        assert_eq!(parse_iso8601("2023-06-01T12:06:40+0000"), Some(time));
        assert_eq!(
            parse_iso8601("2023-06-01T10:06:40.5-0200").map(iso8601),
            parse_iso8601("2023-06-01T12:06:40Z").map(iso8601)
        );
        assert_eq!(
            iso8601(parse_iso8601("2023-06-01T12:06:40.227783Z").unwrap()),
            "2023-06-01T12:06:40Z"
        );
        assert_eq!(epoch_seconds(time), 1_685_621_200);
        assert_eq!(epoch_seconds(UNIX_EPOCH - Duration::from_secs(1)), -1);
        for wrong in
            ["", "yesterday", "2023-06-01", "2023-13-01T12:06:40Z", "2023-06-01T12:06:40+00", "é"]
        {
            assert_eq!(parse_iso8601(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn boot_time_is_the_uptime_in_milliseconds() {
        let earlier = BootTime::now().0;
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let (seconds, hundredths) = uptime.split(' ').next().unwrap().split_once('.').unwrap();
        let uptime: u64 = format!("{seconds}{hundredths}").parse().unwrap();
        assert!((earlier / 10..=BootTime::now().0 / 10).contains(&uptime), "{earlier} {uptime}");
    }

    #[test]
    fn a_time_is_shifted_in_both_directions() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!([-7, 0, 7].map(|by| shifted(at(10), by)), [at(3), at(10), at(17)]);
    }

    #[test]
    fn boot_time_saturates_at_both_ends() {
        assert_eq!(BootTime(5).left(BootTime(7)), Duration::ZERO);
        assert_eq!(BootTime(7).left(BootTime(5)), Duration::from_millis(2));
        assert_eq!(BootTime(u64::MAX).after(Duration::from_secs(1)), BootTime(u64::MAX));
    }
}
