//! Tests that secrets are only in the processes that need them, that every thread of the server has the seccomp filter, and that
//! the user of a process cannot trace it. At the end of every test, the drop of `Ec2Role` searches the log, the output and the
//! files in HOME for secrets.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::process::Pid;

use crate::support::sts::secret_access_key;
use crate::support::{Reply, SECRET, Start, Sts, skip, until};

/// The secret that `Start::keys` sets.
fn source_secret() -> String {
    format!("{SECRET}/key+of/the/source")
}

fn proc(pid: Pid, name: &str) -> String {
    format!("/proc/{}/{name}", pid.as_raw_nonzero())
}

/// Whether this test may read a process's memory; if not, also reports the test as skipped (in CI: fails it).
#[track_caller]
fn can_read(pid: Pid) -> bool {
    let can = File::open(proc(pid, "mem")).is_ok();
    if !can {
        skip("another process's memory takes root");
    }
    can
}

/// Whether these bytes are in the readable memory of a process.
fn has_in_memory(pid: Pid, wanted: &str) -> bool {
    let memory = File::open(proc(pid, "mem")).unwrap();
    let maps = std::fs::read_to_string(proc(pid, "maps")).unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|bound| u64::from_str_radix(bound, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        // Some pages that the kernel maps, such as [vvar], cannot be read; they hold no secret.
        rest.starts_with('r')
            && memory.read_exact_at(&mut bytes, from).is_ok()
            && bytes
                .windows(wanted.len())
                .any(|window| window == wanted.as_bytes())
    })
}

fn environment(pid: Pid) -> String {
    let bytes = std::fs::read(proc(pid, "environ")).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_server_process_holds_no_source_secret() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let server = ec2_role.server();
    if !can_read(server) {
        return;
    }
    ec2_role.document();
    let environment_of_server = environment(server);
    assert!(
        environment_of_server.starts_with("RUST_MIN_STACK=")
            && environment_of_server.matches('=').count() == 1,
        "{environment_of_server}"
    );
    assert!(!has_in_memory(server, &source_secret()));
    // Check that `has_in_memory` can find a secret. The role's secret is in the server, and the source credential's secret in the
    // supervisor's environment.
    assert!(has_in_memory(server, &secret_access_key(1)));
    assert!(has_in_memory(ec2_role.pid, &source_secret()));
}

#[test]
fn the_supervisor_holds_no_secret_of_a_file_source() {
    let sts = Sts::start([Reply::good()]);
    let file = format!(
        "[default]\naws_access_key_id = AKIATESTSOURCE000001\naws_secret_access_key = {}\n",
        source_secret()
    );
    let ec2_role = Start::without_source(&sts)
        .file(".aws/credentials", &file)
        .serving();
    if !can_read(ec2_role.pid) {
        return;
    }
    until("the end of the fetcher", || {
        ec2_role.fetcher().is_none().then_some(())
    });
    for pid in [ec2_role.pid, ec2_role.server()] {
        assert!(!has_in_memory(pid, &source_secret()));
        assert!(!environment(pid).contains(SECRET));
        assert!(has_in_memory(pid, &secret_access_key(1)));
    }
}

#[test]
fn every_thread_of_the_server_is_confined() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    assert_eq!(ec2_role.document().status, 200);
    let threads = std::fs::read_dir(proc(ec2_role.server(), "task")).unwrap();
    let threads: Vec<_> = threads.map(|thread| thread.unwrap().path()).collect();
    assert!(threads.len() > 1, "{threads:?}");
    for thread in threads {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        // Seccomp mode 2 is a filter.
        assert!(
            status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"),
            "{status}"
        );
    }
}

#[test]
fn own_user_cannot_trace_supervisor_or_server() {
    const AS_NOBODY: [&str; 4] = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let sts = Sts::start([Reply::good()]);
    let start = Start::with(&sts);
    // Root can trace everything, so as root this test runs ec2-role as another user.
    let before = if rustix::process::getuid().is_root() {
        &AS_NOBODY[..]
    } else {
        &["env"]
    };
    let ec2_role = start.before(before.iter().copied()).serving();
    for pid in [ec2_role.pid, ec2_role.server()] {
        let status = std::fs::read_to_string(proc(pid, "status")).unwrap();
        assert!(!status.contains("\nUid:\t0\t"), "{status}");
        // If a process cannot be traced by its own user, the process's files in /proc belong to root (proc(5)).
        assert_eq!(std::fs::metadata(proc(pid, "mem")).unwrap().uid(), 0);
    }
}
