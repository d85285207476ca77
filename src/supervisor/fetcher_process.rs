//! An fetcher as the supervisor sees it: a process that reports on a pipe, until its outcome or its deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{ChildStdout, Stdio};

use rustix::process::{Pid, Signal, WaitStatus};

use super::child;
use crate::common::clock::BootTime;
use crate::common::fault::Fault;
use crate::common::process::ProcessKind;
use crate::fetcher::DEADLINE;
use crate::messages::fetch::{FetchOrders, FetchReport};

/// More than any report: what is in one is bounded where it is read.
const MAX_REPORT_BYTES: usize = 256 * 1024;

pub struct FetcherProcess {
    pub pid: Pid,
    /// What it reports on; to be polled for reading.
    pub reports: ChildStdout,
    pub deadline: BootTime,
    /// What it last said that it does.
    pub step: String,
    read: Vec<u8>,
}

impl FetcherProcess {
    /// Starts one with the supervisor's own arguments and environment.
    pub fn start(
        arguments: &[String],
        orders: &FetchOrders,
        now: BootTime,
    ) -> Result<Self, String> {
        Self::spawn(arguments, orders, now).map_err(|error| {
            format!(
                "an fetcher cannot be started: {error}; is there memory, and room for a process?"
            )
        })
    }

    fn spawn(arguments: &[String], orders: &FetchOrders, now: BootTime) -> io::Result<Self> {
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
        // A pipe takes so little at once, whether it is read or not.
        stdin.write_all(orders.to_line().as_bytes())?;
        Ok(FetcherProcess {
            pid,
            reports,
            deadline: now.after(DEADLINE),
            step: "starting".to_owned(),
            read: Vec::new(),
        })
    }

    /// The reports that have come, without waiting.
    pub fn receive_reports(&mut self) -> Vec<FetchReport> {
        let mut piece = [0; 4096];
        while self.read.len() < MAX_REPORT_BYTES {
            match self.reports.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => self.read.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let Some(end) = self.read.iter().rposition(|byte| *byte == b'\n') else {
            if self.read.len() < MAX_REPORT_BYTES {
                return Vec::new();
            }
            // Not to be waited for: what comes is not read, and would wake the supervisor again and again.
            let why = "the fetcher said too much; look at what the source and STS answer";
            return vec![FetchReport::Failed(Fault::Transient(why.to_owned()))];
        };
        let lines: Vec<u8> = self.read.drain(..=end).collect();
        String::from_utf8_lossy(&lines)
            .lines()
            .filter_map(FetchReport::from_line)
            .collect()
    }

    /// Ends it at its deadline, and says so.
    pub fn end_overdue(self) -> String {
        self.kill();
        let (seconds, step) = (DEADLINE.as_secs(), self.step);
        format!(
            "the fetcher was ended after {seconds} s, {step}; look at the network and the source"
        )
    }

    /// What there is to say of one that ended by itself with neither a result nor an error.
    pub fn ended_without_result(status: WaitStatus) -> String {
        let how = child::ending(status);
        format!("the fetcher ended without a word ({how}); is there memory?")
    }

    /// Ends it and whatever it has started. It is reaped like any child.
    pub fn kill(&self) {
        _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }
}
