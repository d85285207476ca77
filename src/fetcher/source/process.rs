//! A profile's `credential_process`: a command that prints a credential
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::context::Context;
use super::document;
use crate::common::{Fault, log, transient};
use crate::fetcher::source_credential::SourceCredential;

/// Time limit for the command. Go's SDK allows 60 s; here it is less, because the rest of the fetch needs time before the
/// fetcher's deadline.
const DEADLINE: Duration = Duration::from_secs(45);
/// Time limit and pause for retries after ETXTBSY: a program file that is being replaced is busy for a moment.
const MAX_BUSY: Duration = Duration::from_millis(500);
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Maximum size of the output; a credential has a few kilobytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// Maximum number of the command's own lines that are logged as JSON lines, so that the command cannot fill the log.
const MAX_LOGGED_LINES: usize = 100;

/// Variable that detects a loop, where the command of a profile runs ec2-role with the same profile. It lists the profiles whose
/// commands are running, one on each line.
const RUNNING: &str = "RUN_BY_EC2_ROLE_FOR";

pub fn run(context: &Context, profile: &str, command: &str) -> Result<SourceCredential, Fault> {
    let wrong = |what: &str| transient(format!("profile {profile:?}: credential_process: {what}"));
    let by_hand = |what: &str| {
        wrong(&format!(
            "{what}; run it by hand to see why; a pipe or a variable in it needs sh -c '…'"
        ))
    };
    let running = context.config.environment.get(RUNNING).unwrap_or_default();
    if running.lines().any(|outer| outer == profile) {
        return wrong("it runs itself; let the command name another profile with --profile");
    }
    // Split the command as botocore does. A shell is not used, because a scratch image has none.
    let Some(words) = shlex::split(command).filter(|words| !words.is_empty()) else {
        return wrong("a quote is not closed; correct the profile");
    };
    (context.report_step)(&format!("running the credential_process of profile {profile:?}"));
    let mut command = Command::new(&words[0]);
    // Remove this process's options from the environment: the command may run another ec2-role, which would use them.
    for name in context.config.environment.names("EC2_ROLE_") {
        command.env_remove(name);
    }
    command
        .args(&words[1..])
        .env(RUNNING, format!("{running}\n{profile}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    // A log of JSON lines must not get the command's own lines. A file, unlike a pipe, blocks neither side, and ends although a
    // daemon that the command started still has it open.
    let said = context.config.json_log.then(|| file_in_memory().ok()).flatten();
    if let Some(Ok(file)) = said.as_ref().map(OwnedFd::try_clone) {
        command.stderr(file);
    }
    let begun = Instant::now();
    let mut child = loop {
        match command.spawn() {
            Ok(child) => break child,
            Err(error)
                if error.kind() == ErrorKind::ExecutableFileBusy && begun.elapsed() < MAX_BUSY =>
            {
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(error) => {
                let remedy = match error.kind() {
                    ErrorKind::PermissionDenied => "let ec2-role's user execute it",
                    _ if words[0].contains(['~', '$']) => {
                        "write its whole path, because no shell expands it"
                    }
                    _ => {
                        "install it where ec2-role runs (its image has no other program: run ec2-role on the host, or add it to the \
                         image), or correct the profile"
                    }
                };
                return wrong(&format!("{} cannot be run: {error}; {remedy}", words[0]));
            }
        }
    };
    let collected = collect(&mut child, Instant::now() + DEADLINE);
    if let Some(file) = said {
        log_lines(&file, profile);
    }
    match collected {
        Ok((output, status)) if status.success() => parse(&output).or_else(by_hand),
        Ok((_, status)) => by_hand(&format!("it failed ({status})")),
        Err(why) => {
            // The supervisor kills the rest of the process group when the fetcher ends.
            _ = child.kill();
            by_hand(&format!("{why} and was ended"))
        }
    }
}

/// Creates a file in memory, of `MAX_OUTPUT_BYTES` zeros. It cannot grow, because the command might write without end.
fn file_in_memory() -> rustix::io::Result<OwnedFd> {
    let file = memfd_create("stderr", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, MAX_OUTPUT_BYTES as u64)?;
    fcntl_add_seals(&file, SealFlags::GROW)?;
    Ok(file)
}

/// Logs the lines that a command wrote to the file.
fn log_lines(file: &OwnedFd, profile: &str) {
    let mut bytes = vec![0; MAX_OUTPUT_BYTES];
    _ = rustix::io::pread(file, &mut bytes, 0);
    let text = String::from_utf8_lossy(&bytes);
    for line in text.trim_end_matches('\0').lines().take(MAX_LOGGED_LINES) {
        log::warning(&format!("profile {profile:?}: credential_process said: {line}"));
    }
}

/// Parses the output. Errors omit the output, because it may hold a secret.
fn parse(output: &[u8]) -> Result<SourceCredential, &'static str> {
    let json: Value = serde_json::from_slice(output).map_err(|_| "it printed no JSON")?;
    if json["Version"] != 1 {
        return Err("it printed no Version 1 credential");
    }
    // Ignore the expiration: this machine's clock may be wrong, and STS rejects an expired credential.
    document::parse(&json, "SessionToken", "credential_process")
        .ok_or("AccessKeyId or SecretAccessKey is missing or malformed in what it printed, or SessionToken is malformed")
}

fn too_long() -> String {
    format!("it took longer than {} s", DEADLINE.as_secs())
}

/// Reads the output and waits for the exit status.
fn collect(child: &mut Child, deadline: Instant) -> Result<(Vec<u8>, ExitStatus), String> {
    let (mut output, mut piece) = (Vec::new(), [0; 4096]);
    while let Some(stdout) = &mut child.stdout {
        wait_readable(stdout, deadline)?;
        match stdout.read(&mut piece) {
            Ok(length @ 1..) => output.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Reading a pipe has no other error. If there were one, the output would be incomplete, and `parse` would reject it.
            Ok(0) | Err(_) => child.stdout = None,
        }
        if output.len() > MAX_OUTPUT_BYTES {
            return Err(format!("it printed more than {MAX_OUTPUT_BYTES} bytes"));
        }
    }
    // Wait with a time limit, because the process may close its stdout long before it ends. Linux before 5.3 has no pidfds; there
    // only the supervisor's deadline limits the wait.
    if let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        wait_readable(&pidfd, deadline)?;
    }
    let status = child.wait().map_err(|_| too_long())?;
    Ok((output, status))
}

fn wait_readable(fd: &impl AsFd, deadline: Instant) -> Result<(), String> {
    loop {
        let left = deadline.checked_duration_since(Instant::now()).ok_or_else(too_long)?;
        let timeout = Timespec::try_from(left).map_err(|_| too_long())?;
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_overruns_is_reported_with_the_limit() {
        const SHORT: Duration = Duration::from_millis(100);
        for (script, limit, overrun) in [
            ("exec sleep 600", SHORT, "it took longer than 45 s"),
            ("exec sleep 600 >&-", SHORT, "it took longer than 45 s"),
            ("exec yes", DEADLINE, "it printed more than 65536 bytes"),
        ] {
            let mut child =
                Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let collected = collect(&mut child, Instant::now() + limit);
            _ = child.kill();
            _ = child.wait();
            assert_eq!(collected.unwrap_err(), overrun, "{script}");
        }
    }
}
