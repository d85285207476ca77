//! The readings of the host's other metadata, for `--pass-through`: an fetcher every minute, and what was read last stays.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitStatus};

use super::fetcher_process::FetcherProcess;
use super::jitter::jitter;
use crate::common::clock::BootTime;
use crate::common::log;
use crate::common::metadata_snapshot::Snapshot;
use crate::messages::fetch::{FetchOrders, FetchReport, Task};
use crate::supervisor::schedule;

/// As often as AWS asks to look for an interruption of a spot instance, and more.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(60);

pub struct MetadataRefresh {
    fetcher: Option<FetcherProcess>,
    next: BootTime,
    missed: u32,
    has_read: bool,
}

impl MetadataRefresh {
    /// The first is due now.
    pub fn new(now: BootTime) -> Self {
        MetadataRefresh {
            fetcher: None,
            next: now,
            missed: 0,
            has_read: false,
        }
    }

    pub fn start_if_due(&mut self, words: &[String], orders: &FetchOrders, now: BootTime) {
        if self.fetcher.is_some() || now < self.next {
            return;
        }
        self.next = now.after(HEARTBEAT_INTERVAL);
        let orders = FetchOrders {
            task: Task::Metadata,
            ..orders.clone()
        };
        match FetcherProcess::start(words, &orders, now) {
            Ok(fetcher) => self.fetcher = Some(fetcher),
            Err(error) => self.failed(&error, now),
        }
    }

    /// When the next thing is to be done here.
    pub fn due(&self) -> BootTime {
        self.fetcher
            .as_ref()
            .map_or(self.next, |fetcher| fetcher.deadline)
    }

    /// What to poll for what the fetcher reports.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.fetcher
            .as_ref()
            .map(|fetcher| PollFd::new(&fetcher.reports, PollFlags::IN))
    }

    /// Takes what the fetcher brings, with a line for the log when that is news; ends it at its deadline.
    pub fn hear(&mut self, now: BootTime) -> Option<(Snapshot, Option<String>)> {
        let mut read = None;
        for report in self
            .fetcher
            .as_mut()
            .map(FetcherProcess::receive_reports)
            .unwrap_or_default()
        {
            match report {
                FetchReport::Metadata(snapshot) => {
                    self.fetcher = None;
                    let count = snapshot.items.len();
                    let left_out = match snapshot.left_out {
                        0 => String::new(),
                        more => format!(", {more} left out: they are too many or too large"),
                    };
                    let line = format!(
                        "pass-through: {count} items of the host's metadata read{left_out}"
                    );
                    let is_news = !self.has_read || self.missed > 0;
                    (self.has_read, self.missed) = (true, 0);
                    read = Some((snapshot, is_news.then_some(line)));
                }
                FetchReport::Failed(fault) => {
                    self.fetcher = None;
                    self.failed(fault.text(), now);
                }
                FetchReport::Step(_)
                | FetchReport::Notice(_)
                | FetchReport::Region(_)
                | FetchReport::Fetched(_) => {}
            }
        }
        if let Some(fetcher) = self.fetcher.take_if(|fetcher| now >= fetcher.deadline) {
            self.failed(&fetcher.end_overdue(), now);
        }
        read
    }

    /// A child has ended; if it was the fetcher, its last words were heard before.
    pub fn child_ended(&mut self, pid: Pid, status: WaitStatus, now: BootTime) {
        if self.fetcher.take_if(|fetcher| fetcher.pid == pid).is_some() {
            self.failed(&FetcherProcess::ended_without_result(status), now);
        }
    }

    /// Said once, and again when it works again. Tried again soon at first: a host's service may come up after ec2-role.
    fn failed(&mut self, why: &str, now: BootTime) {
        if self.missed == 0 {
            let kept = if self.has_read {
                ", what was read before is kept"
            } else {
                ""
            };
            log::event(&format!(
                "pass-through: the host's metadata was not read{kept}: {why}"
            ));
        }
        self.missed += 1;
        self.next = now.after(schedule::retry(self.missed, jitter()));
    }

    /// Ends the fetcher at once.
    pub fn end(&mut self) {
        if let Some(fetcher) = self.fetcher.take() {
            fetcher.kill();
        }
    }
}
