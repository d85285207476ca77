//! The kinds of process: how each is started, and how each prepares itself.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal::{self, *};
use rustix::process::{self, DumpableBehavior};

/// Variables that systemd sets for the supervisor. Children do not inherit them, so that no child can send systemd a notification
/// in the supervisor's name.
const SYSTEMD_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";
/// Added to the OOM score of the server and the fetchers: when memory is short, the kernel kills these replaceable processes
/// first, before the supervisor.
const OOM_SCORE_STEP: i32 = 500;
/// The kernel's maximum score.
const MAX_OOM_SCORE: i32 = 1000;

/// Signals that the supervisor handles: SIGCHLD, and standard signals that would otherwise end the process silently. Signals that
/// a bug in the program raises, such as SIGSEGV, still end it.
pub const SUPERVISOR_SIGNALS: [Signal; 14] = [
    SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,
    SIGIO, SIGPWR, SIGSTKFLT, SIGXCPU,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// The process that the user starts.
    Supervisor,
    /// Responds to containers.
    Server,
    /// Fetches a credential, the host's metadata or the container token for the supervisor.
    Fetcher,
    /// Writes the log if stderr is a regular file.
    LogWriter,
}

impl ProcessKind {
    /// Returns the kind of this process by its argument zero, which `command` sets to the kind's name. Any other argument zero
    /// means the supervisor.
    pub fn from_name(argument_zero: &str) -> ProcessKind {
        [ProcessKind::Server, ProcessKind::Fetcher, ProcessKind::LogWriter]
            .into_iter()
            .find(|kind| kind.name() == argument_zero)
            .unwrap_or(ProcessKind::Supervisor)
    }

    /// The name of the process, at most 15 bytes: the kernel truncates a longer one (TASK_COMM_LEN).
    fn name(self) -> &'static str {
        match self {
            ProcessKind::Supervisor => "ec2-role",
            ProcessKind::Server => "ec2-role-server",
            ProcessKind::Fetcher => "ec2-role-fetch",
            ProcessKind::LogWriter => "ec2-role-log",
        }
    }

    /// Returns the command that starts this program again, even if its file was replaced or deleted. Each child gets its own
    /// process group: Ctrl-C then reaches only the supervisor, and a fetcher's group can be killed as a whole.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(self.name()).process_group(0);
        for variable in SYSTEMD_VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    /// Hardens this process: replaces inherited signal settings, and disables core files and tracing. Errors are ignored,
    /// because a sandbox may forbid a call.
    pub fn harden(self) {
        self.set_signals();
        if matches!(self, ProcessKind::Server | ProcessKind::Fetcher) {
            // Raise the score before the process becomes undumpable, because only root can write the /proc files of an undumpable
            // process.
            raise_oom_score();
        }
        _ = process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        if self == ProcessKind::Server {
            // Only the server ends at once with the supervisor. A fetcher must also kill its own children, so it watches the
            // supervisor itself (fetcher/mod.rs). The log writer still has to write the last lines.
            _ = process::set_parent_process_death_signal(Some(process::Signal::KILL));
        }
        if self != ProcessKind::Supervisor
            && let Ok(name) = CString::new(self.name())
        {
            _ = rustix::thread::set_name(&name);
        }
    }

    /// Replaces the inherited signal mask and the inherited action for SIGCHLD. A blocked SIGTERM would never arrive, and an
    /// ignored SIGCHLD would hide the exit status of children.
    fn set_signals(self) {
        // Block SIGXFSZ, so that a write beyond RLIMIT_FSIZE fails instead of ending the process. Block SIGTTOU, so that a
        // write to a terminal with `tostop` does not stop a background process. Block SIGTTIN: a credential_process may read
        // from the terminal, as the AWS CLI does for an MFA code. With SIGTTIN blocked, the read fails. Otherwise SIGTTIN
        // would stop the program and the fetcher, which are in one process group.
        let mut blocked = SigSet::from_iter([SIGXFSZ, SIGTTOU, SIGTTIN]);
        if self == ProcessKind::Server {
            // `systemctl kill` and `pkill` signal every process, and an unblocked signal would end the server with its open
            // requests. A fetcher does not block these signals, because the programs that it starts would inherit the block.
            blocked.extend(SUPERVISOR_SIGNALS);
        }
        _ = blocked.thread_set_mask();
        _ = signal_hook::flag::register(SIGCHLD as i32, Arc::<AtomicBool>::default());
    }
}

fn raise_oom_score() {
    let own = std::fs::read_to_string(OOM_SCORE_FILE).unwrap_or_default();
    // Add to the supervisor's score, which this process has inherited.
    let score = own.trim().parse().unwrap_or(0) + OOM_SCORE_STEP;
    _ = std::fs::write(OOM_SCORE_FILE, score.min(MAX_OOM_SCORE).to_string());
}
