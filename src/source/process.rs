//! A profile's `credential_process`: a command that prints a credential
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).

use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::{Context, from_document};
use crate::clock;
use crate::credential::SourceCredential;
use crate::fault::{Fault, lasting, passing};

/// As long as Go's SDK waits, less what the rest of an errand needs before its own deadline.
const DEADLINE: Duration = Duration::from_secs(45);
/// A credential is a few kilobytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// The variable that tells an ec2-role below this one which profiles' processes it runs in, a line each.
const RUNNING: &str = "RUN_BY_EC2_ROLE_FOR";

pub fn run(context: &Context, profile: &str, command: &str) -> Result<SourceCredential, Fault> {
    let named = |what: String| format!("profile {profile:?}: credential_process: {what}");
    let running = context.environment.get(RUNNING).unwrap_or_default();
    if running.lines().any(|outer| outer == profile) {
        return lasting(named(
            "it leads back to this profile; let the command name another with --profile".to_owned(),
        ));
    }
    // Split as botocore does it, without a shell: there is none in a scratch container.
    let Some(words) = shlex::split(command).filter(|words| !words.is_empty()) else {
        return lasting(named(
            "its quotes do not match; correct the profile".to_owned(),
        ));
    };
    (context.progress)(&format!(
        "running the credential_process of profile {profile:?}"
    ));
    let mut child = without_own_options(&mut Command::new(&words[0]))
        .args(&words[1..])
        .env(RUNNING, format!("{running}\n{profile}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .or_else(|error| {
            lasting(named(format!(
                "{} cannot be run: {error}; correct the profile",
                words[0]
            )))
        })?;
    let output = read_to_end(&mut child, DEADLINE);
    let Ok(output) = output else {
        // Its end is not waited for either.
        _ = child.kill();
        return passing(named(format!(
            "it printed no credential within {} s, or more than {MAX_OUTPUT_BYTES} bytes, and was ended; run it by hand to see why",
            DEADLINE.as_secs()
        )));
    };
    match child.wait() {
        Ok(status) if status.success() => {
            read(&output).or_else(|why| passing(named(format!("{why}; run it by hand to see why"))))
        }
        Ok(status) => passing(named(format!(
            "it failed ({status}); run it by hand to see why"
        ))),
        Err(error) => passing(named(format!("it was lost: {error}"))),
    }
}

/// The options of this ec2-role are not those of one that the command runs, which has a role and conditions of its own.
fn without_own_options(command: &mut Command) -> &mut Command {
    let own =
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EC2_ROLE_"));
    own.fold(command, |command, (name, _)| command.env_remove(name))
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
    from_document(&json, "SessionToken", "credential_process")
        .ok_or("AccessKeyId or SecretAccessKey is missing in what it printed")
}

struct TooMuch;

fn read_to_end(child: &mut Child, deadline: Duration) -> Result<Vec<u8>, TooMuch> {
    let Some(mut stdout) = child.stdout.take() else {
        return Err(TooMuch);
    };
    let begun = Instant::now();
    let mut output = Vec::new();
    let mut piece = [0; 4096];
    loop {
        wait_readable(
            &stdout,
            deadline.checked_sub(begun.elapsed()).ok_or(TooMuch)?,
        )?;
        match stdout.read(&mut piece) {
            Ok(0) => return Ok(output),
            Ok(length) if output.len() + length <= MAX_OUTPUT_BYTES => {
                output.extend_from_slice(&piece[..length])
            }
            _ => return Err(TooMuch),
        }
    }
}

fn wait_readable(stdout: &ChildStdout, left: Duration) -> Result<(), TooMuch> {
    let timeout = Timespec::try_from(left).map_err(|_| TooMuch)?;
    match poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) if ready > 0 => Ok(()),
        _ => Err(TooMuch),
    }
}
