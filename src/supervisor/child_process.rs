//! Reaps children that have ended.

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, wait, waitid, waitpid,
};

/// Reaps a child if it has ended, and returns how it ended, for the log; `None` if it still runs. The child's process group is
/// killed before the child is reaped: afterwards the kernel may give the number of the group to another process.
pub fn reap(child: Pid) -> Option<String> {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let Ok(status) = waitid(WaitId::Pid(child), peek) else {
        return Some("ended".to_owned());
    };
    let status = status?;
    _ = kill_process_group(child, Signal::KILL);
    _ = waitpid(Some(child), WaitOptions::NOHANG);
    Some(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "ended".to_owned(),
    })
}

/// Reaps all ended children that are not in `known`: killed fetchers and servers and, for PID 1, orphans. The children in `known`
/// are left to [`reap`].
pub fn reap_others(known: &[Pid]) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let reaped = match nix::sys::wait::waitid(Id::All, peek).map(|status| status.pid()) {
            Ok(Some(pid)) if !known.iter().any(|known| known.as_raw_pid() == pid.as_raw()) => {
                waitpid(Pid::from_raw(pid.as_raw()), WaitOptions::NOHANG)
            }
            // nix fails with EINVAL if the child was killed by a signal that nix has no name for.
            Err(Errno::EINVAL) => wait(WaitOptions::NOHANG),
            _ => return,
        };
        // Stop if the child was not reaped, as when a sandbox refuses the call: the loop would find the same child forever.
        if !matches!(reaped, Ok(Some(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn group_of_an_ended_child_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 & exit 7"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let wait = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), wait).unwrap();
        assert_eq!(reap(pid).as_deref(), Some("exited with status 7"));
        // The pipe ends when the last process that holds it has ended.
        let mut stdout = child.stdout.take().unwrap();
        assert_eq!(stdout.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert_eq!(reap(pid).as_deref(), Some("ended"));
        assert!(child.wait().is_err(), "it was reaped");
    }
}
