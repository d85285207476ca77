//! Watches `--container-token-file`, which holds the container token. A fetcher process does this, because a read hangs if the
//! file system hangs, and the supervisor can kill a fetcher.

use std::time::{Duration, Instant};

use crate::common::{Config, Contents, Fault, NamedFile, Secret, transient};
use crate::fetcher::setting::Setting;
use crate::messages::{FetchReport, Report};

/// Time for which one fetcher watches the file. It is shorter than the fetcher's deadline, so a missed deadline means that the
/// file system hangs.
const WATCH: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(500);
/// Maximum size of the token. The server accepts request heads of 8 KiB; half of that is left for the other headers of SDKs.
const MAX_TOKEN_BYTES: usize = 4 * 1024;

/// Reports the token at the start and after each change of the file.
pub fn watch(config: &Config, report: Report) -> Result<FetchReport, Fault> {
    let Some(file) = &config.container_token_file else { return Ok(FetchReport::Unchanged) };
    report(FetchReport::Step(format!("reading {file}")));
    let start = Instant::now();
    let mut last = None;
    while start.elapsed() < WATCH {
        let contents = file.read().or_else(|error| transient(error.to_string()))?;
        if last.as_ref() != Some(&contents.bytes) {
            report(FetchReport::ContainerToken(token(file, &contents, report)?));
            last = Some(contents.bytes);
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(FetchReport::Unchanged)
}

/// Validates the token. Each error is transient, because another program writes the file.
fn token(file: &NamedFile, contents: &Contents, report: Report) -> Result<Secret, Fault> {
    if let Some(exposure) = contents.exposure() {
        report(FetchReport::Notice(format!("{file}: {exposure}")));
    }
    let text = String::from_utf8_lossy(&contents.bytes);
    // SDKs send the token as the value of a header, so spaces at its ends are trimmed, as HTTP trims them.
    let token = Setting::in_file(file.to_string(), &text).header_value()?;
    if token.len() > MAX_TOKEN_BYTES {
        return transient(format!(
            "{file}: a token has at most {MAX_TOKEN_BYTES} bytes; write a shorter one"
        ));
    }
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_one_line_that_a_header_can_hold() {
        let path =
            std::env::temp_dir().join(format!("ec2-role-container-token-{}", std::process::id()));
        let file = NamedFile::new("--container-token-file", &path);
        let read = |content: &str| {
            std::fs::write(&path, content).unwrap();
            token(&file, &file.read().unwrap(), &|_| {})
        };
        assert!(read(" Bearer first\r\n").unwrap().equals("Bearer first"));
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        assert!(read(&long[1..]).is_ok());
        assert!(read(&long).err().unwrap().text().contains("at most 4096 bytes"));
        for wrong in ["two\nlines", "é", "tab\tbed"] {
            let fault = read(wrong).err().unwrap();
            assert!(fault.text().contains("which it cannot hold"), "{fault:?}");
        }
        assert!(read("\n").err().unwrap().text().contains("it is empty"));
        std::fs::remove_file(&path).unwrap();
    }
}
