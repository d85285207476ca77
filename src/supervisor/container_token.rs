//! The Authorization token of the container form, in a file that may change.

use crate::common::file::NamedFile;
use crate::common::log;
use crate::common::secret::Secret;
use std::os::unix::fs::MetadataExt;

/// What changes when a file is written or replaced: inode, size, and modification time in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// The file, and what it looked like when it was read.
pub struct ContainerToken {
    file: NamedFile,
    stamp: Option<Stamp>,
    has_complained: bool,
}

impl ContainerToken {
    /// Reads the token for the first time.
    pub fn open(file: NamedFile) -> Result<(Self, Secret), String> {
        let mut opened = ContainerToken {
            file,
            stamp: None,
            has_complained: false,
        };
        opened.stamp = opened.stamp_now();
        let token = opened.read()?;
        Ok((opened, token))
    }

    /// The new token, if the file has changed. While it cannot be read the old one stays.
    pub fn changed(&mut self) -> Option<Secret> {
        let stamp = self.stamp_now();
        if stamp == self.stamp {
            return None;
        }
        match self.read() {
            Ok(token) => {
                (self.stamp, self.has_complained) = (stamp, false);
                Some(token)
            }
            Err(error) => {
                if !self.has_complained {
                    log::warning(&format!("{error}; the token that it held is kept"));
                }
                self.has_complained = true;
                None
            }
        }
    }

    fn stamp_now(&self) -> Option<Stamp> {
        let metadata = std::fs::metadata(&self.file.path).ok()?;
        Some((
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ))
    }

    fn read(&self) -> Result<Secret, String> {
        let text = self.file.read_text().map_err(|error| error.text)?;
        let token = text.trim_end_matches(['\r', '\n']);
        // What SDKs can send as a header's value, and what is left of it on the way.
        let is_value = token.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if token.is_empty() || !is_value || token.trim() != token {
            return Err(format!(
                "{}: it must hold one line of printable ASCII without spaces at its ends; write one, without a newline",
                self.file
            ));
        }
        Ok(Secret::new(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_when_its_file_changes_and_kept_while_it_cannot_be_read() {
        let file =
            std::env::temp_dir().join(format!("ec2-role-container-token-{}", std::process::id()));
        let named = NamedFile::new("--container-token-file", &file);
        std::fs::write(&file, " spaces ").unwrap();
        assert!(ContainerToken::open(named.clone()).is_err());
        std::fs::write(&file, "first\n").unwrap();
        let (mut token, first) = ContainerToken::open(named.clone()).unwrap();
        assert!(first.equals("first") && token.changed().is_none());
        std::fs::write(&file, "Bearer second").unwrap();
        assert!(token.changed().unwrap().equals("Bearer second") && token.changed().is_none());
        std::fs::write(&file, "").unwrap();
        assert!(token.changed().is_none());
        std::fs::remove_file(&file).unwrap();
        assert!(token.changed().is_none());
        std::fs::write(&file, "third").unwrap();
        assert!(token.changed().unwrap().equals("third"));
        std::fs::remove_file(&file).unwrap();
        assert!(ContainerToken::open(named).is_err());
    }
}
