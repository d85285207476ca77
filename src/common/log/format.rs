//! Formats log lines, limits their length, and escapes characters that could forge a line.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::clock;

/// Maximum length of a line, without its priority and newline. A write of up to 4,096 bytes (PIPE_BUF) to a pipe is atomic, so
/// lines of several processes never mix.
const MAX_LINE: usize = 4096 - "<N>\n".len();
/// Maximum logged length of a request line. It keeps clients from filling the log with long lines. SDKs' request lines, of about
/// 100 bytes, are logged whole.
const MAX_REQUEST: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Whether each line begins with `<N>`, the priority of sd-daemon(3), which journald removes.
    pub priority: bool,
    /// Whether each text line of an event begins with the time. JSON lines and access lines always contain the time.
    pub time: bool,
    /// Whether each line is a JSON object.
    pub json: bool,
    /// Value of the `role` field in each JSON line; text lines do not contain it.
    pub role: String,
}

/// The current format; the default until [`set_format`] is called.
static FORMAT: LazyLock<RwLock<Format>> = LazyLock::new(RwLock::default);

pub fn set_format(format: Format) {
    *FORMAT.write().unwrap_or_else(PoisonError::into_inner) = format;
}

pub(crate) fn format() -> RwLockReadGuard<'static, Format> {
    FORMAT.read().unwrap_or_else(PoisonError::into_inner)
}

/// The priority of a line; the values are those of syslog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A failure that only the user can correct, or one that ends the process.
    Error = 3,
    /// Any other failure, or a notice of a possible mistake.
    Warning = 4,
    #[default]
    Info = 6,
}

pub(super) fn event_line(format: &Format, level: Level, text: &str, at: SystemTime) -> String {
    let time = clock::iso8601(at);
    let line = |message: &str| match (format.json, format.time) {
        (true, _) => json!({
            "time": time, "level": level, "event": "message",
            "role": format.role, "message": message,
        })
        .to_string(),
        (false, true) => format!("{time} ec2-role: {message}"),
        (false, false) => format!("ec2-role: {message}"),
    };
    let mut text = printable(text);
    if line(&text).len() > MAX_LINE {
        // Leave out the middle of the text, because the remedy is at its end. Keep half as much text for JSON, whose escapes can
        // double the length.
        let room = MAX_LINE.saturating_sub(line("…").len());
        let half = if format.json { room / 4 } else { room / 2 };
        let middle = text.floor_char_boundary(half)..text.ceil_char_boundary(text.len() - half);
        text.replace_range(middle, "…");
    }
    line(&text)
}

/// An answered request, for an access line.
pub(crate) struct Access<'a> {
    pub client: IpAddr,
    pub at: SystemTime,
    pub request_line: &'a str,
    pub status: u16,
    pub body_length: usize,
    pub took: Duration,
}

/// Formats an access line: a JSON object, or the common log format followed by the response time in seconds:
/// `172.17.0.3 - - [17/Jan/2015:04:58:54 +0000] "GET /latest/ HTTP/1.1" 200 9 0.0003`.
pub(super) fn access_line(format: &Format, access: &Access) -> String {
    let Access { client, at, request_line, status, body_length, took } = *access;
    let seconds = took.as_secs_f64();
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() && !"\"\\".contains(c);
    let mut request = escaped(request_line, is_plain);
    request.truncate(request.floor_char_boundary(MAX_REQUEST));
    if format.json {
        json!({
            "time": clock::iso8601(at), "level": Level::Info, "event": "request",
            "role": format.role, "client": client, "request": request, "status": status,
            "bytes": body_length, "seconds": (seconds * 1e4).round() / 1e4,
        })
        .to_string()
    } else {
        // `fmt_http_date` returns "Sat, 17 Jan 2015 04:58:54 GMT"; the common log format has another order.
        let date = httpdate::fmt_http_date(at);
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        format!(
            "{client} - - [{day}/{month}/{year}:{time} +0000] \"{request}\" {status} {body_length} {seconds:.4}"
        )
    }
}

/// Escapes characters that could hide or forge text in a terminal, such as control characters and U+202E, which reorders text.
/// Only printable ASCII, `…`, and the letters and digits of every script except `INVISIBLE` stay as they are.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, |c| {
        c == ' '
            || c.is_ascii_graphic()
            || c == '…'
            || c.is_alphanumeric() && !INVISIBLE.contains(&c)
    })
}

/// Hangul fillers: Unicode classifies them as letters, but they are blank.
const INVISIBLE: [char; 4] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}'];

/// Escapes characters that are not plain: each of their bytes becomes `\xNN`.
fn escaped(text: &str, is_plain: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) {
            escaped.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_events_lose_their_middle_so_that_the_line_fits() {
        let json = Format { json: true, role: "r".repeat(2048), ..Format::default() };
        let now = SystemTime::UNIX_EPOCH;
        for text in ["\"", "é", "\u{1}"] {
            let text = format!("first{}last", text.repeat(9000));
            let line = event_line(&json, Level::Error, &text, now);
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!((2047..=4096 - "<3>\n".len()).contains(&line.len()), "{line}");
            assert_eq!(object["level"], "error");
            let message = object["message"].as_str().unwrap();
            assert!(message.starts_with("first") && message.ends_with("last"), "{line}");
            let line = event_line(&Format::default(), Level::Error, &text, now);
            assert!((2047..=4096 - "<3>\n".len()).contains(&line.len()), "{line}");
        }
    }

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        for (text, line) in [
            ("a\u{1b}[2J\r\n\"x\" é\u{85}", "a\\x1b[2J\\x0d\\x0a\"x\" é\\xc2\\x85"),
            ("\u{202e}a\u{200b}", "\\xe2\\x80\\xaea\\xe2\\x80\\x8b"),
            ("\u{2028}\u{feff}", "\\xe2\\x80\\xa8\\xef\\xbb\\xbf"),
            ("\u{3164}…", "\\xe3\\x85\\xa4…"),
        ] {
            assert_eq!(printable(text), line);
        }
    }
}
