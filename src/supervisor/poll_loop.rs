//! The supervisor's poll loop: waits for events, receives reports, starts what is due.

use std::time::SystemTime;

use super::child_process;
use super::fetcher_process::Fetcher;
use super::jitter::jitter;
use super::listen::share;
use super::refresh::Refresh;
use super::sd_notify::SdNotify;
use super::server_supervisor::ServerSupervisor;
use super::signals::{Order, Signals};
use crate::common::{BootTime, clock::epoch_seconds, log, log::writer::LogWriter};
use crate::messages::FetchReport;

/// If the wall clock is set ahead by more than this, every value is fetched again. The step may follow a pause of the virtual
/// machine, such as that of Docker Desktop while a laptop sleeps. CLOCK_BOOTTIME does not count such a pause, so the credential
/// may have expired without being noticed.
const MAX_STEP_SECONDS: i64 = 60;

pub struct Supervisor<'a> {
    pub refreshes: Vec<(Box<dyn Refresh>, Fetcher)>,
    pub server: ServerSupervisor,
    pub notify: SdNotify,
    pub log_writer: &'a mut LogWriter,
}

impl Supervisor<'_> {
    /// Runs until a signal ends the program, and returns the signal's name. The error is one that the user has to correct.
    pub fn run(mut self, signals: &Signals) -> Result<&'static str, String> {
        // Seconds by which the wall clock is ahead of CLOCK_BOOTTIME, which nobody can set.
        let wall_clock = || epoch_seconds(SystemTime::now()) - (BootTime::now().0 / 1000) as i64;
        let mut ahead = wall_clock();
        let result = 'serve: loop {
            self.wait(signals, BootTime::now());
            let now = BootTime::now();
            let before = std::mem::replace(&mut ahead, wall_clock());
            let is_step = ahead - before > MAX_STEP_SECONDS;
            let mut reason = is_step.then_some("the wall clock was set ahead");
            while let Some(order) = signals.order() {
                match order {
                    Order::End(signal) => break 'serve Ok(signal),
                    Order::FetchNow => reason = Some("SIGHUP"),
                    Order::ShareAddress => share(&self.server.listener),
                }
            }
            if let Some(reason) = reason {
                log::event(&format!("{reason}: fetching now"));
                self.refreshes.iter_mut().for_each(|(refresh, _)| refresh.fetch_now(now));
            }
            if let Err(error) = self.turn(now) {
                break Err(error);
            }
        };
        self.notify.stopping();
        self.refreshes.iter_mut().for_each(|(_, fetcher)| fetcher.kill());
        self.server.end();
        result
    }

    /// Waits for a signal, a fetcher's report, a heartbeat answer, or the next due time.
    fn wait(&self, signals: &Signals, now: BootTime) {
        let fetch = |(refresh, fetcher): &(Box<dyn Refresh>, Fetcher)| {
            fetcher.deadline().unwrap_or_else(|| refresh.due())
        };
        let others = self.refreshes.iter().map(fetch).chain(self.notify.next_ping());
        let due = others.fold(self.server.due(), BootTime::min);
        let fetchers = self.refreshes.iter().map(|(_, fetcher)| fetcher.poll_fd());
        let fds = fetchers.chain([self.server.poll_fd()]).flatten();
        signals.wait(fds, due.left(now));
    }

    /// Receives all reports and heartbeat answers, reaps all ended children, and starts and sends what is due. An error ends the
    /// program.
    fn turn(&mut self, now: BootTime) -> Result<(), String> {
        let ended = child_process::reap();
        self.server.receive(&ended, now);
        for (refresh, fetcher) in &mut self.refreshes {
            // Apply a due expiry before the reports, so that the log lines are in the order of the events.
            refresh.expire(now).apply(&mut self.server, &mut self.notify, now);
            let mut reports = fetcher.receive(&ended, now);
            // Start no fetch in a turn with reports: they are applied below, and set the time at which the next fetch is due.
            if reports.is_empty() && fetcher.deadline().is_none() && now >= refresh.due() {
                let failure = fetcher.start(refresh.start(now), now).err();
                reports.extend(failure.map(FetchReport::Failed));
            }
            for report in reports {
                let effects = refresh.receive(report, now, jitter())?;
                effects.apply(&mut self.server, &mut self.notify, now);
            }
        }
        self.server.start_if_due(now);
        self.server.send_heartbeat_if_due(now);
        self.notify.ping(now);
        self.log_writer.keep_running();
        Ok(())
    }
}
