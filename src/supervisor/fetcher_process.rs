//! A fetcher as the supervisor sees it: a process that reports on a pipe until its outcome, its end or its deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitStatus};

use super::child_process;
use crate::common::clock::BootTime;
use crate::common::fault::{Fault, transient};
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
    pub fn start(
        &mut self,
        arguments: &[String],
        orders: &FetchOrders,
        now: BootTime,
    ) -> Result<(), Fault> {
        if self.unreaped.len() >= MAX_UNREAPED {
            return transient(format!(
                "fetcher cannot be started: {MAX_UNREAPED} killed ones hang in the kernel; check the file systems that it reads"
            ));
        }
        match Process::start(arguments, orders, now) {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(error) => transient(format!(
                "fetcher cannot be started: {}",
                limit::name(&error)
            )),
        }
    }

    /// When the process is killed; `None` if there is none.
    pub fn deadline(&self) -> Option<BootTime> {
        self.process.as_ref().map(|process| process.deadline)
    }

    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let process = self.process.as_ref();
        process.map(|process| PollFd::new(&process.reports, PollFlags::IN))
    }

    /// The reports that have come, without waiting. After an outcome, and at its deadline, the process is killed.
    pub fn receive(&mut self, now: BootTime) -> Vec<FetchReport> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        let mut reports = process.receive();
        let mut is_over = reports.iter().any(FetchReport::is_outcome);
        if !is_over && now >= process.deadline {
            is_over = true;
            reports.push(failed(format!(
                "fetcher killed after {} s while {}; check what it waits for",
                DEADLINE.as_secs(),
                process.step
            )));
        }
        if is_over {
            self.kill();
        }
        reports
    }

    /// A child has ended. If it was this process, gives its last reports, and a failure if none of them is an outcome.
    pub fn child_ended(&mut self, pid: Pid, status: WaitStatus) -> Vec<FetchReport> {
        self.unreaped.retain(|unreaped| *unreaped != pid);
        let Some(mut process) = self.process.take_if(|process| process.pid == pid) else {
            return Vec::new();
        };
        let mut reports = process.receive();
        if !reports.iter().any(FetchReport::is_outcome) {
            let how = child_process::ending(status);
            reports.push(failed(format!(
                "fetcher {how} without a result; out of memory?"
            )));
        }
        reports
    }

    /// Kills the process and all that it has started. It is reaped like any child.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            _ = rustix::process::kill_process_group(process.pid, Signal::KILL);
            self.unreaped.push(process.pid);
        }
    }

    /// The leaders of the process groups that this fetcher has started.
    pub fn leaders(&self) -> impl Iterator<Item = Pid> {
        self.process.iter().map(|process| process.pid)
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
        let mut piece = [0; 4096];
        while self.received.len() < MAX_REPORT_BYTES {
            match self.reports.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => self.received.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
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
