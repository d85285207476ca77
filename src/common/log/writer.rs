//! The log writer: the process that writes the log where stderr is a regular file.
//!
//! A write to a file cannot be non-blocking: on a frozen file system (a snapshot's `fsfreeze`) or one whose NFS server is lost it
//! blocks for ever, and not even SIGKILL ends the process. So the other processes write to a pipe, and drop lines when it is full.

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

/// Capacity of the pipe: a burst of several thousand lines.
const PIPE_BYTES: usize = 1 << 20;
/// How long the supervisor waits at its end for the writer to write the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Blocks SIGXFSZ, so that a write beyond RLIMIT_FSIZE fails instead of ending the process, and SIGTTOU, so that a write to a
/// terminal with `tostop` does not stop a background process.
pub fn block_signals_of_writing() {
    _ = SigSet::from_iter([Signal::SIGXFSZ, Signal::SIGTTOU]).thread_block();
}

pub struct LogWriter {
    /// Hangs up when the writer has ended.
    ended: PipeReader,
}

impl LogWriter {
    /// If stderr is a regular file, replaces it with a pipe to a new log writer, for this process and its later children.
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

/// Runs as the log writer until the last writer of the pipe has ended.
pub fn run() {
    // A signal to the whole service must not lose its last lines; the writer ends when the other processes have.
    _ = SigSet::all().thread_block();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::stdin().read(&mut buffer) {
            Ok(0) => return,
            // A full disk or a size limit loses these lines; later ones may be written again.
            Ok(length) => _ = std::io::stderr().write_all(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
