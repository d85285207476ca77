//! Keeps a fetcher that watches `--container-token-file`. Pure.

use super::refresh::{Effects, Received, Refresh};
use super::schedule;
use crate::common::clock::BootTime;
use crate::common::fault::Fault;
use crate::messages::fetch_orders::{FetchOrders, Task};
use crate::messages::fetch_report::FetchReport;
use crate::messages::server_state::ServerUpdate;

pub struct ContainerTokenRefresh {
    next: BootTime,
    failures: u32,
    has_token: bool,
    /// A fetcher repeats its notices; each is logged once.
    last_notice: String,
}

impl ContainerTokenRefresh {
    /// The first fetch is due at once.
    pub fn new(now: BootTime) -> Self {
        ContainerTokenRefresh {
            next: now,
            failures: 0,
            has_token: false,
            last_notice: String::new(),
        }
    }

    /// Logs the first failure of a row only.
    fn failed(&mut self, why: &str, now: BootTime, jitter: f64) -> Effects {
        self.failures += 1;
        self.next = now.after(schedule::retry(self.failures, jitter));
        let served = match (self.failures, self.has_token) {
            (1, true) => "the token that was read before stays valid",
            (1, false) => "requests for it are answered 401",
            _ => return Effects::default(),
        };
        Effects::warning(format!("{why}; {served}"))
    }
}

impl Refresh for ContainerTokenRefresh {
    fn due(&self) -> BootTime {
        self.next
    }

    fn fetch_now(&mut self, now: BootTime) {
        self.next = now;
    }

    fn start(&mut self, orders: FetchOrders, _now: BootTime) -> FetchOrders {
        FetchOrders {
            task: Task::ContainerToken,
            ..orders
        }
    }

    /// A permanent fault is fatal only before the first token.
    fn receive(&mut self, report: FetchReport, now: BootTime, jitter: f64) -> Received {
        Ok(match report {
            FetchReport::ContainerToken(token) => {
                (self.has_token, self.failures) = (true, 0);
                Effects {
                    update: Some(ServerUpdate::ContainerToken(token)),
                    ..Effects::default()
                }
            }
            FetchReport::Notice(text) if text != self.last_notice => {
                self.last_notice = text;
                Effects::warning(&self.last_notice)
            }
            FetchReport::Unchanged => {
                self.next = now;
                Effects::default()
            }
            FetchReport::Failed(Fault::Permanent(text)) if !self.has_token => return Err(text),
            FetchReport::Failed(fault) => self.failed(fault.text(), now, jitter),
            _ => Effects::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::secret::Secret;

    fn refresh() -> ContainerTokenRefresh {
        ContainerTokenRefresh::new(BootTime(5))
    }

    fn token() -> FetchReport {
        FetchReport::ContainerToken(Secret::new("Bearer x"))
    }

    fn failed(fault: fn(String) -> Fault) -> FetchReport {
        FetchReport::Failed(fault("the file is empty".to_owned()))
    }

    #[test]
    fn file_is_watched_again_when_a_watch_ends() {
        let mut refresh = refresh();
        assert_eq!(refresh.due(), BootTime(5));
        refresh.receive(token(), BootTime(7), 0.5).unwrap();
        refresh
            .receive(FetchReport::Unchanged, BootTime(60_000), 0.5)
            .unwrap();
        assert_eq!(refresh.due(), BootTime(60_000));
        refresh
            .receive(failed(Fault::Transient), BootTime(70_000), 0.5)
            .unwrap();
        let wait = schedule::retry(1, 0.5);
        assert_eq!(refresh.due(), BootTime(70_000).after(wait));
    }

    #[test]
    fn old_token_stays_and_a_row_of_failures_is_one_line() {
        let mut refresh = refresh();
        let mut receive = |report| refresh.receive(report, BootTime(0), 0.5).unwrap();
        let served = "the file is empty; requests for it are answered 401";
        assert_eq!(receive(failed(Fault::Transient)).log, [served]);
        assert!(receive(token()).update.is_some());
        let kept = "the file is empty; the token that was read before stays valid";
        assert_eq!(receive(failed(Fault::Permanent)).log, [kept]);
        let effects = receive(failed(Fault::Permanent));
        assert!(effects.log.is_empty() && effects.update.is_none());
    }

    #[test]
    fn permanent_fault_is_fatal_only_before_the_first_token() {
        let mut refresh = refresh();
        let error = refresh.receive(failed(Fault::Permanent), BootTime(0), 0.5);
        assert_eq!(error.err().as_deref(), Some("the file is empty"));
    }

    #[test]
    fn repeated_notice_is_logged_once() {
        let mut refresh = refresh();
        let mut log = |text: &str| {
            let notice = FetchReport::Notice(text.to_owned());
            refresh.receive(notice, BootTime(0), 0.5).unwrap().log.len()
        };
        assert_eq!([log("a"), log("a"), log("b"), log("b")], [1, 0, 1, 0]);
    }
}
