//! A fetcher as the supervisor sees it: a process that reports on a pipe until its outcome, its end or its deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};

use super::child_process;
use crate::common::clock::BootTime;
use crate::common::fault::Fault;
use crate::common::limit;
use crate::common::process::ProcessKind;
use crate::fetcher::DEADLINE;
use crate::messages::fetch_orders::FetchOrders;
use crate::messages::fetch_report::FetchReport;
use crate::messages::frame::{from_frame, take_frame, to_frame};

/// Larger than any report: the fetcher bounds what is in one.
const MAX_REPORT_BYTES: usize = 256 * 1024;

/// A killed process ends when the system call that it is in does, on a hanging file system perhaps never.
const MAX_UNREAPED: usize = 8;

/// At most one fetcher process. Every end of it is an outcome: the last of its reports, or a failure.
#[derive(Default)]
pub struct Fetcher {
    process: Option<Process>,
    /// Why no process could be started, until this is received.
    failure: Option<FetchReport>,
    /// Killed, but not ended yet.
    unreaped: Vec<Pid>,
}

struct Process {
    pid: Pid,
    /// Open as long as the process may run: it ends at the end of its stdin.
    _stdin: ChildStdin,
    reports: ChildStdout,
    deadline: BootTime,
    /// What it last reported to do.
    step: String,
    received: Vec<u8>,
}

impl Fetcher {
    /// Starts the process with the supervisor's own arguments and environment.
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

    /// When there is something to receive at the latest; `None` if no process runs.
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

    /// The reports that have come, without waiting. After an outcome, and at its deadline, the process is killed.
    pub fn receive(&mut self, now: BootTime) -> Vec<FetchReport> {
        let mut reports: Vec<FetchReport> = self.failure.take().into_iter().collect();
        let Some(process) = &mut self.process else {
            return reports;
        };
        let end = child_process::reap(process.pid);
        reports.extend(process.receive());
        let failure = match &end {
            _ if reports.iter().any(FetchReport::is_outcome) => None,
            Some(how) => Some(format!("fetcher {how} without a result; out of memory?")),
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

    /// Kills the process and all that it has started.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            _ = rustix::process::kill_process_group(process.pid, Signal::KILL);
            self.unreaped.push(process.pid);
        }
    }
}

impl Process {
    fn start(arguments: &[String], orders: &FetchOrders, now: BootTime) -> io::Result<Self> {
        let mut child = ProcessKind::Fetcher
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = Pid::from_child(&child);
        let (Some(mut stdin), Some(reports)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ErrorKind::Other.into());
        };
        rustix::io::ioctl_fionbio(&reports, true)?;
        // Shorter than a page, which any pipe has room for.
        stdin.write_all(&to_frame(orders))?;
        Ok(Process {
            pid,
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
        // Fails when no more has come yet, with what has come in the buffer.
        _ = reports.read_to_end(&mut self.received);
        let frames = std::iter::from_fn(|| take_frame(&mut self.received));
        let mut reports: Vec<FetchReport> = frames.filter_map(from_frame).collect();
        for report in &reports {
            if let FetchReport::Step(step) = report {
                self.step.clone_from(step);
            }
        }
        if self.received.len() >= MAX_REPORT_BYTES {
            // Unread, the rest would wake the poll loop again and again.
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
