//! Namespaces for a test, where the machine allows them.

use std::process::Command;

use super::{Directory, skip};

const INSIDE: &str = "EC2_ROLE_TEST_INSIDE";

const PROGRAM: &str = env!("CARGO_BIN_EXE_ec2-role");

/// Whether ec2-role can run under this command. It cannot if the command is not allowed here, or if the program is in a private
/// home directory.
fn runs(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .args(["test", "-x", PROGRAM])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Like `runs`; skips the test if the command cannot.
#[track_caller]
pub fn can(words: &[&str]) -> bool {
    let works = runs(words);
    if !works {
        skip(&format!("{} cannot run {PROGRAM} here", words.join(" ")));
    }
    works
}

/// Returns the command that makes these namespaces; skips the test if there is none.
#[track_caller]
pub fn unshare<'a>(kinds: &[&'a str]) -> Option<Vec<&'a str>> {
    // A user namespace lets a plain user make the others. Root in it cannot enter the private home directory of another user.
    let with_user = [&["unshare", "--user", "--map-root-user"], kinds].concat();
    if runs(&with_user) {
        return Some(with_user);
    }
    let words = [&["unshare"], kinds].concat();
    can(&words).then_some(words)
}

/// Runs the calling test once more, in a network namespace with only loopback and with its own /etc/hosts and /etc/resolv.conf
/// (which names 127.0.0.1). Returns true if the caller is already inside.
#[track_caller]
pub fn enter_for_this_test() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(words) = unshare(&["--net", "--mount"]) else {
        return false;
    };
    // libtest names a test's thread by the test.
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
