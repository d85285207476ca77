//! The log writer: a process that writes the log if stderr is a regular file.
//!
//! A write to a regular file cannot be non-blocking. On a frozen file system (a snapshot's `fsfreeze`), or on NFS without its
//! server, it blocks for ever, and even SIGKILL does not end the process. So the other processes write to a pipe, and drop lines
//! when the pipe is full.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::pipe::fcntl_setpipe_size;
use rustix::stdio::{dup2_stderr, stderr};

use super::format::{Level, event_line, format};
use super::sink;
use crate::common::limit;
use crate::common::process::ProcessKind;

/// Capacity of the pipe, which keeps several thousand lines while the log writer hangs or is replaced.
const PIPE_BYTES: usize = 1 << 20;
/// Maximum wait at the supervisor's exit, for the log writer to write the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// Minimum time between the starts of two log writers. A log writer that cannot run ends at once, and its SIGCHLD makes the
/// supervisor start the next one, so this limit prevents a busy loop.
const MIN_LIFE: Duration = Duration::from_secs(1);

/// The log writer of the supervisor. If stderr is no regular file, there is none.
#[derive(Default)]
pub struct LogWriter(Option<Pipe>);

struct Pipe {
    /// The log file: the original stderr. Log writers write to it, and `finish` makes it stderr again.
    file: OwnedFd,
    /// The end that log writers read. It stays open here, so that unread lines survive a killed log writer.
    lines: PipeReader,
    /// A pipe that hangs up when the running log writer ends; `None` before the first start and after a failed one.
    writer: Option<PipeReader>,
    /// The time of the last start, even one that failed; `None` before the first.
    started: Option<Instant>,
}

impl LogWriter {
    /// If stderr is a regular file, replaces it with a pipe, for this process and its later children. Starts a log writer if none
    /// runs. After an error the next call tries again, because the cause may be a system limit.
    pub fn keep_running(&mut self) {
        if fstat(stderr()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file()) {
            self.0 = Pipe::in_place_of_stderr().ok();
        }
        if let Some(pipe) = &mut self.0 {
            pipe.replace_writer(MIN_LIFE);
        }
    }

    /// Restores the log file as stderr, and waits up to `FLUSH_TIME` for the log writer to write the last lines and end. Starts
    /// a log writer first if none runs.
    pub fn finish(self) {
        if let Some(mut pipe) = self.0 {
            pipe.replace_writer(Duration::ZERO);
            _ = dup2_stderr(&pipe.file);
            sink::reset();
            _ = pipe.writer.map(|ended| has_hung_up(&ended, FLUSH_TIME));
        }
    }
}

impl Pipe {
    fn in_place_of_stderr() -> io::Result<Self> {
        let file = stderr().try_clone_to_owned()?;
        // Set O_APPEND, which `2>FILE` does not set. Without it, the first write after a truncation by logrotate (copytruncate)
        // would go to the old offset, and the file would begin with zeros.
        _ = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags | OFlags::APPEND));
        let (lines, pipe) = io::pipe()?;
        _ = fcntl_setpipe_size(&pipe, PIPE_BYTES);
        dup2_stderr(&pipe)?;
        sink::reset();
        Ok(Pipe { file, lines, writer: None, started: None })
    }

    /// Starts a log writer if none runs and the last start was at least `min_life` ago.
    fn replace_writer(&mut self, min_life: Duration) {
        if self.started.is_none_or(|started| started.elapsed() >= min_life)
            && self.writer.as_ref().is_none_or(|ended| has_hung_up(ended, Duration::ZERO))
        {
            let is_first_failure = self.started.is_none() || self.writer.is_some();
            self.started = Some(Instant::now());
            let started = self.start_writer();
            if is_first_failure && let Err(error) = &started {
                let text = format!("log writer cannot be started: {}", limit::name(error));
                let line = event_line(&format(), Level::Warning, &text, SystemTime::now()) + "\n";
                // Write the line to the file itself, because without a log writer nobody reads the pipe.
                _ = rustix::io::write(&self.file, line.as_bytes());
            }
            self.writer = started.ok();
        }
    }

    fn start_writer(&self) -> io::Result<PipeReader> {
        let (ended, end) = io::pipe()?;
        let mut command = ProcessKind::LogWriter.command();
        command.env_clear().stdin(self.lines.try_clone()?).stdout(end);
        command.stderr(self.file.try_clone()?).spawn()?;
        Ok(ended)
    }
}

/// Waits until the other end of a pipe is closed; false after `timeout`.
fn has_hung_up(pipe: &PipeReader, timeout: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
    poll(&mut fds, Timespec::try_from(timeout).ok().as_ref()) == Ok(1)
}

/// Runs the log writer until every process has closed the pipe.
pub fn run() {
    // Block all signals: a signal to the whole service must not end the log writer before it has written the last lines. The log
    // writer ends by itself when the other processes have ended.
    _ = SigSet::all().thread_block();
    let mut buffer = vec![b'\n'; 1 << 16];
    let mut start = 1;
    while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer[1..]) {
        // A full disk loses these lines, and may cut one of them. So the next write starts with the newline in `buffer[0]`.
        start = usize::from(std::io::stderr().write_all(&buffer[start..=length]).is_ok());
    }
}
