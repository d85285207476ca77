//! The kinds of process: how each is started, and what each does first.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use rustix::process::{DumpableBehavior, Signal};
use signal_hook::consts::SIGCHLD;

/// systemd sets these for the process that it starts: no child may notify in its name.
const SYSTEMD_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";
/// Added to the supervisor's score: when memory is short, the replaceable processes go first. The kernel's maximum is 1000.
const OOM_SCORE_STEP: i32 = 500;
const MAX_OOM_SCORE: i32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// The process that the user starts.
    Supervisor,
    /// Answers containers.
    Server,
    /// Fetches what the supervisor orders.
    Fetcher,
    /// Writes the log where stderr is a file.
    LogWriter,
}

impl ProcessKind {
    /// The kind is in argument zero, which `ps` shows too.
    pub fn from_name(argument_zero: &str) -> ProcessKind {
        [ProcessKind::Server, ProcessKind::Fetcher, ProcessKind::LogWriter]
            .into_iter()
            .find(|kind| kind.name() == argument_zero)
            .unwrap_or(ProcessKind::Supervisor)
    }

    /// At most 15 bytes: the kernel truncates a longer name (TASK_COMM_LEN).
    fn name(self) -> &'static str {
        match self {
            ProcessKind::Supervisor => "ec2-role",
            ProcessKind::Server => "ec2-role-server",
            ProcessKind::Fetcher => "ec2-role-fetch",
            ProcessKind::LogWriter => "ec2-role-log",
        }
    }

    /// Starts this program again, even if its file was replaced or deleted. Each child leads a process group, so that Ctrl-C
    /// reaches the supervisor only, and a fetcher can be killed together with the processes it has started.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(self.name()).process_group(0);
        for variable in SYSTEMD_VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    /// What every process does first: undoes what the parent set for signals, leaves no core file, cannot be traced, has its own
    /// name, and ends with its supervisor. Where a sandbox forbids a call, the rest still works.
    pub fn harden(self) {
        set_signals();
        if matches!(self, ProcessKind::Server | ProcessKind::Fetcher) {
            // Before the process stops being dumpable: afterwards root owns the file.
            raise_oom_score();
        }
        _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        if self == ProcessKind::Server {
            // A fetcher has children of its own to kill, and notices by itself (fetcher/mod.rs).
            _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        }
        if self != ProcessKind::Supervisor
            && let Ok(name) = CString::new(self.name())
        {
            _ = rustix::thread::set_name(&name);
        }
    }
}

/// A parent's blocked SIGTERM would never arrive, and its ignored SIGCHLD would hide how a child ended.
fn set_signals() {
    _ = SigSet::empty().thread_set_mask();
    _ = signal_hook::flag::register(SIGCHLD, Arc::<AtomicBool>::default());
}

fn raise_oom_score() {
    let own = std::fs::read_to_string(OOM_SCORE_FILE).unwrap_or_default();
    // Inherited from the supervisor.
    let score = own.trim().parse().unwrap_or(0) + OOM_SCORE_STEP;
    _ = std::fs::write(OOM_SCORE_FILE, score.min(MAX_OOM_SCORE).to_string());
}
