//! Checks what ec2-role does in a sandbox that forbids a system call, and at limits on the number of processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::support::directory::set_mode;
use crate::support::ec2_role::{PRINT_CREDENTIAL, processor_time};
use crate::support::{Directory, Ec2Role, Reply, Start, Sts, each, http, skip, until};

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// Runs `start` under a seccomp filter: in every process that it starts, system calls that match a rule fail with `errno`.
fn refusing<R: Send + 'static>(
    rules: Rules,
    errno: i32,
    start: impl FnOnce() -> R + Send + 'static,
) -> R {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    // The filter applies to the thread that installs it and to the processes that this thread starts.
    let starting = std::thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        start()
    });
    starting.join().unwrap()
}

fn without(call: libc::c_long, start: Start) -> Ec2Role {
    let rules = [(call, Vec::new())].into();
    refusing(rules, libc::EPERM, || start.serving())
}

/// A kernel that was booted with ipv6.disable=1 has no IPv6 sockets, and neither has a unit with RestrictAddressFamilies=AF_INET.
#[test]
fn the_error_names_ipv6_if_the_kernel_lacks_it() {
    let ipv6 = libc::AF_INET6 as u64;
    let is_ipv6 = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, ipv6);
    let rule = SeccompRule::new(vec![is_ipv6.unwrap()]).unwrap();
    let rules = [(libc::SYS_socket, vec![rule])].into();
    let sts = Sts::start([Reply::good()]);
    let start = Start::with(&sts).listen("[::]:0");
    let ec2_role = refusing(rules, libc::EAFNOSUPPORT, || start.spawn());
    ec2_role.wait_for_line("--listen [::]:0: this machine has no IPv6; choose an IPv4 address");
}

/// System calls newer than Linux 4.14, except rseq. rseq must stay allowed, because glibc aborts if rseq has succeeded in one
/// thread and then fails in another. Only the tests are linked with glibc; the release is linked with musl, which does not call
/// rseq.
const NEWER_THAN_4_14: [std::ops::RangeInclusive<libc::c_long>; 2] = [
    libc::SYS_rseq - 1..=libc::SYS_rseq - 1,
    libc::SYS_pidfd_send_signal..=libc::SYS_pidfd_send_signal + 100,
];
/// GRND_INSECURE, a flag of getrandom that Linux has had since 5.6.
const GRND_INSECURE: u64 = 4;

/// Refreshes, a `credential_process`, token files, a server's replacement and the shutdown need no system call newer than 4.14.
#[test]
fn kernel_4_14_has_all_system_calls_that_are_needed() {
    let flag = SeccompCmpOp::MaskedEq(GRND_INSECURE);
    let flag = SeccompCondition::new(2, SeccompCmpArgLen::Dword, flag, GRND_INSECURE).unwrap();
    let getrandom = [(
        libc::SYS_getrandom,
        vec![SeccompRule::new(vec![flag]).unwrap()],
    )];
    let newer = NEWER_THAN_4_14.into_iter().flatten();
    let newer = newer.map(|call| (call, Vec::new())).collect();
    let sts = Sts::start([Reply::good().valid_for(2)]);
    let files = Directory::new();
    let (key, token) = (files.text("key"), files.write("token", "token"));
    set_mode(&files.path("token"), 0o600);
    let start = Start::without_source(&sts)
        .credential_process(PRINT_CREDENTIAL)
        .arguments(["--token-key-file", &key, "--container-token-file", &token])
        .arguments(["--both-forms", "--same-network", "--metrics", "--quiet"]);
    let mut ec2_role = refusing(getrandom.into(), libc::EINVAL, || {
        refusing(newer, libc::ENOSYS, || start.serving())
    });
    ec2_role.token("60");
    ec2_role.wait_for_document_of_call(3);
    let server = ec2_role.server();
    kill_process(server, Signal::KILL).unwrap();
    ec2_role.wait_for_line(&format!("server replaced ({server})"));
    ec2_role.wait_for_document_of_call(4);
    ec2_role.signal(Signal::TERM);
    assert!(ec2_role.wait_for_end().success());
    let lines = ec2_role.lines();
    let is_known = [
        "listening on",
        "credential of",
        "server replaced",
        "ended by",
    ];
    let other = lines
        .iter()
        .find(|line| !is_known.iter().any(|known| line.contains(known)));
    assert_eq!(other, None, "{lines:?}");
}

/// Opens a connection that gets no response for 2.5 s, and returns the processor time that a process spends meanwhile.
fn spent_during_a_request(pid: Pid, address: SocketAddr) -> u64 {
    let before = processor_time(pid);
    let mut client = http::connect(address).unwrap();
    let patience = Duration::from_millis(2_500);
    client.set_read_timeout(Some(patience)).unwrap();
    assert!(client.read(&mut [0]).is_err());
    processor_time(pid) - before
}

#[test]
fn an_accept_that_fails_is_logged_once_and_does_not_spin() {
    let sts = Sts::start([Reply::good()]);
    let causes = [
        (libc::EPERM, "allow it in the seccomp profile"),
        (libc::EMFILE, "raise LimitNOFILE="),
        (libc::EIO, "Input/output error"),
    ];
    each(causes, |(errno, cause)| {
        let rules = [(libc::SYS_accept4, Vec::new())].into();
        let start = Start::with(&sts);
        let ec2_role = refusing(rules, errno, || start.serving());
        http::connect(ec2_role.address).unwrap();
        let line = ec2_role.wait_for_line("no new client is answered: accept4: ");
        assert!(line.contains(cause), "{line}");
        let spent = spent_during_a_request(ec2_role.server(), ec2_role.address);
        assert!(spent < 50, "{spent}");
        assert_eq!(ec2_role.count_lines("accept4"), 1, "{:?}", ec2_role.lines());
    });
}

#[test]
fn missing_seccomp_is_logged_and_the_server_serves() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = without(libc::SYS_seccomp, Start::with(&sts));
    let line = ec2_role.wait_for_line("server: seccomp: ");
    assert!(line.contains("runs without confinement"), "{line}");
    assert_eq!(ec2_role.document().status, 200);
}

#[test]
fn a_poll_that_fails_does_not_spin() {
    let sts = Sts::start([Reply::good()]);
    let rules = [(libc::SYS_ppoll, Vec::new())].into();
    let start = Start::with(&sts);
    let ec2_role = refusing(rules, libc::ENOMEM, || start.start());
    let spent = spent_during_a_request(ec2_role.pid, ec2_role.address);
    assert!(spent < 10, "{spent}");
}

/// The filter forbids setpgid, which is called at the start of each child. So no child can be started.
#[test]
fn a_log_writer_that_cannot_start_is_logged_and_does_not_spin() {
    let sts = Sts::start([Reply::good()]);
    let start = Start::with(&sts);
    let log = File::create(start.home.path("log")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = start.stderr(log).listen("-").stdin(OwnedFd::from(listener));
    let rules = [(libc::SYS_setpgid, Vec::new())].into();
    let ec2_role = refusing(rules, libc::EPERM, || start.spawn());
    let spent = spent_during_a_request(ec2_role.pid, address);
    assert!(spent < 10, "{spent}");
    let log = std::fs::read_to_string(ec2_role.home.path("log")).unwrap();
    assert_eq!(log.matches("log writer cannot be started").count(), 1);
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn errors_that_end_the_server_are_named_with_a_remedy() {
    let sts = Sts::start([Reply::good()]);
    let rows = [
        (libc::SYS_epoll_ctl, libc::ENOSPC, "max_user_watches"),
        (libc::SYS_epoll_create1, libc::EMFILE, "raise LimitNOFILE="),
        (libc::SYS_shutdown, libc::EPERM, "in the seccomp profile"),
    ];
    each(rows, |(call, errno, remedy)| {
        let rules = [(call, Vec::new())].into();
        let start = Start::with(&sts);
        let ec2_role = refusing(rules, errno, || start.start());
        let line = ec2_role.wait_for_line("ec2-role: server: ");
        assert!(line.contains(remedy), "{line}");
    });
}

/// Without wait4 every fetcher and server that has ended remains a zombie.
#[test]
fn without_wait4_it_serves_and_ends() {
    let sts = Sts::start([Reply::good()]);
    let mut ec2_role = without(libc::SYS_wait4, Start::with(&sts));
    ec2_role.signal(Signal::HUP);
    ec2_role.wait_for_document_of_call(2);
    ec2_role.signal(Signal::TERM);
    assert!(ec2_role.wait_for_end().success());
}

#[test]
fn without_getrandom_it_serves() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = without(libc::SYS_getrandom, Start::with(&sts));
    assert_eq!(ec2_role.document().status, 200);
}

#[test]
fn a_limit_on_threads_is_named_once_a_second() {
    let sts = Sts::start([Reply::good()]);
    let start = Start::with(&sts);
    let (stderr, pipe) = std::io::pipe().unwrap();
    let is_thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    let is_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        is_thread,
        libc::CLONE_THREAD as u64,
    );
    let rule = SeccompRule::new(vec![is_thread.unwrap()]).unwrap();
    // A filter can check the flags of clone, but not of clone3. If clone3 fails with ENOSYS, the C library uses clone instead.
    let clone3 = [(libc::SYS_clone3, Vec::new())].into();
    let clone = [(libc::SYS_clone, vec![rule])].into();
    let ec2_role = refusing(clone3, libc::ENOSYS, move || {
        refusing(clone, libc::EAGAIN, move || start.stderr(pipe).spawn())
    });
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let begun = Instant::now();
    let named = lines.filter(|line| line.contains("raise the cgroup's pids.max"));
    assert_eq!(named.take(3).count(), 3);
    assert!(begun.elapsed() > Duration::from_secs(2));
    drop(ec2_role);
}

/// The cause of a failed system call may be temporary, unlike a mistake in an option.
#[test]
fn a_call_that_fails_at_the_start_is_retried() {
    let sts = Sts::start([Reply::good()]);
    each(
        [
            libc::SYS_bind,
            libc::SYS_getsockname,
            libc::SYS_listen,
            libc::SYS_setsockopt,
            libc::SYS_signalfd4,
            libc::SYS_socket,
        ],
        |call| {
            let rules = [(call, Vec::new())].into();
            let start = Start::with(&sts);
            let mut ec2_role = refusing(rules, libc::EPERM, || start.spawn());
            ec2_role.wait_for_line("; trying again");
            ec2_role.signal(Signal::TERM);
            ec2_role.wait_for_end();
            assert_eq!(
                ec2_role.count_lines("trying again"),
                1,
                "{:?}",
                ec2_role.lines()
            );
        },
    );
}

/// sendto, with which the supervisor sends the state, fails with ENOBUFS.
#[test]
fn servers_that_get_no_state_are_started_after_pauses() {
    let sts = Sts::start([Reply::good()]);
    let start = Start::with(&sts);
    let (stderr, pipe) = std::io::pipe().unwrap();
    let rules = [(libc::SYS_sendto, Vec::new())].into();
    let ec2_role = refusing(rules, libc::ENOBUFS, move || start.stderr(pipe).spawn());
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let mut replaced = lines.filter(|line| line.contains("it does not receive its state"));
    assert!(replaced.next().is_some());
    let begun = Instant::now();
    assert_eq!(replaced.take(38).count(), 38);
    assert!(begun.elapsed() > Duration::from_secs(1));
    drop(ec2_role);
}

/// Tries many limits on processes, so that different processes or threads fail to start. Every start has a user of its own,
/// because the limit applies to all processes of a user together.
#[test]
fn limits_on_processes_make_no_server_panic() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can start processes as other users");
    }
    let sts = Sts::start([Reply::good()]);
    each(1..16, |most| {
        let (user, most) = (
            format!("--reuid={}", 61_000 + most),
            format!("--nproc={most}"),
        );
        let as_user = ["setpriv", &user, "--clear-groups", "prlimit", &most];
        let ec2_role = Start::with(&sts).before(as_user).start();
        until("an answer, or servers that fail", || {
            let count = |text| ec2_role.count_lines(text);
            let is_served = || http::get(ec2_role.address, http::DOCUMENT_PATH).is_ok();
            (count("server cannot be started") > 0
                || count("server replaced") > 2
                || count("credential of") > 0 && is_served())
            .then_some(())
        });
        let lines = ec2_role.lines();
        let panic = lines.iter().find(|line| line.contains("internal error"));
        assert_eq!(panic, None, "{most}: {lines:?}");
    });
}
