//! Checks the JSON log during all tests, if the variable `TESTED_LOG_FORMAT` is `json`. Every server then logs JSON, unless
//! the test redirects its stderr. The tests see each line converted to the text format.

use std::io::Write;

use ec2_role::common::clock;
use serde_json::Value;

pub fn is_asked() -> bool {
    std::env::var("TESTED_LOG_FORMAT").is_ok_and(|format| format == "json")
}

/// Converts a JSON line to the text format. A line of ec2-role that is not a complete JSON object ends the whole test run.
pub fn text(line: &str) -> String {
    let object: Value =
        serde_json::from_str(line).unwrap_or_else(|error| abort(line, &error.to_string()));
    let of = |key: &str| object[key].as_str().unwrap_or_else(|| abort(line, key));
    let (time, role) = (of("time"), of("role"));
    let Some(at) = clock::parse_iso8601(time) else {
        abort(line, "time")
    };
    let is_known = ["error", "warning", "info"].contains(&of("level"));
    if !is_known || !(role.is_empty() || role.contains(":role/")) {
        abort(line, "level or role");
    }
    match of("event") {
        "message" => format!("{time} ec2-role: {}", of("message")),
        "request" => {
            let date = httpdate::fmt_http_date(at);
            let (day, month, year, time) =
                (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
            let number = |key: &str| object[key].as_f64().unwrap_or_else(|| abort(line, key));
            format!(
                "{} - - [{day}/{month}/{year}:{time} +0000] \"{}\" {} {} {:.4}",
                object["client"].as_str().unwrap_or("-"),
                of("request"),
                number("status"),
                number("bytes"),
                number("seconds")
            )
        }
        event => abort(line, event),
    }
}

/// Ends the whole run, because the thread that reads a log cannot fail a test.
fn abort(line: &str, why: &str) -> ! {
    let text = format!("not a JSON object with time, level, event and role: {why}: {line}\n");
    // Not eprintln!: the test harness would capture its output.
    _ = std::io::stderr().write_all(text.as_bytes());
    std::process::exit(101)
}
