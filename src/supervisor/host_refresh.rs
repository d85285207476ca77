//! Schedules the fetches of the host's metadata (`--pass-through`) or of the token in `--container-token-file`, and turns their
//! reports into effects. Pure: no I/O and no clock.

use std::time::Duration;

use super::failures::Failures;
use super::refresh::{Effects, Received, Refresh};
use super::schedule;
use crate::common::BootTime;
use crate::messages::{FetchOrders, FetchReport, ServerUpdate, Task};

/// Interval of metadata fetches. EC2 announces the interruption of a spot instance two minutes ahead, so a fetch finds the
/// announcement about a minute before the interruption, or earlier. AWS recommends to check every 5 s, but here each fetch reads
/// all items, which would be too much load.
const METADATA_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct HostRefresh {
    /// The orders that every fetcher of this refresh gets. A fetcher for [`Task::Metadata`] is started every `METADATA_INTERVAL`.
    /// A fetcher for [`Task::ContainerToken`] watches the file for a minute and then ends; the next one is started at once.
    orders: FetchOrders,
    next: BootTime,
    failures: Failures,
    has_fetched: bool,
    /// Notices, which the fetchers send again and again. A repeated notice is logged as often as a repeated failure.
    notices: Failures,
}

impl HostRefresh {
    /// The first fetch is due at once.
    pub fn new(task: Task, orders: FetchOrders, now: BootTime) -> Self {
        HostRefresh { orders: FetchOrders { task, ..orders }, next: now, ..HostRefresh::default() }
    }

    fn fetched(&mut self, update: ServerUpdate, log: Option<String>) -> Effects {
        (self.has_fetched, self.failures) = (true, Failures::default());
        Effects { update: Some(update), log, ..Effects::default() }
    }

    /// Schedules a retry. Of several failures with the same text in a row, the first is logged, another one after a minute,
    /// and then one every hour. The first retries come soon, because the host's metadata service may start after ec2-role.
    fn failed(&mut self, why: &str, now: BootTime, jitter: f64) -> Effects {
        let news = self.failures.news(why, now);
        // To read the container token's file costs little, so the pauses between retries grow to at most 4 s.
        let most = if self.orders.task == Task::Metadata { u32::MAX } else { 3 };
        let retry = now.after(schedule::retry(self.failures.count.min(most), jitter));
        // If `fetch_now` was called during the fetch that has failed, the next one is due already.
        self.next = if self.next > now { retry } else { now };
        let Some(mistake) = news else { return Effects::default() };
        let text = match (self.orders.task, self.has_fetched) {
            (Task::Metadata, true) => format!(
                "pass-through: {why}; the host's metadata was not fetched, serving what was fetched before"
            ),
            (Task::Metadata, false) => format!(
                "pass-through: {why}; the host's metadata was not fetched, requests for it are answered 503"
            ),
            (_, true) => format!("{why}; the token that was read before stays valid"),
            (_, false) => format!("{why}; the container form is answered 401"),
        };
        Effects::warning(format!("{text}{mistake}"))
    }
}

impl Refresh for HostRefresh {
    fn due(&self) -> BootTime {
        self.next
    }

    fn fetch_now(&mut self, now: BootTime) {
        self.next = now;
    }

    fn start(&mut self, now: BootTime) -> &FetchOrders {
        self.next = now.after(METADATA_INTERVAL);
        &self.orders
    }

    /// No fault is fatal: the host's metadata is optional, and another program may write the container token later.
    fn receive(&mut self, report: FetchReport, now: BootTime, jitter: f64) -> Received {
        Ok(match report {
            FetchReport::Metadata { items, left_out, snapshot } => {
                // The jitter lets the servers of a host drift apart, so that they do not exceed EC2's packet limit together
                // (`fetcher/metadata.rs`).
                self.next = now.after(schedule::earlier(self.next.left(now), jitter));
                let is_news = !self.has_fetched || self.failures.count > 0;
                let line = is_news.then(|| metadata_line(items, left_out));
                self.fetched(ServerUpdate::Metadata(snapshot), line)
            }
            FetchReport::ContainerToken(token) => {
                let line = (self.failures.count > 0).then(|| "container token read".to_owned());
                self.fetched(ServerUpdate::ContainerToken(token), line)
            }
            FetchReport::Notice(text) => (self.notices.news(&text, now))
                .map_or_else(Effects::default, |mistake| Effects::warning(text + mistake)),
            FetchReport::Unchanged => {
                self.next = now;
                Effects::default()
            }
            FetchReport::Failed(fault) => self.failed(fault.text(), now, jitter),
            _ => Effects::default(),
        })
    }
}

fn metadata_line(items: usize, left_out: usize) -> String {
    let left_out = match left_out {
        0 => String::new(),
        more => format!(", {more} left out because they are too many or too large"),
    };
    format!("pass-through: {items} items of the host's metadata fetched{left_out}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Fault, Secret};
    use crate::supervisor::failures::MISTAKE;

    fn fetched(left_out: usize) -> FetchReport {
        FetchReport::Metadata { items: 40, left_out, snapshot: vec![7] }
    }

    fn failed() -> FetchReport {
        FetchReport::Failed(Fault::Permanent("the host is silent".to_owned()))
    }

    #[test]
    fn metadata_is_fetched_every_minute_and_retried_sooner() {
        let mut refresh = HostRefresh::new(Task::Metadata, FetchOrders::default(), BootTime(5));
        assert_eq!(refresh.due(), BootTime(5));
        let orders = refresh.start(BootTime(5));
        assert_eq!(orders.task, Task::Metadata);
        for (jitter, due) in [(0.0, 60_005), (1.0, 54_305)] {
            refresh.receive(fetched(0), BootTime(3005), jitter).unwrap();
            assert_eq!(refresh.due(), BootTime(due));
        }
        for failures in 1..=3 {
            refresh.receive(failed(), BootTime(0), 0.5).unwrap();
            let wait = schedule::retry(failures, 0.5);
            assert_eq!(refresh.due(), BootTime(0).after(wait));
        }
    }

    #[test]
    fn fetch_that_the_user_orders_is_due_at_once() {
        let mut refresh = HostRefresh::new(Task::Metadata, FetchOrders::default(), BootTime(0));
        refresh.start(BootTime(0));
        refresh.fetch_now(BootTime(9));
        assert_eq!(refresh.due(), BootTime(9));
    }

    #[test]
    fn order_during_a_fetch_starts_another_one_after_it() {
        for (task, success) in
            [(Task::Metadata, fetched(0)), (Task::ContainerToken, FetchReport::Unchanged)]
        {
            let mut refresh = HostRefresh::new(task, FetchOrders::default(), BootTime(0));
            for report in [failed(), failed(), success] {
                refresh.start(BootTime(0));
                refresh.fetch_now(BootTime(5));
                refresh.receive(report, BootTime(3000), 0.5).unwrap();
                assert!(refresh.due() <= BootTime(3000), "{task:?}");
            }
            refresh.start(BootTime(3000));
            refresh.receive(failed(), BootTime(6000), 0.5).unwrap();
            assert!(refresh.due() > BootTime(6000), "{task:?}");
        }
    }

    #[test]
    fn snapshot_is_passed_on_unchanged() {
        let mut refresh = HostRefresh::new(Task::Metadata, FetchOrders::default(), BootTime(0));
        let effects = refresh.receive(fetched(0), BootTime(0), 0.5).unwrap();
        let is_same = |update| matches!(update, ServerUpdate::Metadata(bytes) if bytes == [7]);
        assert!(effects.update.is_some_and(is_same));
    }

    #[test]
    fn repeated_successes_and_failures_are_logged_once() {
        let mut refresh = HostRefresh::new(Task::Metadata, FetchOrders::default(), BootTime(0));
        let mut log =
            |report| refresh.receive(report, BootTime(0), 0.5).unwrap().log.unwrap_or_default();
        let prefix = "pass-through: the host is silent; the host's metadata was not fetched";
        assert_eq!(log(failed()), format!("{prefix}, requests for it are answered 503"));
        assert!(log(failed()).is_empty());
        assert_eq!(log(fetched(0)), "pass-through: 40 items of the host's metadata fetched");
        assert!(log(fetched(0)).is_empty());
        assert_eq!(log(failed()), format!("{prefix}, serving what was fetched before"));
        assert_eq!(
            log(fetched(2)),
            "pass-through: 40 items of the host's metadata fetched, 2 left out because they are too many or too large"
        );
    }

    fn container_token() -> HostRefresh {
        HostRefresh::new(Task::ContainerToken, FetchOrders::default(), BootTime(5))
    }

    fn token() -> FetchReport {
        FetchReport::ContainerToken(Secret::new("Bearer x"))
    }

    fn no_token() -> FetchReport {
        FetchReport::Failed(Fault::Transient("the file is empty".to_owned()))
    }

    #[test]
    fn file_is_watched_again_when_a_watch_ends() {
        let mut refresh = container_token();
        assert_eq!(refresh.due(), BootTime(5));
        refresh.receive(token(), BootTime(7), 0.5).unwrap();
        refresh.receive(FetchReport::Unchanged, BootTime(60_000), 0.5).unwrap();
        assert_eq!(refresh.due(), BootTime(60_000));
        refresh.start(BootTime(60_000));
        refresh.receive(no_token(), BootTime(70_000), 0.5).unwrap();
        let wait = schedule::retry(1, 0.5);
        assert_eq!(refresh.due(), BootTime(70_000).after(wait));
    }

    #[test]
    fn file_is_read_every_few_seconds_however_long_the_fault_lasts() {
        let mut refresh = container_token();
        for _ in 0..100 {
            let now = refresh.due();
            refresh.start(now);
            refresh.receive(no_token(), now, 1.0).unwrap();
            assert!(refresh.due() > now && refresh.due() <= now.after(Duration::from_secs(4)));
        }
    }

    #[test]
    fn old_token_stays_and_repeated_failures_are_logged_once() {
        let mut refresh = container_token();
        let mut receive = |report| refresh.receive(report, BootTime(0), 0.5).unwrap();
        let served = "the file is empty; the container form is answered 401";
        assert_eq!(receive(no_token()).log.as_deref(), Some(served));
        assert!(receive(token()).update.is_some());
        let kept = "the file is empty; the token that was read before stays valid";
        assert_eq!(receive(no_token()).log.as_deref(), Some(kept));
        let effects = receive(no_token());
        assert!(effects.log.is_none() && effects.update.is_none());
    }

    #[test]
    fn each_new_cause_and_the_recovery_are_logged() {
        let mut refresh = container_token();
        let mut log = |at, report| refresh.receive(report, BootTime(at), 0.5).unwrap().log;
        let other = || FetchReport::Failed(Fault::Transient("it has quotes".to_owned()));
        assert!(log(0, no_token()).is_some() && log(60_000, no_token()).is_some());
        assert!(log(90_000, other()).is_some_and(|line| line.starts_with("it has quotes; ")));
        assert_eq!(log(99_000, other()), None);
        assert_eq!(log(120_000, token()).as_deref(), Some("container token read"));
        assert_eq!(log(120_000, token()), None);
    }

    #[test]
    fn fault_that_lasts_is_logged_after_a_minute_and_each_hour() {
        let mut refresh = container_token();
        let lines = [0, 30_000, 60_000, 90_000, 3_659_999, 3_660_000].map(|at| {
            let effects = refresh.receive(no_token(), BootTime(at), 0.5).unwrap();
            effects.log.unwrap_or_default()
        });
        let line = "the file is empty; the container form is answered 401";
        let mistake = &format!("{line}{MISTAKE}");
        assert_eq!(lines, [line, "", mistake, "", "", mistake]);
    }

    #[test]
    fn repeated_notice_is_logged_once() {
        let mut refresh = container_token();
        let mut log = |text: &str| {
            let notice = FetchReport::Notice(text.to_owned());
            refresh.receive(notice, BootTime(0), 0.5).unwrap().log.is_some()
        };
        assert_eq!([log("a"), log("a"), log("b"), log("b")], [true, false, true, false]);
    }

    #[test]
    fn notice_that_lasts_or_returns_is_logged_again() {
        let mut refresh = container_token();
        let is_logged = [0, 30_000, 60_000, 120_000, 7_200_000].map(|at| {
            let notice = FetchReport::Notice("others can read it".to_owned());
            refresh.receive(notice, BootTime(at), 0.5).unwrap().log.is_some()
        });
        assert_eq!(is_logged, [true, false, true, false, true]);
    }
}
