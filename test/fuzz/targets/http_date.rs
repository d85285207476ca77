//! Any time: as a `Date` header, as the documents and STS write it, and as a number. What is written can be read again.

#![no_main]

use ec2_role::common::clock;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(time) = httpdate::parse_http_date(text) {
        let written = httpdate::fmt_http_date(time);
        assert_eq!(
            httpdate::parse_http_date(&written).ok(),
            Some(time),
            "{written}"
        );
    }
    if let Some(time) = clock::parse_iso8601(text) {
        let written = clock::iso8601(time);
        // Before the year 1 and after 9999 nothing is written; who needs a time that can be looks for that.
        if !written.is_empty() {
            let read = clock::parse_iso8601(&written).map(clock::epoch_seconds);
            assert_eq!(read, Some(clock::epoch_seconds(time)), "{written}");
        }
    }
    if let Some(time) = text.parse().ok().and_then(clock::from_epoch_seconds) {
        _ = clock::iso8601(time);
        _ = clock::shifted(time, i64::MIN);
        _ = clock::shifted(time, i64::MAX);
    }
});
