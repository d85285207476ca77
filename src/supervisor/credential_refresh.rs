//! Schedules the credential fetches, and turns their reports into effects. Pure: no I/O and no clock.

use std::time::{Duration, SystemTime};

use super::failures::Failures;
use super::refresh::{Effects, Received, Refresh};
use super::schedule;
use crate::common::{BootTime, Fault, RoleArn, clock::iso8601, log::Level};
use crate::messages::{FetchOrders, FetchReport, Fetched, ServerUpdate};

/// Minimum time between the starts of two fetches, also after SIGHUP: STS throttles an account that calls too often.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// If STS has refused the user's duration, fetchers request a shorter one (`duration_limit`) until this time has passed. Then
/// they request the user's duration again, because the role's MaxSessionDuration may have been raised.
const LIMIT_BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

pub struct CredentialRefresh {
    role: RoleArn,
    next: BootTime,
    /// The earliest start of the next fetch: `MIN_INTERVAL` after the start of the last one.
    earliest: BootTime,
    /// Whether `fetch_now` has ordered a fetch that has not started yet. If the order comes during a fetch, a second fetch
    /// follows: the first may have read the source credential before the user changed it.
    is_ordered: bool,
    failures: Failures,
    /// The Retry-After of STS in the current fetch; applied when the fetch fails.
    retry_after: Duration,
    /// The served credential; `None` before the first one, and after its expiry was logged.
    serving: Option<Serving>,
    /// The orders of the next fetcher, with facts that earlier fetchers found.
    orders: FetchOrders,
    /// The time from which `start` removes the duration limit from the orders, so that the user's duration is requested again.
    limit_until: BootTime,
}

/// The served credential without its secrets.
struct Serving {
    expiration: SystemTime,
    deadline: BootTime,
}

impl CredentialRefresh {
    /// The first fetch is due at once.
    pub fn new(role: RoleArn, orders: FetchOrders, now: BootTime) -> Self {
        CredentialRefresh {
            role,
            next: now,
            earliest: now,
            is_ordered: false,
            failures: Failures::default(),
            retry_after: Duration::ZERO,
            serving: None,
            orders,
            limit_until: now,
        }
    }

    fn fetched(&mut self, fetched: Fetched, now: BootTime, jitter: f64) -> Effects {
        let credential = fetched.credential;
        let lifetime = credential.lifetime();
        let is_first = !self.has_fetched() || self.failures.count > 0;
        let wait = if is_first { schedule::spread } else { schedule::steady };
        let wait = self.schedule(wait(lifetime, jitter), now);
        self.serving =
            Some(Serving { expiration: credential.expiration, deadline: credential.deadline });
        self.failures = Failures::default();
        self.orders.serving = Some(credential.access_key_id.clone());
        self.orders.clock_offset = fetched.clock_offset;
        if self.orders.duration_limit.is_none() {
            self.limit_until = now.after(LIMIT_BELIEVED);
        }
        self.orders.duration_limit = fetched.duration_limit;
        let status =
            format!("credential of {} valid until {}", self.role, iso8601(credential.expiration));
        Effects {
            update: Some(ServerUpdate::Fetched(credential)),
            log: Some(format!("{status}, next refresh in {}", in_words(wait))),
            status: Some(status),
            ..Effects::default()
        }
    }

    /// Whether any fetch has returned a credential.
    fn has_fetched(&self) -> bool {
        self.orders.serving.is_some()
    }

    /// Schedules the next fetch after `wait`, or at once if one is ordered, but at least `MIN_INTERVAL` after the start of the
    /// last fetch. Returns the actual wait.
    fn schedule(&mut self, wait: Duration, now: BootTime) -> Duration {
        let wait = if self.is_ordered { Duration::ZERO } else { wait };
        self.next = now.after(wait).max(self.earliest);
        self.next.left(now)
    }

    /// Keeps the served credential, and schedules the next try.
    fn failed(&mut self, fault: &Fault, now: BootTime, jitter: f64) -> Effects {
        let (why, level) = match fault {
            Fault::Permanent(why) => (why, Level::Error),
            Fault::Transient(why) => (why, Level::Warning),
        };
        let mistake = self.failures.note(now);
        let asked = std::mem::take(&mut self.retry_after).min(schedule::MAX_RETRY);
        let wait = self.schedule(schedule::retry(self.failures.count, jitter).max(asked), now);
        // After the first credential, do not call the failure a possible mistake of the user: the settings have worked.
        let mistake = if self.has_fetched() { "" } else { mistake };
        let status = match &self.serving {
            Some(serving) => {
                format!("{why}; serving the credential valid until {}", iso8601(serving.expiration))
            }
            None => format!("{why}; no credential, requests are answered 500"),
        };
        let log = Some(format!("{status}; next try in {}{mistake}", in_words(wait)));
        Effects { update: Some(ServerUpdate::FetchFailed), log, level, status: Some(status) }
    }
}

impl Refresh for CredentialRefresh {
    fn due(&self) -> BootTime {
        self.next
    }

    fn fetch_now(&mut self, now: BootTime) {
        self.is_ordered = true;
        self.schedule(Duration::ZERO, now);
    }

    fn start(&mut self, now: BootTime) -> &FetchOrders {
        self.earliest = now.after(MIN_INTERVAL);
        (self.is_ordered, self.retry_after) = (false, Duration::ZERO);
        self.orders.duration_limit.take_if(|_| now >= self.limit_until);
        &self.orders
    }

    /// A permanent fault ends the program only before the first credential. After a later fault, the fetch is retried, and the
    /// credential is served until its deadline.
    fn receive(&mut self, report: FetchReport, now: BootTime, jitter: f64) -> Received {
        Ok(match report {
            FetchReport::Notice(text) => Effects::warning(text),
            FetchReport::Region(name) => {
                self.orders.region = Some(name.clone());
                Effects { update: Some(ServerUpdate::Region(name)), ..Effects::default() }
            }
            FetchReport::RetryAfter(seconds) => {
                self.retry_after = Duration::from_secs(seconds.into());
                Effects::default()
            }
            FetchReport::Fetched(fetched) => self.fetched(fetched, now, jitter),
            FetchReport::Failed(Fault::Permanent(text)) if !self.has_fetched() => {
                return Err(text);
            }
            FetchReport::Failed(fault) => self.failed(&fault, now, jitter),
            _ => Effects::default(),
        })
    }

    fn expire(&mut self, now: BootTime) -> Effects {
        if self.serving.take_if(|serving| now >= serving.deadline).is_none() {
            return Effects::default();
        }
        let text = format!(
            "the credential of {} has expired; requests are answered 500 until there is a new one",
            self.role
        );
        Effects { status: Some(text.clone()), ..Effects::warning(text) }
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Credential, Secret, TokenKey, clock::parse_iso8601};
    use crate::supervisor::failures::MISTAKE;

    const ROLE: &str = "arn:aws:iam::123456789012:role/exc_web";
    const HOUR: Duration = Duration::from_secs(3600);

    fn refresh() -> CredentialRefresh {
        let role = RoleArn::parse(ROLE).unwrap();
        let token_key = TokenKey::random().ok();
        let orders = FetchOrders { token_key, ..FetchOrders::default() };
        CredentialRefresh::new(role, orders, BootTime(0))
    }

    /// A report of a credential that lives an hour and expires an hour after `now`.
    fn fetched(now: BootTime) -> FetchReport {
        FetchReport::Fetched(Fetched {
            credential: Credential {
                access_key_id: "ASIAEXAMPLE".to_owned(),
                secret_access_key: Secret::new("s3cr3t"),
                session_token: Secret::new("s3cr3t"),
                last_updated: parse_iso8601("2023-06-01T12:00:00Z").unwrap(),
                expiration: parse_iso8601("2023-06-01T13:00:00Z").unwrap(),
                deadline: now.after(HOUR),
            },
            clock_offset: 7,
            duration_limit: Some(3600),
        })
    }

    fn failed() -> FetchReport {
        FetchReport::Failed(Fault::Transient("STS is away".to_owned()))
    }

    fn permanent() -> FetchReport {
        FetchReport::Failed(Fault::Permanent("no such profile".to_owned()))
    }

    #[test]
    fn credential_is_served_then_logged_then_ready() {
        let mut refresh = refresh();
        assert_eq!(refresh.due(), BootTime(0));
        let effects = refresh.receive(fetched(BootTime(0)), BootTime(0), 1.0);
        let effects = effects.unwrap();
        assert!(matches!(effects.update, Some(ServerUpdate::Fetched(_))));
        let status = format!("credential of {ROLE} valid until 2023-06-01T13:00:00Z");
        assert_eq!(effects.log, Some(format!("{status}, next refresh in 30 min")));
        assert_eq!(effects.status, Some(status));
    }

    #[test]
    fn refresh_after_a_start_or_outage_is_spread() {
        let (mut refresh, now) = (refresh(), BootTime(0));
        let mut wait_after = |report| {
            refresh.receive(report, now, 0.5).unwrap();
            refresh.due().left(now)
        };
        assert_eq!(wait_after(fetched(now)), schedule::spread(HOUR, 0.5));
        assert_eq!(wait_after(fetched(now)), schedule::steady(HOUR, 0.5));
        assert_eq!(wait_after(failed()), schedule::retry(1, 0.5));
        assert_eq!(wait_after(permanent()), schedule::retry(2, 0.5));
        assert_eq!(wait_after(fetched(now)), schedule::spread(HOUR, 0.5));
        assert_eq!(wait_after(failed()), schedule::retry(1, 0.5));
    }

    #[test]
    fn permanent_fault_is_fatal_only_before_the_first_credential() {
        let (mut refresh, now) = (refresh(), BootTime(0));
        let error = refresh.receive(permanent(), now, 0.5).err();
        assert_eq!(error.as_deref(), Some("no such profile"));
        refresh.receive(fetched(now), now, 0.5).unwrap();
        assert!(refresh.receive(permanent(), now, 0.5).is_ok_and(|it| it.level == Level::Error));
    }

    #[test]
    fn retry_after_ends_with_its_fetch() {
        let (mut refresh, now) = (refresh(), BootTime(0));
        refresh.receive(FetchReport::RetryAfter(30), now, 1.0).unwrap();
        refresh.receive(fetched(now), now, 1.0).unwrap();
        refresh.start(now);
        refresh.receive(failed(), now, 1.0).unwrap();
        assert_eq!(refresh.due().left(now), schedule::retry(1, 1.0));
    }

    #[test]
    fn failure_line_says_what_is_served_and_when_the_next_try_is() {
        let (mut refresh, now) = (refresh(), BootTime(0));
        let mut log = |report| refresh.receive(report, now, 1.0).unwrap().log.unwrap();
        assert_eq!(
            log(failed()),
            "STS is away; no credential, requests are answered 500; next try in 1 s"
        );
        log(fetched(now));
        assert_eq!(
            log(failed()),
            "STS is away; serving the credential valid until 2023-06-01T13:00:00Z; next try in 1 s"
        );
        let expired = refresh.expire(now.after(HOUR)).log.unwrap();
        assert!(expired.ends_with("requests are answered 500 until there is a new one"));
        let log = refresh.receive(failed(), now.after(HOUR), 1.0).unwrap().log.unwrap();
        assert!(log.contains("no credential, requests are answered 500; next try in 2 s"));
    }

    #[test]
    fn failures_without_a_first_credential_look_like_a_mistake() {
        let mut refresh = refresh();
        let mut is_mistake = |report, at| {
            let log = refresh.receive(report, BootTime(at), 1.0).unwrap().log;
            log.is_some_and(|line| line.ends_with(MISTAKE))
        };
        let before = [0, 59_999, 60_000, 60_001].map(|at| is_mistake(failed(), at));
        assert_eq!(before, [false, false, true, false]);
        is_mistake(fetched(BootTime(70_000)), 70_000);
        assert!(!is_mistake(failed(), 80_000) && !is_mistake(failed(), 150_000));
    }

    #[test]
    fn fetches_start_at_least_a_second_apart() {
        let mut refresh = refresh();
        for now in [BootTime(0), BootTime(1000), BootTime(2000)] {
            refresh.start(now);
            // Without `MIN_INTERVAL`, each of these three would make the next fetch due earlier: a credential with a very
            // short life, a failure, and `fetch_now`.
            let mut short = fetched(now);
            if let FetchReport::Fetched(fetched) = &mut short {
                fetched.credential.expiration =
                    fetched.credential.last_updated + Duration::from_millis(1);
            }
            for report in [short, failed()] {
                let effects = refresh.receive(report, BootTime(now.0 + 5), 0.0).unwrap();
                assert_eq!(refresh.due(), BootTime(now.0 + 1000));
                assert!(effects.log.unwrap().ends_with("in 995 ms"));
            }
            refresh.fetch_now(BootTime(now.0 + 6));
            assert_eq!(refresh.due(), BootTime(now.0 + 1000));
        }
        refresh.fetch_now(BootTime(9000));
        assert_eq!(refresh.due(), BootTime(9000));
    }

    #[test]
    fn order_during_a_fetch_starts_another_one_after_it() {
        let mut refresh = refresh();
        for report in [fetched(BootTime(0)), failed()] {
            refresh.start(BootTime(0));
            refresh.fetch_now(BootTime(5));
            refresh.receive(report, BootTime(5000), 0.5).unwrap();
            assert_eq!(refresh.due(), BootTime(5000));
        }
        refresh.start(BootTime(5000));
        refresh.receive(failed(), BootTime(6000), 0.5).unwrap();
        assert_eq!(refresh.due(), BootTime(6000).after(schedule::retry(2, 0.5)));
    }

    #[test]
    fn full_duration_is_requested_again_once_a_day() {
        let mut refresh = refresh();
        let mut limit_at = |hours: u32| {
            let now = BootTime(0).after(hours * HOUR);
            let limit = refresh.start(now).duration_limit;
            refresh.receive(fetched(now), now, 0.5).unwrap();
            limit
        };
        let limits = [0, 1, 23, 24, 25, 47, 48].map(&mut limit_at);
        let known = Some(3600);
        assert_eq!(limits, [None, known, known, None, known, known, None]);
    }

    #[test]
    fn expiry_is_logged_once_and_again_for_the_next_credential() {
        let (mut refresh, now) = (refresh(), BootTime(0));
        assert_eq!(refresh.expire(now).log, None);
        for now in [now, now.after(3 * HOUR)] {
            refresh.receive(fetched(now), now, 1.0).unwrap();
            let end = now.after(HOUR);
            assert_eq!(refresh.expire(BootTime(end.0 - 1)).log, None);
            let effects = refresh.expire(end);
            assert!(effects.status.is_some() && effects.status == effects.log);
            assert!(refresh.expire(end).log.is_none() && refresh.serving.is_none());
        }
    }

    #[test]
    fn next_fetcher_receives_what_the_last_one_found() {
        let (mut refresh, now) = (refresh(), BootTime(0));
        let orders = refresh.start(now);
        assert!(orders.token_key.is_some());
        assert_eq!((&orders.serving, orders.clock_offset, orders.duration_limit), (&None, 0, None));
        refresh.receive(fetched(now), now, 0.5).unwrap();
        refresh.receive(failed(), now, 0.5).unwrap();
        let orders = refresh.start(now);
        assert_eq!(
            (orders.serving.as_deref(), orders.clock_offset, orders.duration_limit),
            (Some("ASIAEXAMPLE"), 7, Some(3600))
        );
    }

    #[test]
    fn region_and_notices_are_passed_on_at_once() {
        let (mut refresh, now) = (refresh(), BootTime(0));
        let mut receive = |report| refresh.receive(report, now, 0.5).unwrap();
        let effects = receive(FetchReport::Region("eu-west-1".to_owned()));
        let is_region =
            |update| matches!(update, ServerUpdate::Region(name) if name == "eu-west-1");
        assert!(effects.update.is_some_and(is_region));
        let orders = refresh.start(now);
        assert_eq!(orders.region.as_deref(), Some("eu-west-1"));
        let mut receive = |report| refresh.receive(report, now, 0.5).unwrap();
        let effects = receive(FetchReport::Notice("set the clock".to_owned()));
        assert_eq!(effects.log.as_deref(), Some("set the clock"));
        let effects = receive(FetchReport::Step("signing".to_owned()));
        assert!(effects.log.is_none() && effects.update.is_none());
    }
}
