//! Reads a file that the user has named.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::OFlags;

/// Maximum size of a file. The largest are AWS config files of some MB: a tool may write one with a profile for each role of
/// thousands of accounts.
const MAX_BYTES: usize = 1 << 22;

/// A path and its origin. Every error about the file starts with both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    pub path: PathBuf,
    /// The option, variable or profile setting that names the file, such as `--token-key-file`.
    pub origin: String,
}

impl fmt::Display for NamedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.origin, self.path.display())
    }
}

pub struct Contents {
    pub bytes: Vec<u8>,
    metadata: Metadata,
}

impl Contents {
    /// Says how a secret file is exposed to other users, and the remedy; `None` if it is safe. Group permissions count as safe:
    /// Kubernetes gives a Secret to the pod's group, and an ACL for one user appears in the mode as group permissions.
    pub fn exposure(&self) -> Option<String> {
        let user = rustix::process::geteuid().as_raw();
        let (owner, mode) = (self.metadata.uid(), self.metadata.mode() & 0o777);
        if owner != user && owner != 0 {
            return Some(format!("it belongs to user {owner}; chown it to {user} or root"));
        }
        (mode & 0o7 != 0).then(|| {
            format!("others can read or write it (mode {mode:o}); chmod {:o}", mode & !0o7)
        })
    }
}

impl NamedFile {
    pub fn new(origin: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        NamedFile { path: path.into(), origin: origin.into() }
    }

    /// Reads a regular file of at most 4 MiB. The error is one line: origin, path, cause and remedy. The call blocks if the file
    /// system hangs.
    pub(crate) fn read(&self) -> io::Result<Contents> {
        self.try_read().map_err(|error| self.error(error))
    }

    pub(crate) fn read_text(&self) -> io::Result<String> {
        String::from_utf8(self.read()?.bytes)
            .map_err(|_| self.error(io::Error::other("it is not UTF-8 text")))
    }

    fn error(&self, cause: io::Error) -> io::Error {
        let remedy = format!(
            "name a regular file of at most {} MiB that ec2-role's user can read",
            MAX_BYTES >> 20
        );
        io::Error::new(cause.kind(), format!("{self}: cannot be read: {cause}; {remedy}"))
    }

    fn try_read(&self) -> io::Result<Contents> {
        let file = OpenOptions::new()
            .read(true)
            // NONBLOCK keeps the open of a FIFO from waiting for a writer. NOCTTY keeps a terminal from becoming the controlling
            // terminal.
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(Contents { bytes, metadata })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_file_of_more_than_four_mebibytes_is_refused() {
        let path = std::env::temp_dir().join(format!("ec2-role-file-{}", std::process::id()));
        let file = NamedFile::new("--policy", &path);
        std::fs::write(&path, vec![b' '; MAX_BYTES]).unwrap();
        assert_eq!(file.read().ok().unwrap().bytes.len(), MAX_BYTES);
        std::fs::write(&path, vec![b' '; MAX_BYTES + 1]).unwrap();
        let error = file.read().err().unwrap().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.starts_with(&format!("--policy {}: ", path.display())));
        assert!(error.contains("too large") && error.contains("at most 4 MiB"), "{error}");
    }

    #[test]
    fn a_secret_file_is_exposed_by_its_mode_and_owner() {
        let path = std::env::temp_dir().join(format!("ec2-role-secret-{}", std::process::id()));
        let file = NamedFile::new("--token-key-file", &path);
        std::fs::write(&path, "").unwrap();
        let exposure = |mode| {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            file.read().ok().unwrap().exposure()
        };
        assert_eq!([exposure(0o600), exposure(0o440)], [None, None]);
        for (mode, remedy) in [(0o644, "(mode 644); chmod 640"), (0o602, "(mode 602); chmod 600")] {
            assert!(exposure(mode).unwrap().ends_with(remedy));
        }
        // Only root can change a file's owner, so this part of the test is skipped for other users.
        if chown(&path, Some(65534), None).is_ok() {
            assert!(exposure(0o600).unwrap().contains("belongs to user 65534"));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn non_regular_file_is_refused() {
        for path in ["/dev/zero", "/"] {
            let error = NamedFile::new("AWS_CA_BUNDLE", path).read().err().unwrap().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
