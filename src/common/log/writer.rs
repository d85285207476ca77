//! The log writer: a process that writes the log if stderr is a regular file.
//!
//! A write to a regular file cannot be non-blocking. On a frozen file system (a snapshot's `fsfreeze`), or on NFS without its
//! server, it blocks for ever, and even SIGKILL does not end the process. So the other processes write to a pipe, and drop lines
//! when the pipe is full.

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

/// Capacity of the pipe: several thousand lines.
const PIPE_BYTES: usize = 1 << 20;
/// Maximum time that the supervisor waits at its end for the log writer to write the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Blocks SIGXFSZ, so that a write beyond RLIMIT_FSIZE fails instead of ending the process, and SIGTTOU, so that a write to a
/// terminal with `tostop` does not stop a background process.
pub fn block_signals_of_writing() {
    _ = SigSet::from_iter([Signal::SIGXFSZ, Signal::SIGTTOU]).thread_block();
}

pub struct LogWriter {
    /// A pipe that hangs up when the log writer has ended.
    ended: PipeReader,
}

impl LogWriter {
    /// Starts a log writer if stderr is a regular file, and replaces stderr with a pipe to it, for this process and its later
    /// children.
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

    /// Closes the log, and waits until the log writer has written the last lines.
    pub fn finish(self) {
        if let Ok(nothing) = std::fs::File::create("/dev/null") {
            _ = dup2_stderr(nothing);
            sink::reset();
        }
        let mut fds = [PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
        _ = poll(&mut fds, Timespec::try_from(FLUSH_TIME).ok().as_ref());
    }
}

/// Runs the log writer until every process has closed the pipe.
pub fn run() {
    // Block all signals: a signal to the whole service must not lose its last lines. The log writer ends when the other processes
    // have ended.
    _ = SigSet::all().thread_block();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::stdin().read(&mut buffer) {
            Ok(0) => return,
            // An error is ignored: a full disk or a size limit loses these lines, but later writes may succeed.
            Ok(length) => _ = std::io::stderr().write_all(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
