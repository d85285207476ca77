//! The poll loop.

use std::time::Duration;

use super::child_process;
use super::fetcher_process::Fetcher;
use super::jitter::jitter;
use super::refresh::Refresh;
use super::sd_notify::SdNotify;
use super::server_supervisor::ServerSupervisor;
use super::signals::{Order, Signals};
use crate::common::clock::BootTime;
use crate::messages::fetch_orders::FetchOrders;
use crate::messages::fetch_report::FetchReport;

/// Kill timeout of the server at the end: longer than its own drain time for open requests.
const KILL_TIMEOUT: Duration = Duration::from_millis(400);

pub struct Supervisor<'a> {
    pub words: &'a [String],
    /// What every fetcher is told.
    pub orders: FetchOrders,
    pub refreshes: Vec<(Box<dyn Refresh>, Fetcher)>,
    pub server: ServerSupervisor,
    pub notify: SdNotify,
}

impl Supervisor<'_> {
    /// Gives the name of the signal that ended it, or what the user has to correct.
    pub fn run(mut self, signals: &Signals) -> Result<&'static str, String> {
        let result = loop {
            let now = BootTime::now();
            self.notify.ping(now);
            if let Err(error) = self.start_due(now) {
                break Err(error);
            }
            self.wait(signals, now);
            let now = BootTime::now();
            match signals.order() {
                Some(Order::End(signal)) => break Ok(signal),
                Some(Order::FetchNow) => {
                    let refreshes = self.refreshes.iter_mut();
                    refreshes.for_each(|(refresh, _)| refresh.fetch_now(now));
                }
                None => {}
            }
            if let Err(error) = self.receive(now) {
                break Err(error);
            }
        };
        self.end(signals);
        result
    }

    fn start_due(&mut self, now: BootTime) -> Result<(), String> {
        for (refresh, fetcher) in &mut self.refreshes {
            if fetcher.deadline().is_none() && now >= refresh.due() {
                let orders = refresh.start(self.orders.clone(), now);
                if let Err(fault) = fetcher.start(self.words, &orders, now) {
                    let effects = refresh.receive(FetchReport::Failed(fault), now, jitter())?;
                    effects.apply(&mut self.server, &mut self.notify, now);
                }
            }
        }
        self.server.start_if_due(now);
        self.server.send_heartbeat_if_due(now);
        Ok(())
    }

    /// Waits for a signal, a report, an answer of the server, or the next due time.
    fn wait(&self, signals: &Signals, now: BootTime) {
        let refreshes = self.refreshes.iter().flat_map(|(refresh, fetcher)| {
            let fetch = fetcher.deadline().unwrap_or_else(|| refresh.due());
            [Some(fetch), refresh.expiry()]
        });
        let others = [Some(self.server.due()), self.notify.next_ping()];
        let due = refreshes.chain(others).flatten().min().unwrap_or(now);
        let fetchers = self.refreshes.iter().map(|(_, fetcher)| fetcher.poll_fd());
        let fds = fetchers
            .chain([self.server.poll_fd(), self.notify.poll_fd()])
            .flatten();
        signals.wait(fds, due.left(now));
    }

    /// Receives all reports and answers, and reaps all children. The error ends the program.
    fn receive(&mut self, now: BootTime) -> Result<(), String> {
        self.server.receive();
        for (refresh, fetcher) in &mut self.refreshes {
            for report in fetcher.receive(now) {
                let effects = refresh.receive(report, now, jitter())?;
                effects.apply(&mut self.server, &mut self.notify, now);
            }
        }
        loop {
            let leaders = self.refreshes.iter().flat_map(|(_, it)| it.leaders());
            let Some((pid, status)) = child_process::reap(leaders) else {
                break;
            };
            self.server.child_ended(pid, status, now);
            for (refresh, fetcher) in &mut self.refreshes {
                for report in fetcher.child_ended(pid, status) {
                    let effects = refresh.receive(report, now, jitter())?;
                    effects.apply(&mut self.server, &mut self.notify, now);
                }
            }
        }
        for (refresh, _) in &mut self.refreshes {
            let effects = refresh.expire(now);
            effects.apply(&mut self.server, &mut self.notify, now);
        }
        Ok(())
    }

    /// Kills the fetchers at once, and the server after it has answered its open requests.
    fn end(&mut self, signals: &Signals) {
        self.notify.stopping();
        self.refreshes.iter_mut().for_each(|(_, it)| it.kill());
        let Some(server) = self.server.close() else {
            return;
        };
        let deadline = BootTime::now().after(KILL_TIMEOUT);
        loop {
            let now = BootTime::now();
            if std::iter::from_fn(|| child_process::reap(std::iter::empty()))
                .any(|(pid, _)| pid == server.pid)
            {
                return;
            }
            if now >= deadline {
                return server.kill();
            }
            signals.wait(std::iter::empty(), deadline.left(now));
        }
    }
}
