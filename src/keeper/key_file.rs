//! The key of session tokens: fresh for each start, or kept in a file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::token::TokenKey;

/// The key in `file`, which is made, readable for its owner alone, if it is not there; without a file a fresh key.
pub fn token_key(file: Option<&Path>) -> Result<TokenKey, String> {
    let fresh = || {
        TokenKey::random()
            .ok_or("the kernel gives no random numbers; look at /dev/urandom".to_owned())
    };
    let Some(file) = file else { return fresh() };
    let named = |what: String| format!("--token-key-file {}: {what}", file.display());
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
    {
        Ok(mut created) => {
            let key = fresh()?;
            created
                .write_all(format!("{}\n", key.to_hex()).as_bytes())
                .map_err(|error| {
                    named(format!(
                        "it cannot be written: {error}; make room, or name another file"
                    ))
                })?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(file).map_err(named),
        Err(error) => Err(named(format!(
            "it cannot be made: {error}; name a file in a directory that ec2-role's user can write"
        ))),
    }
}

fn read(file: &Path) -> Result<TokenKey, String> {
    let unreadable =
        |error: std::io::Error| format!("it cannot be read: {error}; let ec2-role's user own it");
    let mut opened = std::fs::File::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "others can read it (mode {:o}); chmod 600, or delete it to have a new one made",
            mode & 0o777
        ));
    }
    let mut text = String::new();
    _ = opened.read_to_string(&mut text).map_err(unreadable)?;
    TokenKey::from_hex(text.trim()).ok_or(
        "it does not hold 64 hexadecimal digits; delete it to have a new one made".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone_and_read_again() {
        let file = std::env::temp_dir().join(format!("ec2-role-key-{}", std::process::id()));
        let made = token_key(Some(&file)).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(token_key(Some(&file)).unwrap() == made);
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o640))
            .unwrap();
        assert!(
            token_key(Some(&file))
                .err()
                .unwrap()
                .contains("others can read it (mode 640)")
        );
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        std::fs::write(&file, "short").unwrap();
        assert!(
            token_key(Some(&file))
                .err()
                .unwrap()
                .contains("64 hexadecimal digits")
        );
        std::fs::remove_file(&file).unwrap();
    }
}
