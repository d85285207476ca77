//! Namespaces for a test, where the machine allows them.

use std::process::Command;

use super::{Directory, skip};

const INSIDE: &str = "EC2_ROLE_TEST_INSIDE";

const PROGRAM: &str = env!("CARGO_BIN_EXE_ec2-role");

/// Returns whether this command, such as `unshare --net`, can run ec2-role. It cannot if the machine forbids the command, or if
/// the process that the command starts has no access to the directory of [`PROGRAM`].
fn runs(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .args(["test", "-x", PROGRAM])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Like `runs`. If the result is false, also reports the test as skipped, or fails it in CI.
#[track_caller]
pub fn can(words: &[&str]) -> bool {
    let works = runs(words);
    if !works {
        skip(&format!("{} cannot run {PROGRAM} here", words.join(" ")));
    }
    works
}

/// Returns an `unshare` command that makes namespaces of these kinds. If this machine allows no such command, reports the test as
/// skipped and returns `None`, or fails the test in CI.
#[track_caller]
pub fn unshare<'a>(kinds: &[&'a str]) -> Option<Vec<&'a str>> {
    // Try a user namespace first: in it, an ordinary user can make the other namespaces. If the binary is in another user's
    // private home directory, use plain `unshare`: only real root, not the root of a user namespace, can enter this directory.
    let with_user = [&["unshare", "--user", "--map-root-user"], kinds].concat();
    if runs(&with_user) {
        return Some(with_user);
    }
    let words = [&["unshare"], kinds].concat();
    can(&words).then_some(words)
}

/// Runs the calling test again in a child process, in a network namespace that has only loopback, with an empty /etc/hosts and an
/// /etc/resolv.conf that names 127.0.0.1. Returns true in the child, which then executes the test. Returns false in the parent,
/// which must then return.
#[track_caller]
pub fn enter_for_this_test() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(words) = unshare(&["--net", "--mount"]) else {
        return false;
    };
    // libtest runs each test in a thread that has the name of the test.
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
