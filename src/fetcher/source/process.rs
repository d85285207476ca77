//! A profile's `credential_process`: a command that prints a credential
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).

use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::context::Context;
use super::document;
use crate::common::clock;
use crate::common::credential::SourceCredential;
use crate::common::fault::{Fault, permanent, transient};

/// As long as Go's SDK waits, less what the rest of an fetcher needs before its own deadline.
const DEADLINE: Duration = Duration::from_secs(45);
/// A credential is a few kilobytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// The variable that tells an ec2-role below this one which profiles' processes it runs in, a line each.
const RUNNING: &str = "RUN_BY_EC2_ROLE_FOR";

pub fn run(context: &Context, profile: &str, command: &str) -> Result<SourceCredential, Fault> {
    let named = |what: String| format!("profile {profile:?}: credential_process: {what}");
    let running = context.environment.get(RUNNING).unwrap_or_default();
    if running.lines().any(|outer| outer == profile) {
        return permanent(named(
            "it leads back to this profile; let the command name another with --profile".to_owned(),
        ));
    }
    // Split as botocore does it, without a shell: there is none in a scratch container.
    let Some(words) = shlex::split(command).filter(|words| !words.is_empty()) else {
        return permanent(named(
            "its quotes do not match; correct the profile".to_owned(),
        ));
    };
    (context.progress)(&format!(
        "running the credential_process of profile {profile:?}"
    ));
    let mut command = Command::new(&words[0]);
    // These are the options of this ec2-role, not of one that the command may run.
    for name in context.environment.names("EC2_ROLE_") {
        command.env_remove(name);
    }
    let mut child = command
        .args(&words[1..])
        .env(RUNNING, format!("{running}\n{profile}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .or_else(|error| {
            permanent(named(format!(
                "{} cannot be run: {error}; correct the profile",
                words[0]
            )))
        })?;
    match watch(&mut child, Instant::now() + DEADLINE) {
        Ok((output, status)) if status.success() => read(&output)
            .or_else(|why| transient(named(format!("{why}; run it by hand to see why")))),
        Ok((_, status)) => transient(named(format!(
            "it failed ({status}); run it by hand to see why"
        ))),
        Err(why) => {
            // Its end is not waited for either. What it has started itself the supervisor ends with the fetcher.
            _ = child.kill();
            transient(named(format!(
                "{why} and was ended; run it by hand to see why"
            )))
        }
    }
}

/// What it printed is not repeated in an error: it may hold a secret.
fn read(output: &[u8]) -> Result<SourceCredential, &'static str> {
    let json: Value = serde_json::from_slice(output).map_err(|_| "it printed no JSON")?;
    if json["Version"] != 1 {
        return Err("it printed no Version 1 credential");
    }
    if let Some(text) = json["Expiration"].as_str() {
        let expiration = clock::parse_iso8601(text).ok_or("its Expiration is not a time")?;
        if expiration <= SystemTime::now() {
            return Err("it printed a credential that has expired");
        }
    }
    document::read(&json, "SessionToken", "credential_process")
        .ok_or("AccessKeyId or SecretAccessKey is missing in what it printed")
}

/// Why a process is ended.
#[derive(Debug, PartialEq, Eq)]
enum Excess {
    Time,
    Output,
}

impl fmt::Display for Excess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Excess::Time => write!(formatter, "it took longer than {} s", DEADLINE.as_secs()),
            Excess::Output => write!(formatter, "it printed more than {MAX_OUTPUT_BYTES} bytes"),
        }
    }
}

/// What it printed, and how it ended.
fn watch(child: &mut Child, deadline: Instant) -> Result<(Vec<u8>, ExitStatus), Excess> {
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        read_to_end(stdout, &mut output, deadline)?;
    }
    // It may close its stdout long before. Without pidfds (Linux before 5.3) the supervisor's deadline is the only one.
    if let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        wait_readable(&pidfd, deadline)?;
    }
    let status = child.wait().map_err(|_| Excess::Time)?;
    Ok((output, status))
}

fn read_to_end(
    mut stdout: ChildStdout,
    output: &mut Vec<u8>,
    deadline: Instant,
) -> Result<(), Excess> {
    let mut piece = [0; 4096];
    loop {
        wait_readable(&stdout, deadline)?;
        match stdout.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) if output.len() + length <= MAX_OUTPUT_BYTES => {
                output.extend_from_slice(&piece[..length])
            }
            Ok(_) => return Err(Excess::Output),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It cannot fail; what has come is judged by itself.
            Err(_) => return Ok(()),
        }
    }
}

fn wait_readable(fd: &impl AsFd, deadline: Instant) -> Result<(), Excess> {
    loop {
        let left = deadline
            .checked_duration_since(Instant::now())
            .ok_or(Excess::Time)?;
        let timeout = Timespec::try_from(left).map_err(|_| Excess::Time)?;
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
    fn a_process_that_prints_or_lives_too_long_is_told_by_which_it_was() {
        for (script, excess) in [
            ("exec sleep 600", Excess::Time),
            ("exec sleep 600 >&-", Excess::Time),
            ("exec yes", Excess::Output),
        ] {
            let mut child = Command::new("sh")
                .args(["-c", script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let timeouts = match excess {
                Excess::Time => Duration::from_millis(100),
                Excess::Output => DEADLINE,
            };
            let watched = watch(&mut child, Instant::now() + timeouts);
            _ = child.kill();
            _ = child.wait();
            assert_eq!(watched.unwrap_err(), excess, "{script}");
        }
    }
}
