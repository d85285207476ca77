//! What the poll loop does again and again: a fetch, and what its reports change.

use super::sd_notify::SdNotify;
use super::server_supervisor::ServerSupervisor;
use crate::common::clock::BootTime;
use crate::common::log::{self, Level};
use crate::messages::fetch_orders::FetchOrders;
use crate::messages::fetch_report::FetchReport;
use crate::messages::server_state::ServerUpdate;

/// A fetch that is repeated, as a state machine. The poll loop runs the fetchers, and passes in their reports, the time and a
/// random number from 0 to 1.
pub trait Refresh {
    /// When the next fetch is due, if none is running.
    fn due(&self) -> BootTime;

    /// Makes the next fetch due.
    fn fetch_now(&mut self, now: BootTime);

    /// A fetch starts: completes its orders.
    fn start(&mut self, orders: FetchOrders, now: BootTime) -> FetchOrders;

    fn receive(&mut self, report: FetchReport, now: BootTime, jitter: f64) -> Received;

    /// When what was fetched expires, unless that was logged.
    fn expiry(&self) -> Option<BootTime> {
        None
    }

    /// Logs the expiry, once.
    fn expire(&mut self, _now: BootTime) -> Effects {
        Effects::default()
    }
}

/// The error ends the program.
pub type Received = Result<Effects, String>;

/// What a report changes, in this order. A client that waits for the line asks at once, so the update goes first.
#[derive(Default)]
pub struct Effects {
    pub update: Option<ServerUpdate>,
    pub log: Vec<String>,
    pub level: Level,
    pub status: Option<Status>,
}

/// What `systemctl status` shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// A credential is served: the service is ready.
    Ready(String),
    Trouble(String),
}

impl Effects {
    pub fn warning(line: impl Into<String>) -> Self {
        Effects { log: vec![line.into()], level: Level::Warning, ..Effects::default() }
    }

    pub fn apply(self, server: &mut ServerSupervisor, notify: &mut SdNotify, now: BootTime) {
        if let Some(update) = self.update {
            server.update(update, now);
        }
        self.log.iter().for_each(|line| log::at(self.level, line));
        match self.status {
            Some(Status::Ready(text)) => notify.ready(&text),
            Some(Status::Trouble(text)) => notify.status(&text),
            None => {}
        }
    }
}
