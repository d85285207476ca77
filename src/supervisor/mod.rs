//! The supervisor: owns the listening socket, the credential and the token key; refreshes, hands over, respawns.
//!
//! One poll loop. It never touches the network, resolves no name and waits for no program: what can
//! hang is an fetcher, and what can be broken from outside is the server, both of them processes that it replaces.

mod child;
mod container_token;
mod fetcher_process;
mod jitter;
mod listen;
mod metadata_refresh;
pub mod schedule;
mod sd_notify;
mod server_process;
mod server_supervisor;
mod signals;
mod token_key_file;

use std::net::TcpListener;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::clock::{self, BootTime};
use crate::common::config::Config;
use crate::common::environment::Environment;
use crate::common::fault::Fault;
use crate::common::log;
use crate::common::role::RoleArn;
use crate::common::session_token::TokenKey;
use crate::messages::fetch::{FetchOrders, FetchReport, Fetched};
use crate::messages::server_state::{Counts, ServerState};
use container_token::ContainerToken;
use fetcher_process::FetcherProcess;
use jitter::jitter;
use metadata_refresh::MetadataRefresh;
use sd_notify::SdNotify;
use server_supervisor::ServerSupervisor;
use signals::Signals;

/// A server that is told to go answers whoever is in; after this it is ended.
const LAST_ANSWERS: Duration = Duration::from_millis(400);

/// Serves until SIGTERM or SIGINT. `words` are the arguments as given, for the fetchers. The error is for the user to correct.
pub fn run(arguments: &Config, words: &[String], environment: &Environment) -> Result<(), String> {
    let mut signals = Signals::watch()
        .map_err(|error| format!("signals: {error}; this system cannot run ec2-role"))?;
    let token_key = token_key_file::token_key(arguments.token_key_file.as_ref())?;
    let listener = listen::listen(arguments.listen, |pause| {
        wait(&mut [PollFd::new(&signals.wake, PollFlags::IN)], pause);
        signals.clear();
        // As PID 1 it has everybody's orphans from the start.
        while child::reap().is_some() {}
        signals.end().is_none()
    })?;
    let ended = match listener {
        Some(listener) => {
            let supervisor = Supervisor::new(arguments, words, environment, listener, token_key)?;
            Some(supervisor.keep(&mut signals)?)
        }
        None => signals.end(),
    };
    if let Some(signal) = ended {
        log::event(&format!("ended by {signal}"));
    }
    Ok(())
}

struct Supervisor<'a> {
    words: &'a [String],
    /// What the server gets; the credential in it is the one cached credential.
    state: ServerState,
    server_supervisor: ServerSupervisor,
    /// What the next fetcher is told.
    orders: FetchOrders,
    fetcher: Option<FetcherProcess>,
    next_fetch: BootTime,
    failures: u32,
    /// Whether the next refresh is the first after a start or an outage.
    is_fresh: bool,
    has_said_expired: bool,
    /// Of the host's other metadata, where it is passed through.
    metadata_refresh: Option<MetadataRefresh>,
    container_token: Option<ContainerToken>,
    notify: SdNotify,
}

impl<'a> Supervisor<'a> {
    fn new(
        arguments: &Config,
        words: &'a [String],
        environment: &Environment,
        listener: TcpListener,
        token_key: TokenKey,
    ) -> Result<Self, String> {
        let address = listener
            .local_addr()
            .map_err(|error| format!("--listen: {error}"))?;
        let (container_token, token) = match arguments
            .container_token_file
            .clone()
            .map(ContainerToken::open)
            .transpose()?
        {
            Some((file, token)) => (Some(file), Some(token)),
            None => (None, None),
        };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned();
        let now = BootTime::now();
        let supervisor = Supervisor {
            words,
            server_supervisor: ServerSupervisor::new(listener, now),
            orders: FetchOrders {
                token_key: Some(token_key.clone()),
                boot_id: boot_id.clone(),
                ..FetchOrders::default()
            },
            state: ServerState {
                role: arguments.role.clone(),
                role_name: arguments.role_name.clone(),
                http_tokens: arguments.http_tokens,
                token_key,
                boot_id,
                quiet: arguments.quiet,
                same_network: arguments.same_network,
                allow_hosts: arguments.allow_hosts.clone(),
                metrics: arguments.metrics,
                region: None,
                container_token: token,
                both_forms: arguments.both_forms,
                pass_through: arguments.pass_through,
                snapshot: None,
                counts: Counts::default(),
                credential: None,
            },
            fetcher: None,
            next_fetch: now,
            failures: 0,
            is_fresh: true,
            has_said_expired: false,
            metadata_refresh: arguments.pass_through.map(|_| MetadataRefresh::new(now)),
            container_token,
            notify: SdNotify::new(environment, std::process::id(), now),
        };
        log::event(&format!("listening on {address} for {}", supervisor.role()));
        Ok(supervisor)
    }

    fn role(&self) -> &RoleArn {
        &self.state.role
    }

    /// The loop. Gives the name of the signal that ended it, or what the user has to correct.
    fn keep(mut self, signals: &mut Signals) -> Result<&'static str, String> {
        loop {
            let now = BootTime::now();
            self.notify.ping(now);
            self.start_what_is_due(now);
            self.wait_for_event(signals, now);
            signals.clear();
            if let Some(signal) = signals.end() {
                self.end(signals);
                return Ok(signal);
            }
            let now = BootTime::now();
            if let Err(error) = self
                .receive_fetch_reports(now)
                .and_then(|()| self.reap(now))
            {
                self.end(signals);
                return Err(error);
            }
            self.receive_metadata(now);
            self.server_supervisor.hear();
            self.say_if_expired(now);
        }
    }

    fn start_what_is_due(&mut self, now: BootTime) {
        if self.fetcher.is_none() && now >= self.next_fetch {
            let serving = self.state.credential.as_ref();
            self.orders.serving = serving.map(|credential| credential.access_key_id.clone());
            match FetcherProcess::start(self.words, &self.orders, now) {
                Ok(fetcher) => self.fetcher = Some(fetcher),
                Err(error) => self.failed(&error, now),
            }
        }
        if let Some(metadata_refresh) = &mut self.metadata_refresh {
            metadata_refresh.start_if_due(self.words, &self.orders, now);
        }
        self.server_supervisor.start_if_due(&mut self.state, now);
        // No oftener than the server is asked is the file looked at.
        if self.server_supervisor.send_heartbeat_if_due(now)
            && let Some(file) = &mut self.container_token
            && let Some(token) = file.changed()
        {
            self.state.container_token = Some(token);
            self.server_supervisor.state(&self.state, now);
        }
    }

    /// Waits for a signal, a report, an answer of the server's, or the next due time.
    fn wait_for_event(&self, signals: &Signals, now: BootTime) {
        let fetcher = self.fetcher.as_ref();
        let expiry = self.state.credential.as_ref();
        let due = [
            Some(fetcher.map_or(self.next_fetch, |fetcher| fetcher.deadline)),
            Some(self.server_supervisor.due()),
            self.metadata_refresh.as_ref().map(MetadataRefresh::due),
            expiry
                .filter(|_| !self.has_said_expired)
                .map(|credential| credential.deadline),
            self.notify.next_ping(),
        ];
        let next = due.into_iter().flatten().min().unwrap_or(now);
        let mut fds = vec![PollFd::new(&signals.wake, PollFlags::IN)];
        fds.extend(fetcher.map(|fetcher| PollFd::new(&fetcher.reports, PollFlags::IN)));
        fds.extend(
            self.metadata_refresh
                .as_ref()
                .and_then(MetadataRefresh::poll_fd),
        );
        fds.extend(self.server_supervisor.poll_fd());
        wait(&mut fds, next.left(now));
    }

    /// Takes what the fetcher reports; ends it at its deadline. The error ends the program.
    fn receive_fetch_reports(&mut self, now: BootTime) -> Result<(), String> {
        let Some(fetcher) = &mut self.fetcher else {
            return Ok(());
        };
        let reports = fetcher.receive_reports();
        for report in reports {
            self.hear(report, now)?;
        }
        if let Some(fetcher) = self.fetcher.take_if(|fetcher| now >= fetcher.deadline) {
            self.failed(&fetcher.end_overdue(), now);
        }
        Ok(())
    }

    fn hear(&mut self, report: FetchReport, now: BootTime) -> Result<(), String> {
        match report {
            FetchReport::Step(step) => {
                if let Some(fetcher) = &mut self.fetcher {
                    fetcher.step = step;
                }
            }
            FetchReport::Notice(text) => log::event(&text),
            // Handed over with the outcome.
            FetchReport::Region(name) => self.state.region = Some(name),
            FetchReport::Metadata(_) => {}
            FetchReport::Fetched(fetched) => {
                self.end_fetcher();
                self.fetched(fetched, now);
            }
            // Before the first credential only: later it may be mended meanwhile, and a restart would lose nothing but time.
            FetchReport::Failed(Fault::Permanent(text)) if self.state.credential.is_none() => {
                self.end_fetcher();
                return Err(text);
            }
            FetchReport::Failed(fault) => {
                self.end_fetcher();
                self.failed(fault.text(), now);
            }
        }
        Ok(())
    }

    /// The fetcher in hand has brought a credential: it is served, and its refresh is set.
    fn fetched(&mut self, fetched: Fetched, now: BootTime) {
        self.orders.clock_offset = fetched.clock_offset;
        self.orders.duration_limit = fetched.duration_limit;
        let lifetime = fetched.credential.lifetime();
        let wait = if self.is_fresh {
            schedule::spread(lifetime, jitter())
        } else {
            schedule::steady(lifetime, jitter())
        };
        let served = format!(
            "credential of {} until {}",
            self.role(),
            clock::iso8601(fetched.credential.expiration)
        );
        self.next_fetch = now.after(wait);
        (self.is_fresh, self.failures, self.has_said_expired) = (false, 0, false);
        self.state.counts.refreshes += 1;
        self.state.credential = Some(fetched.credential);
        self.server_supervisor.start_now(now);
        self.server_supervisor.state(&self.state, now);
        // Not before: whoever waits for the line asks at once.
        log::event(&format!("{served}, refreshed in {}", in_words(wait)));
        self.notify.ready(&served);
    }

    /// Takes what the reading of the host's other metadata brings.
    fn receive_metadata(&mut self, now: BootTime) {
        let heard = self
            .metadata_refresh
            .as_mut()
            .and_then(|metadata_refresh| metadata_refresh.hear(now));
        if let Some((snapshot, news)) = heard {
            self.state.snapshot = Some(snapshot);
            self.server_supervisor.state(&self.state, now);
            // Not before: whoever waits for the line asks at once.
            news.iter().for_each(|line| log::event(line));
        }
    }

    fn end_fetcher(&mut self) {
        if let Some(fetcher) = self.fetcher.take() {
            // It may have started a program that lives on.
            fetcher.kill();
        }
    }

    /// The fetcher in hand has failed: what is served stays, and the next try is set.
    fn failed(&mut self, why: &str, now: BootTime) {
        // In the order in which it happened, and the status is to end with why there is none.
        self.say_if_expired(now);
        self.failures += 1;
        self.state.counts.failures += 1;
        self.is_fresh = true;
        let wait = schedule::retry(self.failures, jitter());
        self.next_fetch = now.after(wait);
        let state = match self.state.valid_credential(now) {
            Some(credential) => format!(
                "refresh failed, the credential until {} is kept",
                clock::iso8601(credential.expiration)
            ),
            None => "no credential, requests are answered 500".to_owned(),
        };
        log::event(&format!("{state}: {why}; next try in {}", in_words(wait)));
        self.notify.status(&format!("{state}: {why}"));
        self.server_supervisor.start_now(now);
        self.server_supervisor.state(&self.state, now);
    }

    /// Collects the children that have ended. The error ends the program.
    fn reap(&mut self, now: BootTime) -> Result<(), String> {
        while let Some((pid, status)) = child::reap() {
            self.server_supervisor.child_ended(pid, status, now);
            // Its last words may have come after the pipe was looked at.
            self.receive_metadata(now);
            if let Some(metadata_refresh) = &mut self.metadata_refresh {
                metadata_refresh.child_ended(pid, status, now);
            }
            self.receive_fetch_reports(now)?;
            if self
                .fetcher
                .as_ref()
                .is_some_and(|fetcher| fetcher.pid == pid)
            {
                self.end_fetcher();
                self.failed(&FetcherProcess::ended_without_result(status), now);
            }
        }
        Ok(())
    }

    fn say_if_expired(&mut self, now: BootTime) {
        let Some(credential) = &self.state.credential else {
            return;
        };
        if !credential.is_valid(now) && !self.has_said_expired {
            self.has_said_expired = true;
            let text = format!(
                "the credential of {} has expired; requests are answered 500 until there is a new one",
                self.role()
            );
            log::event(&text);
            self.notify.status(&text);
        }
    }

    /// Ends the fetchers at once, and the server when it has answered whoever is in.
    fn end(&mut self, signals: &mut Signals) {
        self.notify.stopping();
        self.end_fetcher();
        if let Some(metadata_refresh) = &mut self.metadata_refresh {
            metadata_refresh.end();
        }
        let Some(server) = self.server_supervisor.close() else {
            return;
        };
        let deadline = BootTime::now().after(LAST_ANSWERS);
        loop {
            let now = BootTime::now();
            if std::iter::from_fn(child::reap).any(|(pid, _)| pid == server.pid) {
                return;
            }
            if now >= deadline {
                return server.kill();
            }
            wait(
                &mut [PollFd::new(&signals.wake, PollFlags::IN)],
                deadline.left(now),
            );
            signals.clear();
        }
    }
}

/// Waits until one of the descriptors is ready or the time is over. An interruption counts as ready: the loop looks at everything.
fn wait(fds: &mut [PollFd], longest: Duration) {
    // Rounded up: to wake a moment before what is due would be to turn for nothing.
    let timeout = Timespec::try_from(longest + Duration::from_micros(500)).ok();
    _ = poll(fds, timeout.as_ref());
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
