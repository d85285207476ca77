//! A file that the user has named.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::OFlags;

/// A path, and the option or variable that names it, which an error begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The path.
    pub path: PathBuf,
    /// `--token-key-file` or `EC2_ROLE_TOKEN_KEY_FILE`.
    pub place: String,
}

impl fmt::Display for NamedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.place, self.path.display())
    }
}

impl NamedFile {
    /// Reads it, and gives its mode too. Never waits: a pipe would, for whoever writes to it.
    pub fn read(&self) -> io::Result<(Vec<u8>, u32)> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((bytes, metadata.mode() & 0o777))
    }
}
