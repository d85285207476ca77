//! Limits the processes or the memory of a command with a control group (version 1 or 2), as a container engine does.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Bounds(PathBuf);

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Bounds {
    /// Limits the number of processes and threads.
    pub fn processes(most: u32) -> Self {
        Self::new("pids", &[("pids.max", most.to_string())])
    }

    pub fn memory(bytes: u64) -> Self {
        let bytes = bytes.to_string();
        Self::new(
            "memory",
            &[
                ("memory.max", bytes.clone()),
                ("memory.limit_in_bytes", bytes),
            ],
        )
    }

    /// Needs root and a writable control group hierarchy.
    fn new(controller: &str, limits: &[(&str, String)]) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let version_1 = root.join(controller);
        let root = if version_1.exists() { &version_1 } else { root };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ec2-role-load-{}-{number}", std::process::id());
        let group = Bounds(root.join(name));
        let made = std::fs::create_dir(&group.0);
        made.unwrap_or_else(|error| panic!("{}: {error}", group.0.display()));
        let mut limits = limits.iter();
        let is_set = limits.any(|(file, limit)| std::fs::write(group.0.join(file), limit).is_ok());
        assert!(
            is_set,
            "{}: it has no {controller} limit",
            group.0.display()
        );
        group
    }

    /// The memory peak in bytes, including the kernel's memory for the group's sockets. `None` if the group counts no memory.
    pub fn peak(&self) -> Option<u64> {
        let names = ["memory.peak", "memory.max_usage_in_bytes"];
        let mut texts = names
            .iter()
            .filter_map(|name| std::fs::read_to_string(self.0.join(name)).ok());
        texts.next()?.trim().parse().ok()
    }

    /// Words to put before a command, so that it runs inside the control group.
    pub fn command(&self) -> [String; 4] {
        let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        ["sh".into(), "-ec".into(), script, "sh".into()]
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        _ = std::fs::remove_dir(&self.0);
    }
}
