//! Memory, threads and descriptors of all processes of one ec2-role.

use rustix::process::Pid;

use crate::support::ec2_role::children;

#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Proportional set size (PSS) in KiB: a page that N processes share counts 1/N for each.
    pub memory: u64,
    /// Anonymous memory in KiB.
    pub anonymous: u64,
    pub threads: usize,
    pub descriptors: usize,
}

impl Held {
    /// The greater value of each field.
    pub fn max(self, other: Held) -> Held {
        Held {
            memory: self.memory.max(other.memory),
            anonymous: self.anonymous.max(other.anonymous),
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    /// The smaller value of each field.
    pub fn min(self, other: Held) -> Held {
        Held {
            memory: self.memory.min(other.memory),
            anonymous: self.anonymous.min(other.anonymous),
            threads: self.threads.min(other.threads),
            descriptors: self.descriptors.min(other.descriptors),
        }
    }
}

pub fn all(supervisor: Pid) -> Vec<Pid> {
    let mut pids = children(supervisor);
    pids.push(supervisor);
    pids
}

/// Adds up the resources of all processes; one that has just ended counts as zero.
pub fn held(supervisor: Pid) -> Held {
    all(supervisor)
        .into_iter()
        .map(of)
        .fold(Held::default(), |all, one| Held {
            memory: all.memory + one.memory,
            anonymous: all.anonymous + one.anonymous,
            threads: all.threads + one.threads,
            descriptors: all.descriptors + one.descriptors,
        })
}

pub fn of(pid: Pid) -> Held {
    let path = |name| format!("/proc/{}/{name}", pid.as_raw_nonzero());
    let count = |name| std::fs::read_dir(path(name)).map_or(0, Iterator::count);
    let rollup = std::fs::read_to_string(path("smaps_rollup")).unwrap_or_default();
    let figure = |name: &str| {
        let found = rollup.lines().find_map(|line| {
            let figure = line.strip_prefix(name)?.split_whitespace().next()?;
            figure.parse().ok()
        });
        found.unwrap_or_default()
    };
    Held {
        memory: figure("Pss:"),
        anonymous: figure("Anonymous:"),
        threads: count("task"),
        descriptors: count("fd"),
    }
}
