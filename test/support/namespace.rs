//! Namespaces for a test, where the machine allows them.

use std::process::Command;

use super::{Directory, skip};

const INSIDE: &str = "EC2_ROLE_TEST_INSIDE";

const PROGRAM: &str = env!("CARGO_BIN_EXE_ec2-role");

/// Whether this command can run ec2-role. It cannot if this machine does not allow the command, or if [`PROGRAM`] is in a home
/// directory that the command's user may not enter.
fn runs(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .args(["test", "-x", PROGRAM])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Like `runs`; if the result is false, also reports the test as skipped (in CI: fails it). The caller then returns.
#[track_caller]
pub fn can(words: &[&str]) -> bool {
    let works = runs(words);
    if !works {
        skip(&format!("{} cannot run {PROGRAM} here", words.join(" ")));
    }
    works
}

/// Returns an `unshare` command that makes namespaces of these kinds. If this machine allows none, returns `None` after reporting
/// the test as skipped (in CI: failing it); the caller then returns.
#[track_caller]
pub fn unshare<'a>(kinds: &[&'a str]) -> Option<Vec<&'a str>> {
    // A user namespace lets an ordinary user make the namespaces of the other kinds. Its root cannot enter another user's private
    // home directory, but real root can. So if this fails, try plain `unshare`, which only real root may run.
    let with_user = [&["unshare", "--user", "--map-root-user"], kinds].concat();
    if runs(&with_user) {
        return Some(with_user);
    }
    let words = [&["unshare"], kinds].concat();
    can(&words).then_some(words)
}

/// Runs the calling test again in a child process: in a network namespace that has only loopback, with its own /etc/hosts and an
/// /etc/resolv.conf that names 127.0.0.1. Returns true in the child. Otherwise returns false, and the caller returns too.
#[track_caller]
pub fn enter_for_this_test() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(words) = unshare(&["--net", "--mount"]) else {
        return false;
    };
    // libtest gives the thread of a test the test's name.
    let thread = std::thread::current();
    let name = thread.name().unwrap();
    let files = Directory::new();
    let (hosts, resolver) = (
        files.write("hosts", ""),
        files.write("resolv.conf", "nameserver 127.0.0.1\n"),
    );
    let script = "set -e; ip link set lo up; mount --bind \"$1\" /etc/hosts; mount --bind \"$2\" \"$(readlink -f /etc/resolv.conf)\"; shift 2; exec \"$@\"";
    let output = Command::new(words[0])
        .args(&words[1..])
        .args(["sh", "-c", script, "sh", &hosts, &resolver])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(printed.contains("1 passed"), "{name} did not run");
    false
}
