//! Children that have ended.

use rustix::process::{Pid, WaitOptions, WaitStatus};

/// The next child that has ended, our own or, as PID 1, anyone's orphan.
pub fn reap() -> Option<(Pid, WaitStatus)> {
    rustix::process::wait(WaitOptions::NOHANG).ok().flatten()
}

/// How one ended, for the log.
pub fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}
