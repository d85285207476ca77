//! The keeper: owns the listening socket, the credential and the token key; refreshes, hands over, respawns.
//!
//! One poll loop. It never touches the network but to knock at its own door, resolves no name and waits for no program: what can
//! hang is an errand, and what can be broken from outside is the server, both of them processes that it replaces.

mod container_token;
mod errand_process;
mod key_file;
mod knock;
mod listen;
mod notify;
mod server_process;
mod signals;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitStatus};

use crate::arguments::Arguments;
use crate::clock::{self, Boot};
use crate::environment::Environment;
use crate::errand::{DEADLINE, Orders, Report, Task};
use crate::fault::Fault;
use crate::hand_over::{Counts, HandOver, PassedThrough};
use crate::role::RoleArn;
use crate::token::TokenKey;
use crate::{log, own_door, schedule};
use container_token::ContainerToken;
use errand_process::ErrandProcess;
use knock::{Heard, Knock};
use notify::Notify;
use server_process::ServerProcess;
use signals::Signals;

/// Clients that come before the first credential wait in the backlog for it, but no longer than their own patience allows.
const FIRST_OUTCOME: Duration = Duration::from_millis(400);
/// A server that lives no longer than this was not hit by chance …
const SHORT_LIFE: Duration = Duration::from_millis(50);
/// … and after some of them in a row the next start waits: 10 ms, doubling, to a second.
const SHORT_LIVES_FORGIVEN: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// A server that is told to go answers whoever is in; after this it is ended.
const LAST_ANSWERS: Duration = Duration::from_millis(400);

/// Serves until SIGTERM or SIGINT. `words` are the arguments as given, for the errands. The error is for the user to correct.
pub fn run(arguments: &Arguments, words: &[String]) -> Result<(), String> {
    let mut signals = Signals::watch()
        .map_err(|error| format!("signals: {error}; this system cannot run ec2-role"))?;
    let token_key = key_file::token_key(arguments.token_key_file.as_deref())?;
    let Some(listener) = listen::listen(arguments.listen, |pause| {
        wait(&mut [PollFd::new(&signals.wake, PollFlags::IN)], pause);
        signals.end().is_none()
    })?
    else {
        return Ok(());
    };
    let keeper = Keeper::new(arguments, words, listener, token_key)?;
    let ended = keeper.keep(&mut signals)?;
    log::event(&format!("ended by {ended}"));
    Ok(())
}

/// How often the host's other metadata is read: as often as AWS asks to look for an interruption of a spot instance, and more.
const READING_INTERVAL: Duration = Duration::from_secs(60);

struct Keeper<'a> {
    words: &'a [String],
    listener: TcpListener,
    own_address: SocketAddr,
    /// What the server gets; the credential in it is the one cached credential.
    hand_over: HandOver,
    /// What the next errand is told.
    orders: Orders,
    failures: u32,
    /// Whether the next refresh is the first after a start or an outage.
    is_fresh: bool,
    has_outcome: bool,
    has_said_expired: bool,
    errand: Option<ErrandProcess>,
    next_errand: Boot,
    /// The errand that reads the host's other metadata.
    reading: Option<ErrandProcess>,
    next_reading: Boot,
    readings_in_vain: u32,
    container_token: Option<ContainerToken>,
    server: Option<ServerProcess>,
    next_server: Boot,
    short_lives: u32,
    knock: Option<Knock>,
    next_knock: Boot,
    knocks_in_vain: u32,
    notify: Notify,
}

impl<'a> Keeper<'a> {
    fn new(
        arguments: &Arguments,
        words: &'a [String],
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
        let secret_path =
            TokenKey::random().ok_or("the kernel gives no random numbers; look at /dev/urandom")?;
        let now = Boot::now();
        let keeper = Keeper {
            words,
            listener,
            own_address: own_door::reachable(address),
            orders: Orders {
                token_key: Some(token_key.clone()),
                boot_id: boot_id.clone(),
                ..Orders::default()
            },
            hand_over: HandOver {
                role: arguments.role.clone(),
                role_name: arguments.role_name.clone(),
                http_tokens: arguments.http_tokens,
                token_key,
                boot_id,
                knock: format!("/{}", secret_path.to_hex()),
                quiet: arguments.quiet,
                allow_hosts: arguments.allow_hosts.clone(),
                metrics: arguments.metrics,
                region: None,
                container_token: token,
                pass_through: arguments.pass_through.map(|_| PassedThrough::NotYet),
                counts: Counts::default(),
                credential: None,
            },
            failures: 0,
            is_fresh: true,
            has_outcome: false,
            has_said_expired: false,
            errand: None,
            next_errand: now,
            reading: None,
            next_reading: now,
            readings_in_vain: 0,
            container_token,
            server: None,
            next_server: now.after(FIRST_OUTCOME),
            short_lives: 0,
            knock: None,
            next_knock: now,
            knocks_in_vain: 0,
            notify: Notify::new(&Environment::of_process(), std::process::id(), now),
        };
        log::event(&format!("listening on {address} for {}", keeper.role()));
        Ok(keeper)
    }

    fn role(&self) -> &RoleArn {
        &self.hand_over.role
    }

    /// The loop. Gives the name of the signal that ended it, or what the user has to correct.
    fn keep(mut self, signals: &mut Signals) -> Result<&'static str, String> {
        loop {
            let now = Boot::now();
            self.notify.ping(now);
            self.start_what_is_due(now);
            self.wait_for_event(signals, now);
            signals.clear();
            if let Some(signal) = signals.end() {
                self.end(signals);
                return Ok(signal);
            }
            let now = Boot::now();
            let outcome = self.hear_errand(now).and_then(|()| self.reap(now));
            self.hear_reading(now);
            if let Err(error) = outcome {
                self.end(signals);
                return Err(error);
            }
            self.hear_knock(now);
            self.say_if_expired(now);
        }
    }

    fn start_what_is_due(&mut self, now: Boot) {
        if self.errand.is_none() && now >= self.next_errand {
            self.orders.serving = self
                .hand_over
                .credential
                .as_ref()
                .map(|credential| credential.access_key_id.clone());
            match ErrandProcess::start(self.words, &self.orders, now) {
                Ok(errand) => self.errand = Some(errand),
                Err(error) => self.failed(&format!("an errand cannot be started: {error}; is there memory, and room for a process?"), now),
            }
        }
        if self.hand_over.pass_through.is_some()
            && self.reading.is_none()
            && now >= self.next_reading
        {
            self.next_reading = now.after(READING_INTERVAL);
            let orders = Orders {
                task: Task::Metadata,
                ..self.orders.clone()
            };
            match ErrandProcess::start(self.words, &orders, now) {
                Ok(reading) => self.reading = Some(reading),
                Err(error) => self.not_read(
                    &format!("an errand cannot be started: {error}; is there memory?"),
                    now,
                ),
            }
        }
        if self.server.is_none() && now >= self.next_server {
            match ServerProcess::start(&self.listener, &self.hand_over, now) {
                Ok(server) => {
                    self.server = Some(server);
                    self.next_knock = now.after(knock::INTERVAL);
                    (self.knock, self.knocks_in_vain) = (None, 0);
                }
                Err(error) => {
                    log::event(&format!(
                        "the server cannot be started: {error}; is there memory, and room for a process?"
                    ));
                    self.next_server = now.after(MAX_PAUSE);
                }
            }
        }
        if self.server.is_some() && self.knock.is_none() && now >= self.next_knock {
            self.knock = Knock::begin(self.own_address, &self.hand_over.knock, now);
            self.next_knock = now.after(knock::INTERVAL);
            // No oftener than this is the file looked at.
            if let Some(token) = self
                .container_token
                .as_mut()
                .and_then(ContainerToken::changed)
            {
                self.hand_over.container_token = Some(token);
                self.hand_over_now(now);
            }
        }
    }

    /// Waits for a signal, a report, an answer to the knock, or the next due time.
    fn wait_for_event(&self, signals: &Signals, now: Boot) {
        let expiry = self
            .hand_over
            .credential
            .as_ref()
            .filter(|_| !self.has_said_expired)
            .map(|credential| credential.deadline);
        let next_reading = self
            .reading
            .as_ref()
            .map_or(self.next_reading, |reading| reading.deadline);
        let due = [
            Some(next_reading).filter(|_| self.hand_over.pass_through.is_some()),
            Some(
                self.errand
                    .as_ref()
                    .map_or(self.next_errand, |errand| errand.deadline),
            ),
            Some(
                self.knock
                    .as_ref()
                    .map_or(self.next_knock, |knock| knock.deadline),
            )
            .filter(|_| self.server.is_some()),
            Some(self.next_server).filter(|_| self.server.is_none()),
            expiry,
            self.notify.next_ping(),
        ];
        let next = due.into_iter().flatten().min().unwrap_or(now);
        let mut fds = vec![PollFd::new(&signals.wake, PollFlags::IN)];
        let errands = self.errand.iter().chain(&self.reading);
        fds.extend(errands.map(|errand| PollFd::new(&errand.reports, PollFlags::IN)));
        fds.extend(self.knock.as_ref().map(|knock| {
            PollFd::new(
                &knock.stream,
                if knock.has_asked {
                    PollFlags::IN
                } else {
                    PollFlags::OUT
                },
            )
        }));
        wait(&mut fds, next.left(now));
    }

    /// Takes what the errand reports; ends it at its deadline. The error ends the program.
    fn hear_errand(&mut self, now: Boot) -> Result<(), String> {
        let Some(errand) = &mut self.errand else {
            return Ok(());
        };
        let reports = errand.take_reports();
        for report in reports {
            self.hear(report, now)?;
        }
        if let Some(errand) = self.errand.take_if(|errand| now >= errand.deadline) {
            errand.kill();
            let seconds = DEADLINE.as_secs();
            self.failed(&format!("the errand was ended after {seconds} s, {}; look at the network and the source", errand.step), now);
        }
        Ok(())
    }

    fn hear(&mut self, report: Report, now: Boot) -> Result<(), String> {
        match report {
            Report::Step(step) => {
                if let Some(errand) = &mut self.errand {
                    errand.step = step;
                }
            }
            Report::Notice(text) => log::event(&text),
            // Handed over with the outcome.
            Report::Region(name) => self.hand_over.region = Some(name),
            Report::Metadata(_) => {}
            Report::Done {
                credential,
                clock_offset,
                duration_limit,
            } => {
                self.end_errand();
                (self.orders.clock_offset, self.orders.duration_limit) =
                    (clock_offset, duration_limit);
                let lifetime = credential.lifetime();
                let wait = if self.is_fresh {
                    schedule::spread(lifetime, chance())
                } else {
                    schedule::steady(lifetime, chance())
                };
                let served = format!(
                    "credential of {} until {}",
                    self.role(),
                    clock::iso8601(credential.expiration)
                );
                self.next_errand = now.after(wait);
                (self.is_fresh, self.failures, self.has_said_expired) = (false, 0, false);
                self.hand_over.counts.refreshes += 1;
                self.hand_over.credential = Some(credential);
                self.outcome(now);
                self.hand_over_now(now);
                // Not before: whoever waits for the line asks at once.
                log::event(&format!("{served}, refreshed in {}", in_words(wait)));
                self.notify.ready(&served);
            }
            // Before the first credential only: later it may be mended meanwhile, and a restart would lose nothing but time.
            Report::Failed(Fault::Lasting(text)) if self.hand_over.credential.is_none() => {
                self.end_errand();
                return Err(text);
            }
            Report::Failed(fault) => {
                self.end_errand();
                self.failed(fault.text(), now);
            }
        }
        Ok(())
    }

    /// Takes what the reading of the host's other metadata brings.
    fn hear_reading(&mut self, now: Boot) {
        let reports = self
            .reading
            .as_mut()
            .map(ErrandProcess::take_reports)
            .unwrap_or_default();
        for report in reports {
            match report {
                Report::Metadata(snapshot) => {
                    self.reading = None;
                    let count = snapshot.items.len();
                    let is_news = self.hand_over.pass_through == Some(PassedThrough::NotYet)
                        || self.readings_in_vain > 0;
                    self.readings_in_vain = 0;
                    self.hand_over.pass_through = Some(PassedThrough::Read(snapshot));
                    self.hand_over_now(now);
                    if is_news {
                        log::event(&format!(
                            "pass-through: {count} items of the host's metadata read"
                        ));
                    }
                }
                Report::Failed(fault) => {
                    self.reading = None;
                    self.not_read(fault.text(), now);
                }
                Report::Step(_) | Report::Notice(_) | Report::Region(_) | Report::Done { .. } => {}
            }
        }
        if let Some(reading) = self.reading.take_if(|reading| now >= reading.deadline) {
            reading.kill();
            let seconds = DEADLINE.as_secs();
            self.not_read(
                &format!(
                    "the errand was ended after {seconds} s; look at the host's metadata service"
                ),
                now,
            );
        }
    }

    /// Said once, and again when it works again. Tried again soon at first: a host's service may come up after ec2-role.
    fn not_read(&mut self, why: &str, now: Boot) {
        if self.readings_in_vain == 0 {
            log::event(&format!(
                "pass-through: the host's metadata was not read, what was read before is kept: {why}"
            ));
        }
        self.readings_in_vain += 1;
        self.next_reading = now.after(schedule::retry(self.readings_in_vain, chance()));
    }

    fn end_errand(&mut self) {
        if let Some(errand) = self.errand.take() {
            // It may have started a program that lives on.
            errand.kill();
        }
    }

    /// The errand in hand has failed: what is served stays, and the next try is set.
    fn failed(&mut self, why: &str, now: Boot) {
        self.failures += 1;
        self.hand_over.counts.failures += 1;
        self.is_fresh = true;
        let wait = schedule::retry(self.failures, chance());
        self.next_errand = now.after(wait);
        let served = self
            .hand_over
            .credential
            .as_ref()
            .filter(|credential| credential.is_valid(now));
        let state = match served {
            Some(credential) => format!(
                "refresh failed, the credential until {} is kept",
                clock::iso8601(credential.expiration)
            ),
            None => "no credential, requests are answered 500".to_owned(),
        };
        log::event(&format!("{state}: {why}; next try in {}", in_words(wait)));
        self.notify.status(&format!("{state}: {why}"));
        self.outcome(now);
        self.hand_over_now(now);
    }

    /// The first attempt has an outcome: the server need not wait longer.
    fn outcome(&mut self, now: Boot) {
        if !self.has_outcome {
            self.has_outcome = true;
            self.next_server = now;
        }
    }

    fn hand_over_now(&mut self, now: Boot) {
        let Some(server) = &mut self.server else {
            return;
        };
        if server.hand_over(&self.hand_over).is_err() {
            self.replace_server("it does not take the new credential", now);
        }
    }

    /// Ends the server that is there; the next starts in the same turn of the loop.
    fn replace_server(&mut self, why: &str, now: Boot) {
        if let Some(server) = self.server.take() {
            log::event(&format!("server replaced ({}): {why}", server.pid));
            server.kill();
            self.hand_over.counts.server_restarts += 1;
            self.next_server = now;
        }
    }

    /// Collects the children that have ended. The error ends the program.
    fn reap(&mut self, now: Boot) -> Result<(), String> {
        while let Some((pid, status)) = signals::reap() {
            if self.server.as_ref().is_some_and(|server| server.pid == pid) {
                self.server_ended(pid, status, now);
            }
            if self.errand.as_ref().is_some_and(|errand| errand.pid == pid) {
                // Its last words may have come after the pipe was looked at.
                self.hear_errand(now)?;
            }
            if self
                .reading
                .as_ref()
                .is_some_and(|reading| reading.pid == pid)
            {
                self.hear_reading(now);
                if self.reading.take().is_some() {
                    let how = ending(status);
                    self.not_read(&format!("the errand ended without a word ({how})"), now);
                }
            }
            if self.errand.as_ref().is_some_and(|errand| errand.pid == pid) {
                self.end_errand();
                self.failed(
                    &format!(
                        "the errand ended without a word ({}); is there memory?",
                        ending(status)
                    ),
                    now,
                );
            }
        }
        Ok(())
    }

    fn server_ended(&mut self, pid: Pid, status: WaitStatus, now: Boot) {
        let Some(server) = self.server.take() else {
            return;
        };
        self.hand_over.counts.server_restarts += 1;
        log::event(&format!("server replaced ({pid}): {}", ending(status)));
        let lived = Duration::from_millis(now.0 - server.started.0);
        self.short_lives = if lived < SHORT_LIFE {
            self.short_lives + 1
        } else {
            0
        };
        let pause = match self.short_lives.checked_sub(SHORT_LIVES_FORGIVEN) {
            None => Duration::ZERO,
            Some(excess) => (FIRST_PAUSE * 2u32.pow(excess.min(10))).min(MAX_PAUSE),
        };
        self.next_server = now.after(pause);
    }

    fn hear_knock(&mut self, now: Boot) {
        let Some(knock) = &mut self.knock else { return };
        match knock.go_on() {
            Heard::Waiting if now < knock.deadline => return,
            Heard::Answer => self.knocks_in_vain = 0,
            Heard::Waiting | Heard::Nothing => self.knocks_in_vain += 1,
        }
        self.knock = None;
        if self.knocks_in_vain >= knock::MAX_IN_VAIN {
            self.replace_server("it does not answer", now);
        }
    }

    fn say_if_expired(&mut self, now: Boot) {
        let Some(credential) = &self.hand_over.credential else {
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

    /// Ends the errands at once, and the server when it has answered whoever is in.
    fn end(&mut self, signals: &mut Signals) {
        self.notify.stopping();
        self.end_errand();
        if let Some(reading) = self.reading.take() {
            reading.kill();
        }
        let Some(server) = self.server.take() else {
            return;
        };
        server.close();
        let deadline = Boot::now().after(LAST_ANSWERS);
        loop {
            let now = Boot::now();
            if std::iter::from_fn(signals::reap).any(|(pid, _)| pid == server.pid) {
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

/// A number from 0 to 1. Without random numbers, the middle.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(4) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        _ => 0.5,
    }
}

fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
