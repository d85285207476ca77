//! A directory for a test, removed when it is dropped.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Directory(PathBuf);

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Directory {
    pub fn new() -> Self {
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ec2-role-test-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Directory(path),
                // An earlier test process with the same id was killed and left this directory, so try the next number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path as a text, for an argument or a variable.
    pub fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// The files that contain one of these texts.
    pub fn files_with(&self, texts: &[&str]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.0.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    directories.push(path);
                } else if kind.is_file() {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    let content = String::from_utf8_lossy(&bytes);
                    if texts.iter().any(|text| content.contains(text)) {
                        found.push(path);
                    }
                }
            }
        }
        found
    }

    /// Writes a file and its parent directories. Atomic: a reader sees the old content or the new.
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Each file has a temporary name of its own, because test cases that run in parallel write to the same directory.
        let new = self.path(&format!("{}-being-written", name.replace('/', "-")));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &path).unwrap();
        self.text(name)
    }

    /// Writes a program for `/bin/sh`.
    pub fn program(&self, name: &str, script: &str) -> String {
        let path = self.write(name, &format!("#!/bin/sh\n{script}\n"));
        set_mode(Path::new(&path), 0o755);
        path
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}
