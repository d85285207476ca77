//! Reaps children that have ended.

use std::collections::HashMap;

use rustix::process::{Pid, WaitOptions, wait};

/// Children that have ended, each with how it ended, for the log.
pub type Ended = HashMap<Pid, String>;

/// Reaps all children that have ended: servers, fetchers, log writers and, for PID 1, orphans.
pub fn reap() -> Ended {
    let next = || wait(WaitOptions::NOHANG).ok().flatten();
    let ended = std::iter::from_fn(next).map(|(pid, status)| {
        let how = match status.exit_status() {
            Some(code) => format!("exited with status {code}"),
            None => format!("killed by signal {}", status.terminating_signal().unwrap_or_default()),
        };
        (pid, how)
    });
    ended.collect()
}
