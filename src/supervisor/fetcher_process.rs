//! The supervisor's handle of a fetcher process: starts it, receives its reports, kills it after its outcome or at its deadline.

use std::io::{self, PipeReader, PipeWriter, Read, Write};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};

use super::child_process;
use crate::common::{BootTime, Fault, ProcessKind, limit};
use crate::fetcher::DEADLINE;
use crate::messages::{FetchOrders, FetchReport, from_frame, take_frame, to_frame};

/// Maximum size of the unparsed reports. Every valid report is smaller, because the fetcher limits its contents.
const MAX_REPORT_BYTES: usize = 256 * 1024;

/// Maximum number of killed fetchers that have not ended yet. A killed process cannot end before its current system call returns,
/// which may never happen on a hanging file system.
const MAX_UNREAPED: usize = 8;

/// Runs at most one fetcher process. Each process yields an outcome: its last report, or else a failure added here.
#[derive(Default)]
pub struct Fetcher {
    process: Option<Process>,
    /// Why the last process could not be started; the next `receive` returns it.
    failure: Option<FetchReport>,
    /// Killed processes that have not ended yet.
    unreaped: Vec<Pid>,
}

struct Process {
    pid: Pid,
    /// The supervisor's end of the fetcher's stdin. It is kept open because the fetcher exits when its stdin closes.
    _stdin: PipeWriter,
    reports: PipeReader,
    deadline: BootTime,
    /// The step that the fetcher reported last, for the log line about a timeout.
    step: String,
    received: Vec<u8>,
}

impl Fetcher {
    /// Starts a fetcher with the supervisor's own arguments and environment.
    pub fn start(&mut self, arguments: &[String], orders: &FetchOrders, now: BootTime) {
        self.unreaped.retain(|pid| child_process::reap(*pid).is_none());
        let started = match self.unreaped.len() {
            0..MAX_UNREAPED => Process::start(arguments, orders, now),
            _ => Err(io::Error::other(format!(
                "{MAX_UNREAPED} killed ones hang in the kernel; check the file systems that they read"
            ))),
        };
        match started {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                let cause = limit::name(&error);
                self.failure = Some(failed(format!("fetcher cannot be started: {cause}")));
            }
        }
    }

    /// When to call `receive` at the latest; `None` if no process runs and `failure` is `None`.
    pub fn deadline(&self) -> Option<BootTime> {
        let process = self.process.as_ref().map(|process| process.deadline);
        self.failure.as_ref().map(|_| BootTime(0)).or(process)
    }

    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(|process| process.pid)
    }

    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let process = self.process.as_ref();
        process.map(|process| PollFd::new(&process.reports, PollFlags::IN))
    }

    /// Receives the available reports without waiting. The process is killed after its outcome or at its deadline.
    pub fn receive(&mut self, now: BootTime) -> Vec<FetchReport> {
        let mut reports: Vec<FetchReport> = self.failure.take().into_iter().collect();
        let Some(process) = &mut self.process else {
            return reports;
        };
        let end = child_process::reap(process.pid);
        reports.extend(process.receive());
        let failure = match &end {
            _ if reports.iter().any(FetchReport::is_outcome) => None,
            Some(how) => Some(format!(
                "fetcher {how} while {}; look for an internal error above, or check the memory limit",
                process.step
            )),
            None if now >= process.deadline => Some(format!(
                "fetcher killed after {} s while {}; check what it waits for",
                DEADLINE.as_secs(),
                process.step
            )),
            None => return reports,
        };
        reports.extend(failure.map(failed));
        match end {
            Some(_) => self.process = None,
            None => self.kill(),
        }
        reports
    }

    /// Kills the fetcher and the processes that it has started.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            _ = rustix::process::kill_process_group(process.pid, Signal::KILL);
            self.unreaped.push(process.pid);
        }
    }
}

impl Process {
    fn start(arguments: &[String], orders: &FetchOrders, now: BootTime) -> io::Result<Self> {
        let (their_stdin, mut stdin) = io::pipe()?;
        let (reports, their_stdout) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reports, true)?;
        let mut command = ProcessKind::Fetcher.command();
        command.args(arguments).stdin(their_stdin).stdout(their_stdout);
        let child = command.spawn()?;
        // This write cannot block: the orders are shorter than a page, and an empty pipe holds at least one page.
        stdin.write_all(&to_frame(orders))?;
        Ok(Process {
            pid: Pid::from_child(&child),
            _stdin: stdin,
            reports,
            deadline: now.after(DEADLINE),
            step: "starting".to_owned(),
            received: Vec::new(),
        })
    }

    fn receive(&mut self) -> Vec<FetchReport> {
        let room = MAX_REPORT_BYTES.saturating_sub(self.received.len());
        let mut reports = (&mut self.reports).take(room as u64);
        // An error such as WouldBlock is ignored: the bytes read before it are in the buffer.
        _ = reports.read_to_end(&mut self.received);
        let frames = std::iter::from_fn(|| take_frame(&mut self.received));
        let mut reports: Vec<FetchReport> = frames.filter_map(from_frame).collect();
        for report in &reports {
            if let FetchReport::Step(step) = report {
                self.step.clone_from(step);
            }
        }
        if self.received.len() >= MAX_REPORT_BYTES {
            // This failure gets the process killed: its unread bytes would otherwise wake the poll loop again and again.
            reports.push(failed(format!(
                "fetcher reported more than {MAX_REPORT_BYTES} bytes; check what the credential source and STS answer"
            )));
        }
        reports
    }
}

fn failed(text: String) -> FetchReport {
    FetchReport::Failed(Fault::Transient(text))
}
