//! Sandboxes that forbid a system call.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use rustix::process::Pid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::support::{Ec2Role, Reply, Start, Sts, http};

/// Starts it where these calls fail with EPERM.
fn without(calls: &[libc::c_long], start: Start) -> Ec2Role {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    // The filter is the thread's, and of the processes that it starts.
    let starting = std::thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        start.serving()
    });
    starting.join().unwrap()
}

/// In hundredths of a second.
fn processor_time(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields = after_name.split(' ').skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_forbidden_accept_is_logged_once_and_does_not_spin() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = without(&[libc::SYS_accept4], Start::with(&sts));
    let mut client = http::connect(ec2_role.address).unwrap();
    let line = ec2_role.wait_for_line("accept4: ");
    assert!(line.contains("no new client is answered"), "{line}");
    let server = ec2_role.server();
    let before = processor_time(server);
    client
        .set_read_timeout(Some(Duration::from_millis(2_500)))
        .unwrap();
    assert!(client.read(&mut [0]).is_err());
    let spent = processor_time(server) - before;
    assert!(spent < 50, "{spent}");
    let lines = ec2_role.lines();
    let told = lines.iter().filter(|line| line.contains("accept4"));
    assert_eq!(told.count(), 1, "{lines:?}");
}

#[test]
fn without_seccomp_it_serves_unconfined_and_says_so() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = without(&[libc::SYS_seccomp], Start::with(&sts));
    let line = ec2_role.wait_for_line("server: seccomp: ");
    assert!(line.contains("runs without confinement"), "{line}");
    assert_eq!(ec2_role.document().status, 200);
}
