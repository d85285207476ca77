//! Provides the key from which the token key is derived: the key in `--token-key-file`, or a new random key at each start.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::common::{Contents, NamedFile, TokenKey};

/// Returns the key in `file`, and creates a missing file with a random key. Without `file`, the key is random.
pub fn token_key(file: Option<&NamedFile>) -> Result<TokenKey, String> {
    let Some(file) = file else { return TokenKey::random() };
    let mut read = file.read();
    if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        create(file, &TokenKey::random()?).map_err(|error| {
            format!(
                "{file}: cannot be created: {error}; name a file in a directory that has room and that ec2-role's user can write"
            )
        })?;
        read = file.read();
    }
    let contents = read.map_err(|error| error.to_string())?;
    parse(&contents).map_err(|why| format!("{file}: {why}"))
}

fn parse(contents: &Contents) -> Result<TokenKey, String> {
    let text = String::from_utf8_lossy(&contents.bytes);
    let key = TokenKey::from_hex(text.trim()).ok_or(
        "it holds no key, which is 64 hexadecimal digits; name another file, or one that does not exist yet",
    )?;
    contents.exposure().map_or(Ok(key), Err)
}

/// Creates the file unless it exists. The file gets its whole contents or is not created: a full disk or a crash must not leave
/// an empty file, which every later start would reject.
fn create(file: &NamedFile, key: &TokenKey) -> io::Result<()> {
    // The temporary file has a random name, because another server may create the key file at the same time.
    let suffix = TokenKey::random().map_err(io::Error::other)?.to_hex();
    let new = file.path.with_added_extension(&suffix[..16]);
    let write = || {
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        opened.write_all(format!("{}\n", key.to_hex()).as_bytes())?;
        opened.sync_all()?;
        fs::hard_link(&new, &file.path).or_else(|error| match error.kind() {
            // Another ec2-role has created the file meanwhile, and the caller reads the key in it. If instead the path is a
            // symbolic link to a missing file, the caller's read fails.
            ErrorKind::AlreadyExists => Ok(()),
            // Some file systems, such as FAT, have no hard links, so rename the file there. If two ec2-roles start at the same
            // time, the rename can leave them with different keys.
            _ => fs::rename(&new, &file.path),
        })
    };
    let result = write();
    _ = fs::remove_file(&new);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    #[test]
    fn servers_that_start_at_once_share_the_key_in_the_file() {
        let directory = std::env::temp_dir().join(format!("ec2-role-keys-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        for round in 0..100 {
            let file = NamedFile::new("--token-key-file", directory.join(round.to_string()));
            let start = Barrier::new(4);
            let keys: BTreeSet<String> = std::thread::scope(|scope| {
                let servers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            token_key(Some(&file)).unwrap().to_hex()
                        })
                    })
                    .collect();
                let keys = servers.into_iter().map(|server| server.join().unwrap());
                keys.collect()
            });
            let kept = fs::read_to_string(&file.path).unwrap();
            assert_eq!(keys, BTreeSet::from([kept.trim().to_owned()]));
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 100);
        fs::remove_dir_all(&directory).unwrap();
    }
}
