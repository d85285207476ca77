//! The three parts as processes: which one this is, how another is started, and what each does first.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

/// What systemd sets for the one process that it has started: no other may speak in its name.
const SYSTEMD_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Where memory is short, what can be replaced goes before the supervisor, which holds the credential; 1000 is the most.
const OOM_SCORE_ADJUSTMENT: &str = "500";

/// The part that this process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// What the user started.
    Supervisor,
    /// Answers containers.
    Server,
    /// Fetches one credential, or reads the host's metadata.
    Fetcher,
    /// Writes the log where stderr is a file.
    LogWriter,
}

impl ProcessKind {
    /// Told by the name it was started under, which is also what `ps` shows.
    pub fn from_name(argument_zero: &str) -> ProcessKind {
        [
            ProcessKind::Server,
            ProcessKind::Fetcher,
            ProcessKind::LogWriter,
        ]
        .into_iter()
        .find(|part| part.name() == argument_zero)
        .unwrap_or(ProcessKind::Supervisor)
    }

    /// The name it is started under, at most 15 bytes: the kernel cuts off a longer one (TASK_COMM_LEN).
    pub fn name(self) -> &'static str {
        match self {
            ProcessKind::Supervisor => "ec2-role",
            ProcessKind::Server => "ec2-role-server",
            ProcessKind::Fetcher => "ec2-role-fetch",
            ProcessKind::LogWriter => "ec2-role-log",
        }
    }

    /// A command that starts this very file again, also when it was replaced or deleted since. In a process group of its own,
    /// so that an interrupt from the keyboard comes to the supervisor alone, and whatever an fetcher starts ends with it.
    pub fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(self.name()).process_group(0);
        for variable in SYSTEMD_VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    /// What every process does before it holds anything: it leaves no core file and cannot be traced, has a name of its own,
    /// and goes when its supervisor goes. None of it can fail on Linux; where a sandbox forbids it, the rest still works.
    pub fn harden(self) {
        let is_replaceable = matches!(self, ProcessKind::Server | ProcessKind::Fetcher);
        if is_replaceable {
            // Before it is not dumpable: then the file is root's.
            _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT);
        }
        _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        _ = rustix::process::setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        );
        if is_replaceable {
            _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        }
        if self != ProcessKind::Supervisor {
            let mut name = self.name().as_bytes().to_vec();
            name.push(0);
            if let Ok(name) = std::ffi::CStr::from_bytes_with_nul(&name) {
                _ = rustix::thread::set_name(name);
            }
        }
    }
}
