//! Children that have ended.

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process_group, wait, waitid,
    waitpid,
};

/// Reaps the next child that has ended: one of ours or, as PID 1, an orphan. The process group of a leader is killed first: once
/// the leader is reaped, its number may be another's.
pub fn reap(leaders: impl Iterator<Item = Pid>) -> Option<(Pid, WaitStatus)> {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    for leader in leaders {
        if matches!(waitid(WaitId::Pid(leader), peek), Ok(Some(_))) {
            _ = kill_process_group(leader, Signal::KILL);
            return waitpid(Some(leader), WaitOptions::NOHANG).ok().flatten();
        }
    }
    wait(WaitOptions::NOHANG).ok().flatten()
}

/// How a child ended, for the log.
pub fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
