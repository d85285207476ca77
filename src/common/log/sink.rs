//! Writes to stderr without blocking, except if stderr is a regular file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::net::{SendFlags, send};
use rustix::stdio::stderr;

/// How to write to stderr without blocking. O_NONBLOCK is not set on stderr itself, because it would affect every program that
/// shares stderr.
enum Sink {
    /// A socket, such as journald's: send with MSG_DONTWAIT.
    Socket,
    /// A pipe or terminal: opened again with O_NONBLOCK.
    Reopened(File),
    /// Anything else, and a pipe or terminal that cannot be opened again: poll(2) for room before each write. Despite the
    /// poll, a write to a regular file may block, so `log/writer.rs` replaces a regular file by a pipe.
    Polled,
}

/// The sink, chosen by [`open`] or when the first line is written.
static SINK: Mutex<Option<Sink>> = Mutex::new(None);

fn chosen() -> MutexGuard<'static, Option<Sink>> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Discards the sink after stderr was replaced; the next line chooses a new one.
pub(super) fn reset() {
    *chosen() = None;
}

/// Chooses and opens the sink now, for the server, whose seccomp filter later forbids opening files.
pub fn open() {
    chosen().get_or_insert_with(Sink::of_stderr);
}

/// Writes a line. If the write fails or would block, the line is dropped, because a response must not wait for the log.
pub(super) fn write(line: &str) {
    let bytes = line.as_bytes();
    _ = match chosen().get_or_insert_with(Sink::of_stderr) {
        Sink::Socket => send(stderr(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok(),
        Sink::Reopened(file) => file.write_all(bytes).is_ok(),
        Sink::Polled => has_room() && std::io::stderr().write_all(bytes).is_ok(),
    };
}

impl Sink {
    fn of_stderr() -> Sink {
        match fstat(stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Socket) => Sink::Socket,
            Ok(FileType::Fifo | FileType::CharacterDevice) => OpenOptions::new()
                .write(true)
                .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
                .open("/proc/self/fd/2")
                .map_or(Sink::Polled, Sink::Reopened),
            _ => Sink::Polled,
        }
    }
}

fn has_room() -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether stderr is journald's stream: `JOURNAL_STREAM` (systemd.exec(5)) names that stream's device and inode.
pub fn is_journal(journal_stream: Option<&str>) -> bool {
    let id = fstat(stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    id.is_ok_and(|id| journal_stream == Some(&id))
}
