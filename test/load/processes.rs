//! What all processes of one ec2-role together hold.

use rustix::process::Pid;

use crate::support::ec2_role::children;

#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Proportional set size, in KiB.
    pub memory: u64,
    pub threads: usize,
    pub descriptors: usize,
}

impl Held {
    /// The greater of each.
    pub fn max(self, other: Held) -> Held {
        Held {
            memory: self.memory.max(other.memory),
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    /// The smaller of each.
    pub fn min(self, other: Held) -> Held {
        Held {
            memory: self.memory.min(other.memory),
            threads: self.threads.min(other.threads),
            descriptors: self.descriptors.min(other.descriptors),
        }
    }
}

pub fn all(keeper: Pid) -> Vec<Pid> {
    let mut pids = children(keeper);
    pids.push(keeper);
    pids
}

/// One that ends meanwhile holds nothing.
pub fn held(keeper: Pid) -> Held {
    all(keeper)
        .into_iter()
        .map(of)
        .fold(Held::default(), |all, one| Held {
            memory: all.memory + one.memory,
            threads: all.threads + one.threads,
            descriptors: all.descriptors + one.descriptors,
        })
}

pub fn of(pid: Pid) -> Held {
    let path = |name| format!("/proc/{}/{name}", pid.as_raw_nonzero());
    let count = |name| std::fs::read_dir(path(name)).map_or(0, Iterator::count);
    let rollup = std::fs::read_to_string(path("smaps_rollup")).unwrap_or_default();
    let memory = rollup.lines().find_map(|line| {
        line.strip_prefix("Pss:")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    Held {
        memory: memory.unwrap_or_default(),
        threads: count("task"),
        descriptors: count("fd"),
    }
}
