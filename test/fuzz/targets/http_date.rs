//! Parses any text as an HTTP date and as an ISO 8601 time. Checks that a parsed time, formatted and parsed again, is the same to
//! the second.

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
        _ = clock::shifted(time, i64::MIN);
        _ = clock::shifted(time, i64::MAX);
        // Times before the year 1 and after 9999 are written as an empty text.
        if !written.is_empty() {
            let parsed = clock::parse_iso8601(&written).map(clock::epoch_seconds);
            assert_eq!(parsed, Some(clock::epoch_seconds(time)), "{written}");
        }
    }
});
