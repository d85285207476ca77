//! Defines the trait `Refresh`, a fetch that the poll loop repeats, and `Effects`, the changes that follow from a report.

use super::sd_notify::SdNotify;
use super::server_supervisor::ServerSupervisor;
use crate::common::{
    BootTime,
    log::{self, Level},
};
use crate::messages::{FetchOrders, FetchReport, ServerUpdate};

/// The state machine of one repeated fetch. The poll loop runs the fetchers and passes in their reports, the time and `jitter`, a
/// random number from 0 to 1.
pub trait Refresh {
    /// When the next fetch is due. The poll loop ignores this while a fetch runs.
    fn due(&self) -> BootTime;

    /// Makes the next fetch due as soon as possible.
    fn fetch_now(&mut self, now: BootTime);

    /// Notes that a fetch starts now, and returns its orders.
    fn start(&mut self, now: BootTime) -> &FetchOrders;

    fn receive(&mut self, report: FetchReport, now: BootTime, jitter: f64) -> Received;

    /// Returns the effects of an expiry that is due and not yet logged. Call this before `receive`, which would otherwise log
    /// that the expired credential is still served. The poll loop sets no timer for an expiry: it wakes for a heartbeat within a
    /// second anyway.
    fn expire(&mut self, _now: BootTime) -> Effects {
        Effects::default()
    }
}

/// The effects of a report. An error ends the program.
pub type Received = Result<Effects, String>;

/// The effects of a report, applied in the order of the fields. The update comes first, because a client that waits for the log
/// line sends its request as soon as the line appears.
#[derive(Default)]
pub struct Effects {
    pub update: Option<ServerUpdate>,
    pub log: Option<String>,
    pub level: Level,
    /// The status line that `systemctl status` shows.
    pub status: Option<String>,
}

impl Effects {
    pub fn warning(line: impl Into<String>) -> Self {
        Effects { log: Some(line.into()), level: Level::Warning, ..Effects::default() }
    }

    pub fn apply(self, server: &mut ServerSupervisor, notify: &mut SdNotify, now: BootTime) {
        let is_served = matches!(self.update, Some(ServerUpdate::Fetched(_)));
        if let Some(update) = self.update {
            server.update(update, now);
        }
        self.log.iter().for_each(|line| log::at(self.level, line));
        match self.status {
            Some(status) if is_served => notify.ready(&status),
            Some(status) => notify.status(&status),
            None => {}
        }
    }
}
