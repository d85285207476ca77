//! A bound on what processes may use, as a container has it: a control group, of either version.

use std::path::{Path, PathBuf};

pub struct Bounds(PathBuf);

impl Bounds {
    /// At most so many processes and threads. `None` where it is not allowed.
    pub fn processes(most: u32) -> Option<Self> {
        Self::new("pids", &[("pids.max", most.to_string())])
    }

    /// At most so many bytes, swap included.
    pub fn memory(bytes: u64) -> Option<Self> {
        let bytes = bytes.to_string();
        Self::new(
            "memory",
            &[
                ("memory.max", bytes.clone()),
                ("memory.limit_in_bytes", bytes),
            ],
        )
    }

    fn new(controller: &str, limits: &[(&str, String)]) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let version_1 = root.join(controller);
        let root = if version_1.exists() { &version_1 } else { root };
        let group = Bounds(root.join(format!("ec2-role-load-{}", std::process::id())));
        std::fs::create_dir(&group.0).ok()?;
        limits
            .iter()
            .find_map(|(file, limit)| std::fs::write(group.0.join(file), limit).ok())?;
        Some(group)
    }

    /// The command that starts another within.
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
