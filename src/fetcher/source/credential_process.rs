//! A profile's `credential_process`: a command that prints a credential
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).

use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::context::Context;
use crate::common::{Fault, limit, log, transient};
use crate::fetcher::source_credential::SourceCredential;

/// Time limit for the command. Go's SDK allows 60 s; here it is less, because the rest of the fetch needs time before the
/// fetcher's deadline.
const DEADLINE: Duration = Duration::from_secs(45);
/// Time limit and pause for retries after ETXTBSY: a program file that is being replaced is busy for a moment.
const MAX_BUSY: Duration = Duration::from_millis(500);
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Maximum size of the output, and of what is logged of stderr; a credential has a few kilobytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// Maximum wait for the last lines of stderr after the command has ended.
const LAST_LINES: Duration = Duration::from_millis(500);
/// Maximum number of stderr lines of the command that are logged, so that the command cannot fill the log.
const MAX_LOGGED_LINES: usize = 100;

/// Environment variable that lists the profiles whose commands are running, one on each line. It serves to detect a loop: the
/// command of a profile may run ec2-role with the same profile.
const RUNNING: &str = "RUN_BY_EC2_ROLE_FOR";

pub fn run(context: &Context, profile: &str, command: &str) -> Result<SourceCredential, Fault> {
    let wrong = |what: &str| transient(format!("profile {profile:?}: credential_process: {what}"));
    let config = context.settings.config;
    let running = config.environment.get(RUNNING).unwrap_or_default();
    if running.lines().any(|outer| outer == profile) {
        return wrong("it runs itself; let the command name another profile with --profile");
    }
    // Split the command by the rules of a shell. A shell itself is not used, because a scratch image has none.
    let Some(words) = shlex::split(command).filter(|words| !words.is_empty()) else {
        return wrong("a quote is not closed; correct the profile");
    };
    context.step(&format!("running the credential_process of profile {profile:?}"));
    let mut command = Command::new(&words[0]);
    // Remove this process's options from the environment: the command may run another ec2-role, which would use them.
    for name in config.environment.names("EC2_ROLE_") {
        command.env_remove(name);
    }
    command
        .args(&words[1..])
        .env(RUNNING, format!("{running}\n{profile}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    // Log what the command writes to stderr, except on a terminal with text logs, where the command may show a prompt. With a
    // pipe, a slow reader of the log does not block the command, and the command can open /dev/stderr, which fails if that is
    // journald's socket.
    if config.json_log || !io::stderr().is_terminal() {
        command.stderr(Stdio::piped());
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
    let said = child.stderr.take().map(|stderr| log_lines(stderr, profile));
    let collected = collect(child, DEADLINE);
    // Limit the wait for the end of stderr, because a daemon that the command started may keep stderr open for ever.
    _ = said.map(|end| end.recv_timeout(LAST_LINES));
    collected.and_then(|output| Ok(parse(&output)?)).or_else(|what| {
        wrong(&format!(
            "{what}; run it by hand to see why; SIGKILL may come from a memory limit (MemoryMax=), SIGTRAP from MemoryDenyWriteExecute= (Node.js); a pipe or a variable in it needs sh -c '…'"
        ))
    })
}

/// Logs the lines that a command writes to stderr, in a thread. The returned channel hangs up at the end of stderr.
fn log_lines(mut stderr: ChildStderr, profile: &str) -> Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    let prefix = format!("profile {profile:?}: credential_process said");
    let log = move || {
        let lines = BufReader::new(stderr.by_ref().take(MAX_OUTPUT_BYTES as u64)).split(b'\n');
        for line in lines.map_while(Result::ok).take(MAX_LOGGED_LINES) {
            log::warning(&format!("{prefix}: {}", String::from_utf8_lossy(&line).trim_end()));
        }
        // Discard the rest, because a full pipe would block the command.
        _ = io::copy(&mut stderr, &mut io::sink());
        drop(sender);
    };
    // If no thread can be started, the pipe is closed. Then `collect` fails too, because it also starts a thread, and reports why.
    _ = std::thread::Builder::new().spawn(log);
    receiver
}

/// Parses the output. Errors omit the output, because it may hold a secret.
fn parse(output: &[u8]) -> Result<SourceCredential, &'static str> {
    let json: Value = serde_json::from_slice(output).map_err(|_| "it printed no JSON")?;
    if json["Version"] != 1 {
        return Err("it printed no Version 1 credential");
    }
    // Ignore the expiration: this machine's clock may be wrong, and STS itself rejects an expired credential.
    SourceCredential::parse(&json, "SessionToken", "credential_process")
        .ok_or("AccessKeyId or SecretAccessKey is missing or malformed in what it printed, or SessionToken is malformed")
}

/// Returns the output of a command that succeeds. A thread waits for the output and the exit status, because neither a read of a
/// pipe nor `wait` takes a time limit.
fn collect(mut child: Child, deadline: Duration) -> Result<Vec<u8>, String> {
    let pid = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    let wait = move || {
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            // A read error is ignored, because `parse` rejects the incomplete output.
            _ = stdout.take(MAX_OUTPUT_BYTES as u64 + 1).read_to_end(&mut output);
        }
        if output.len() > MAX_OUTPUT_BYTES {
            _ = child.kill();
        }
        child.wait().map(|status| sender.send((output, status)))
    };
    let waited = std::thread::Builder::new().spawn(wait).map_err(|error| limit::name(&error));
    let received = waited.and_then(|_| {
        let too_long = |_| format!("it took longer than {} s and was ended", DEADLINE.as_secs());
        receiver.recv_timeout(deadline).map_err(too_long)
    });
    // If no result arrived in time, kill only the command. Its children are in the fetcher's process group, which the supervisor
    // kills when the fetcher ends. Under `ec2-role --credential-process` there is no supervisor, and the children continue.
    let (output, status) = received.inspect_err(|_| _ = kill_process(pid, Signal::KILL))?;
    if output.len() > MAX_OUTPUT_BYTES {
        return Err(format!("it printed more than {MAX_OUTPUT_BYTES} bytes and was ended"));
    }
    if !status.success() {
        return Err(format!("it failed ({status})"));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_overruns_is_reported_with_the_limit() {
        const SHORT: Duration = Duration::from_millis(100);
        for (script, limit, overrun) in [
            ("exec sleep 600", SHORT, "it took longer than 45 s and was ended"),
            ("exec sleep 600 >&-", SHORT, "it took longer than 45 s and was ended"),
            ("exec yes", DEADLINE, "it printed more than 65536 bytes and was ended"),
            (
                "trap '' PIPE; yes 2>&-; exec sleep 600",
                DEADLINE,
                "it printed more than 65536 bytes and was ended",
            ),
        ] {
            let child =
                Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            assert_eq!(collect(child, limit).unwrap_err(), overrun, "{script}");
        }
    }
}
