//! The key of session tokens: fresh for each start, or kept in a file.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::common::file::NamedFile;
use crate::common::session_token::TokenKey;

/// The key in `file`, which is made, readable for its owner alone, if it is not there; without a file a fresh key.
pub fn token_key(file: Option<&NamedFile>) -> Result<TokenKey, String> {
    let Some(file) = file else { return fresh() };
    match file.read() {
        Ok(contents) => read(&contents.bytes, contents.mode),
        Err(error) if error.kind == ErrorKind::NotFound => {
            let key = fresh()?;
            make(file, &key).map(|()| key).map_err(|error| {
                format!("it cannot be made: {error}; name a file in a directory that has room and that ec2-role's user can write")
            })
        }
        Err(error) => return Err(error.text),
    }
    .map_err(|what| format!("{file}: {what}"))
}

fn fresh() -> Result<TokenKey, String> {
    TokenKey::random().ok_or("the kernel gives no random numbers; look at /dev/urandom".to_owned())
}

fn read(bytes: &[u8], mode: u32) -> Result<TokenKey, String> {
    let text = String::from_utf8_lossy(bytes);
    let key = TokenKey::from_hex(text.trim()).ok_or(
        "it is no key of ec2-role's, which is 64 hexadecimal digits; name another file, or one that is not there",
    )?;
    match mode & 0o077 {
        0 => Ok(key),
        _ => Err(format!("others can read it (mode {mode:o}); chmod 600")),
    }
}

/// Whole or not at all: an empty file, as a full disk or a crash would leave, could never be read.
fn make(file: &NamedFile, key: &TokenKey) -> io::Result<()> {
    let mut new = OsString::from(&file.path);
    new.push(".new");
    _ = std::fs::remove_file(&new);
    let write = || {
        let mut opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        opened.write_all(format!("{}\n", key.to_hex()).as_bytes())?;
        opened.sync_all()?;
        std::fs::rename(&new, &file.path)
    };
    write().inspect_err(|_| _ = std::fs::remove_file(&new))
}
