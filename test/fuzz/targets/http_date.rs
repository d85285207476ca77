//! Any time: as a `Date` header, as the documents and STS write it, and as seconds since 1970. What is written can be read again.

#![no_main]

use ec2_role::common::clock;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(time) = httpdate::parse_http_date(text) {
        let setting = httpdate::fmt_http_date(time);
        assert_eq!(
            httpdate::parse_http_date(&setting).ok(),
            Some(time),
            "{setting}"
        );
    }
    if let Some(time) = clock::parse_iso8601(text) {
        let setting = clock::iso8601(time);
        // Before the year 1 and after 9999 nothing is written; who needs a time that can be looks for that.
        if !setting.is_empty() {
            let read = clock::parse_iso8601(&setting).map(clock::epoch_seconds);
            assert_eq!(read, Some(clock::epoch_seconds(time)), "{setting}");
        }
    }
    if let Ok(seconds) = text.parse() {
        let time = clock::shifted(std::time::UNIX_EPOCH, seconds);
        _ = (clock::iso8601(time), clock::epoch_seconds(time));
    }
});
