//! Children that have ended.

use rustix::process::{Pid, WaitOptions, WaitStatus};

/// The next child that has ended: one of ours or, as PID 1, an orphan.
pub fn reap() -> Option<(Pid, WaitStatus)> {
    rustix::process::wait(WaitOptions::NOHANG).ok().flatten()
}

/// How a child ended, for the log.
pub fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
