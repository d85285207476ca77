//! The supervisor's handle of a fetcher process: starts it, receives its reports, and kills it after its last report or at its
//! deadline.

use std::io::{self, PipeReader, PipeWriter, Read, Write};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process_group};

use super::child_process::Ended;
use crate::common::{BootTime, Fault, ProcessKind, limit, transient};
use crate::fetcher::DEADLINE;
use crate::messages::{FetchOrders, FetchReport, from_frame, take_frame, to_frame};

/// Maximum size of a report. The fetcher limits a credential and the metadata to less. Only an error that repeats a huge text
/// could be longer.
const MAX_REPORT_BYTES: usize = 256 * 1024;

/// Maximum number of fetchers that were killed at their deadline and have not ended yet. At this number, no further fetcher is
/// started. On a hanging file system, a killed process may never end.
const MAX_UNREAPED: usize = 8;

/// Runs at most one fetcher process at a time. The outcome of a fetch is the fetcher's last report. If the fetcher sends no
/// outcome, `receive` returns a failure as the outcome.
#[derive(Default)]
pub struct Fetcher {
    process: Option<Process>,
    /// Processes that were killed at their deadline and have not ended yet.
    unreaped: Vec<Pid>,
}

struct Process {
    pid: Pid,
    /// The supervisor's end of the fetcher's stdin. It is kept open because the fetcher exits when its stdin closes.
    _stdin: PipeWriter,
    reports: PipeReader,
    deadline: BootTime,
    /// The step that the fetcher reported last, for the log line about a fetcher that ends without a result or is killed.
    step: String,
    received: Vec<u8>,
}

impl Fetcher {
    /// Starts a fetcher with the supervisor's arguments, and with its environment except systemd's variables. The caller treats
    /// an error as a failed fetch.
    pub fn start(&mut self, orders: &FetchOrders, now: BootTime) -> Result<(), Fault> {
        let started = match self.unreaped.len() {
            0..MAX_UNREAPED => Process::start(orders, now),
            _ => Err(io::Error::other(format!(
                "{MAX_UNREAPED} killed ones hang in the kernel; check the file systems that they read"
            ))),
        };
        let process = started.or_else(|error| {
            transient(format!("fetcher cannot be started: {}", limit::name(&error)))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// When to call `receive` at the latest; `None` if no process runs.
    pub fn deadline(&self) -> Option<BootTime> {
        self.process.as_ref().map(|process| process.deadline)
    }

    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let process = self.process.as_ref();
        process.map(|process| PollFd::new(&process.reports, PollFlags::IN))
    }

    /// Receives the available reports without waiting. The process is killed after its last report or at its deadline.
    pub fn receive(&mut self, ended: &Ended, now: BootTime) -> Vec<FetchReport> {
        self.unreaped.retain(|pid| !ended.contains_key(pid));
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        let mut reports = process.receive();
        if !reports.iter().any(FetchReport::is_outcome) {
            let failure = match ended.get(&process.pid) {
                Some(how) => format!(
                    "fetcher {how} while {}; look for an internal error above, or check the memory limit",
                    process.step
                ),
                None if now >= process.deadline => {
                    self.unreaped.push(process.pid);
                    format!(
                        "fetcher killed after {} s while {}; check what it waits for",
                        DEADLINE.as_secs(),
                        process.step
                    )
                }
                None => return reports,
            };
            reports.push(failed(failure));
        }
        self.kill();
        reports
    }

    /// Kills the fetcher's process group: the fetcher, if it still runs, and the processes that it has started. The id of a
    /// fetcher that was just reaped does not name another group yet: the kernel assigns ids in ascending order, and reuses one
    /// only after a whole round.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            _ = kill_process_group(process.pid, Signal::KILL);
        }
    }
}

impl Process {
    fn start(orders: &FetchOrders, now: BootTime) -> io::Result<Self> {
        let (their_stdin, mut stdin) = io::pipe()?;
        let (reports, their_stdout) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reports, true)?;
        let mut command = ProcessKind::Fetcher.command();
        command.args(std::env::args_os().skip(1)).stdin(their_stdin).stdout(their_stdout);
        let child = command.spawn()?;
        // This write does not block: the orders are shorter than a page, which an empty pipe always holds. Their longest field is
        // an access key id, at AWS at most 128 bytes.
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
            // Report a failure, so that `Fetcher::receive` kills the process. Otherwise the bytes that are still in the pipe
            // would wake the poll loop again and again.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn group_of_an_ended_fetcher_is_killed() {
        let (reports, their_stdout) = io::pipe().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 & exit 7"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(their_stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.wait().unwrap();
        rustix::io::ioctl_fionbio(&reports, true).unwrap();
        let pid = Pid::from_child(&child);
        let process = Process {
            pid,
            _stdin: io::pipe().unwrap().1,
            reports,
            deadline: BootTime(1),
            step: String::new(),
            received: Vec::new(),
        };
        let mut fetcher = Fetcher { process: Some(process), ..Fetcher::default() };
        assert!(fetcher.receive(&Ended::new(), BootTime(0)).is_empty());
        let ended = Ended::from([(pid, "exited with status 7".to_owned())]);
        let reports = fetcher.receive(&ended, BootTime(0));
        assert!(
            matches!(&reports[..], [FetchReport::Failed(fault)] if fault.text().contains("status 7"))
        );
        assert!(fetcher.deadline().is_none());
        // `sleep` has the pipe open too, so this read returns only if `sleep` has been killed.
        let mut stderr = child.stderr.take().unwrap();
        assert_eq!(stderr.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
