//! One line on stderr at a time. A line never panics, never waits for a reader and never holds a byte that could forge another.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::net::{SendFlags, send};

/// A pipe takes a write of up to this much whole or not at all (PIPE_BUF on Linux), so lines of several processes never mix.
const MAX_LINE: usize = 4096;

/// So much of a line is the request, so that what was answered has room behind it.
const MAX_REQUEST: usize = MAX_LINE - 64;

/// Writes one event: `ec2-role: TEXT`.
pub fn event(text: &str) {
    let mut line = String::from("ec2-role: ");
    escape(text, |character| character.is_control(), &mut line);
    write_line(line);
}

/// Writes an event unless it is the last of these again.
pub fn event_once(last: &mut String, text: &str) {
    if last != text {
        event(text);
        text.clone_into(last);
    }
}

/// Writes one access in NCSA's common log format, with the seconds that the answer took at its end:
/// `172.17.0.3 - - [17/Jan/2015:04:58:54 +0000] "GET /latest/ HTTP/1.1" 200 9 0.0003`.
pub fn access(
    peer: Option<IpAddr>,
    at: SystemTime,
    request_line: &str,
    status: u16,
    body_length: usize,
    took: Duration,
) {
    let mut line = String::with_capacity(160);
    match peer {
        Some(address) => _ = write!(line, "{address}"),
        None => line.push('-'),
    }
    // "Sat, 17 Jan 2015 04:58:54 GMT", in another order.
    let date = httpdate::fmt_http_date(at);
    let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    _ = write!(line, " - - [{day}/{month}/{year}:{time} +0000] \"");
    // What it holds is a client's: nothing that a terminal or a reader would take for anything but itself.
    let is_plain = |character: char| character == ' ' || character.is_ascii_graphic();
    let is_odd = |character: char| !is_plain(character) || "\"\\".contains(character);
    escape(request_line, is_odd, &mut line);
    line.truncate(line.floor_char_boundary(MAX_REQUEST));
    _ = write!(line, "\" {status} {body_length} {:.4}", took.as_secs_f64());
    write_line(line);
}

/// Appends `text`, with the bytes of odd characters written as `\xNN`.
fn escape(text: &str, is_odd: impl Fn(char) -> bool, line: &mut String) {
    for character in text.chars() {
        if !is_odd(character) {
            line.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            _ = write!(line, "\\x{byte:02x}");
        }
    }
}

fn write_line(mut line: String) {
    line.truncate(line.floor_char_boundary(MAX_LINE - 1));
    line.push('\n');
    // Whether a line was written changes nothing: a log that nobody reads, a full disk or a closed terminal stops no answer.
    _ = match SINK.get_or_init(Sink::of_stderr) {
        Sink::Socket => send(
            rustix::stdio::stderr(),
            line.as_bytes(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
        .is_ok(),
        Sink::Reopened(file) => (&*file).write_all(line.as_bytes()).is_ok(),
        Sink::File => std::io::stderr().write_all(line.as_bytes()).is_ok(),
        Sink::Shared => stderr_has_room() && std::io::stderr().write_all(line.as_bytes()).is_ok(),
    };
}

/// How to write to stderr without waiting. O_NONBLOCK on stderr itself would be set for every program that shares it.
enum Sink {
    /// journald's, under systemd: a flag of the call says not to wait.
    Socket,
    /// A pipe or terminal, opened once more and not blocking.
    Reopened(File),
    /// A file, which never blocks.
    File,
    /// What could not be opened again: asked first whether it has room.
    Shared,
}

static SINK: OnceLock<Sink> = OnceLock::new();

impl Sink {
    fn of_stderr() -> Sink {
        const STDERR: &str = "/proc/self/fd/2";
        let Ok(kind) = std::fs::metadata(STDERR).map(|metadata| metadata.file_type()) else {
            return Sink::Shared;
        };
        if kind.is_socket() {
            return Sink::Socket;
        }
        if kind.is_file() {
            return Sink::File;
        }
        if kind.is_fifo() || kind.is_char_device() {
            let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
            if let Ok(file) = OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(STDERR)
            {
                return Sink::Reopened(file);
            }
        }
        Sink::Shared
    }
}

fn stderr_has_room() -> bool {
    let stderr = rustix::stdio::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let mut line = String::new();
        let text = "a\u{1b}[2J\r\n\"x\" é\u{85}";
        escape(text, |character| character.is_control(), &mut line);
        assert_eq!(line, "a\\x1b[2J\\x0d\\x0a\"x\" é\\xc2\\x85");
    }
}
