//! The log writer: a process that writes stderr in the place of the others where stderr is a regular file.
//!
//! A write to a file cannot be told not to wait: on a frozen file system (a snapshot's `fsfreeze`) or a lost NFS server it blocks
//! for ever, and not even SIGKILL ends it. The others write to a pipe without waiting, and lose lines when it is full.

use std::io::{ErrorKind, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::pipe::fcntl_setpipe_size;
use rustix::stdio::{dup2_stderr, stderr};

use super::sink;
use crate::common::process::ProcessKind;

/// Holds a burst of some thousand lines.
const PIPE_BYTES: usize = 1 << 20;
/// What the writer has for the last lines when the server ends.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Lets writing fail where it would end or stop the process: a file beyond RLIMIT_FSIZE, a terminal with `tostop`.
pub fn block_signals_of_writing() {
    _ = SigSet::from_iter([Signal::SIGXFSZ, Signal::SIGTTOU]).thread_block();
}

/// A running log writer.
pub struct LogWriter {
    /// Hangs up when the writer has ended.
    ended: PipeReader,
}

impl LogWriter {
    /// Puts a pipe to a log writer in the place of a stderr that is a regular file, also for processes that this one starts.
    pub fn start() -> Option<Self> {
        let kind = FileType::from_raw_mode(fstat(stderr()).ok()?.st_mode);
        if kind != FileType::RegularFile {
            return None;
        }
        let (lines, pipe) = std::io::pipe().ok()?;
        let (ended, end) = std::io::pipe().ok()?;
        _ = fcntl_setpipe_size(&pipe, PIPE_BYTES);
        let mut command = ProcessKind::LogWriter.command();
        command.env_clear().stdin(lines).stdout(end);
        command.spawn().ok()?;
        dup2_stderr(&pipe).ok()?;
        sink::reset();
        Some(LogWriter { ended })
    }

    /// Closes the log and waits for its last lines.
    pub fn finish(self) {
        if let Ok(nothing) = std::fs::File::create("/dev/null") {
            _ = dup2_stderr(nothing);
            sink::reset();
        }
        let mut fds = [PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
        _ = poll(&mut fds, Timespec::try_from(FLUSH_TIME).ok().as_ref());
    }
}

/// Runs as the log writer, until the last process that has the pipe has ended.
pub fn run() {
    // Whoever signals the whole service wants the last lines too.
    _ = SigSet::all().thread_block();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::stdin().read(&mut buffer) {
            Ok(0) => return,
            // A full disk or a limit loses lines, and later ones are written again.
            Ok(length) => _ = std::io::stderr().write_all(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
