//! When to fetch the host's other metadata, for `--pass-through`, and what each outcome changes. Pure.

use std::time::Duration;

use super::refresh::{Effects, Received, Refresh};
use super::schedule;
use crate::common::clock::BootTime;
use crate::messages::fetch_orders::{FetchOrders, Task};
use crate::messages::fetch_report::{FetchReport, FetchedMetadata};
use crate::messages::server_state::ServerUpdate;

/// AWS recommends to look for the interruption of a spot instance every 5 s; a minute leaves half of its two minutes' notice.
const INTERVAL: Duration = Duration::from_secs(60);

pub struct MetadataRefresh {
    next: BootTime,
    failures: u32,
    has_fetched: bool,
}

impl MetadataRefresh {
    /// The first fetch is due at once.
    pub fn new(now: BootTime) -> Self {
        MetadataRefresh {
            next: now,
            failures: 0,
            has_fetched: false,
        }
    }

    fn fetched(&mut self, fetched: FetchedMetadata) -> Effects {
        let is_news = !self.has_fetched || self.failures > 0;
        (self.has_fetched, self.failures) = (true, 0);
        let left_out = match fetched.left_out {
            0 => String::new(),
            more => format!(", {more} left out because they are too many or too large"),
        };
        let line = format!(
            "pass-through: {} items of the host's metadata fetched{left_out}",
            fetched.items
        );
        Effects {
            update: Some(ServerUpdate::Metadata(fetched.snapshot)),
            log: is_news.then_some(line).into_iter().collect(),
            ..Effects::default()
        }
    }

    /// Logs the first failure of a row only. The first retries come soon: the host's service may start after ec2-role.
    fn failed(&mut self, why: &str, now: BootTime, jitter: f64) -> Effects {
        self.failures += 1;
        self.next = now.after(schedule::retry(self.failures, jitter));
        if self.failures > 1 {
            return Effects::default();
        }
        let served = match self.has_fetched {
            true => "serving what was fetched before",
            false => "requests for it are answered 503",
        };
        Effects::warning(format!(
            "pass-through: {why}; the host's metadata was not fetched, {served}"
        ))
    }
}

impl Refresh for MetadataRefresh {
    fn due(&self) -> BootTime {
        self.next
    }

    fn fetch_now(&mut self, now: BootTime) {
        self.next = now;
    }

    fn start(&mut self, orders: FetchOrders, now: BootTime) -> FetchOrders {
        self.next = now.after(INTERVAL);
        FetchOrders {
            task: Task::Metadata,
            ..orders
        }
    }

    fn receive(&mut self, report: FetchReport, now: BootTime, jitter: f64) -> Received {
        Ok(match report {
            FetchReport::Metadata(fetched) => self.fetched(fetched),
            FetchReport::Failed(fault) => self.failed(fault.text(), now, jitter),
            _ => Effects::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::fault::Fault;

    fn fetched(left_out: usize) -> FetchReport {
        FetchReport::Metadata(FetchedMetadata {
            items: 40,
            left_out,
            snapshot: vec![7],
        })
    }

    fn failed() -> FetchReport {
        FetchReport::Failed(Fault::Permanent("the host is silent".to_owned()))
    }

    #[test]
    fn metadata_is_fetched_every_minute_and_retried_sooner() {
        let mut refresh = MetadataRefresh::new(BootTime(5));
        assert_eq!(refresh.due(), BootTime(5));
        let orders = refresh.start(FetchOrders::default(), BootTime(5));
        assert_eq!(orders.task, Task::Metadata);
        refresh.receive(fetched(0), BootTime(3000), 0.5).unwrap();
        assert_eq!(refresh.due(), BootTime(60_005));
        for failures in 1..=3 {
            refresh.receive(failed(), BootTime(0), 0.5).unwrap();
            let wait = schedule::retry(failures, 0.5);
            assert_eq!(refresh.due(), BootTime(0).after(wait));
        }
    }

    #[test]
    fn snapshot_is_passed_on_as_it_came() {
        let mut refresh = MetadataRefresh::new(BootTime(0));
        let effects = refresh.receive(fetched(0), BootTime(0), 0.5).unwrap();
        let is_same = |update| matches!(update, ServerUpdate::Metadata(bytes) if bytes == [7]);
        assert!(effects.update.is_some_and(is_same));
    }

    #[test]
    fn only_the_first_success_and_failure_of_a_row_are_logged() {
        let mut refresh = MetadataRefresh::new(BootTime(0));
        let mut log = |report| refresh.receive(report, BootTime(0), 0.5).unwrap().log;
        let prefix = "pass-through: the host is silent; the host's metadata was not fetched";
        assert_eq!(
            log(failed()),
            [format!("{prefix}, requests for it are answered 503")]
        );
        assert!(log(failed()).is_empty());
        assert_eq!(
            log(fetched(0)),
            ["pass-through: 40 items of the host's metadata fetched"]
        );
        assert!(log(fetched(0)).is_empty());
        assert_eq!(
            log(failed()),
            [format!("{prefix}, serving what was fetched before")]
        );
        assert_eq!(
            log(fetched(2)),
            [
                "pass-through: 40 items of the host's metadata fetched, 2 left out because they are too many or too large"
            ]
        );
    }
}
