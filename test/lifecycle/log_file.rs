//! Checks that nothing blocks, suspends or ends a process of ec2-role: neither a log (a file or a terminal) that cannot be
//! written, nor a credential_process that reads from the terminal.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, kill_process, prlimit};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

use crate::support::ec2_role::PRINT_CREDENTIAL;
use crate::support::http::{self, DOCUMENT_PATH};
use crate::support::{Directory, Ec2Role, Reply, Start, Sts, skip, until};

/// Enough requests that their log lines exceed the file size limit below.
const REQUESTS: usize = 200;

fn start(start: Start) -> (Ec2Role, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ec2_role = start.listen("-").stdin(OwnedFd::from(listener)).spawn();
    until("the first credential", || is_served(address));
    (ec2_role, address)
}

fn is_served(address: SocketAddr) -> Option<()> {
    let answer = http::get(address, DOCUMENT_PATH).ok()?;
    (answer.status == 200).then_some(())
}

#[track_caller]
fn check_that_requests_are_answered(address: SocketAddr) {
    for _ in 0..REQUESTS {
        assert_eq!(is_served(address), Some(()));
    }
}

#[track_caller]
fn check_that_sigterm_ends(ec2_role: &mut Ec2Role) {
    ec2_role.signal(Signal::TERM);
    assert!(ec2_role.wait_for_end().success());
}

#[test]
fn a_log_file_has_every_line_when_the_server_has_ended() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let log = File::create(files.path("log")).unwrap();
    let (mut ec2_role, address) = start(Start::with(&sts).stderr(log));
    check_that_requests_are_answered(address);
    check_that_sigterm_ends(&mut ec2_role);
    let log = fs::read_to_string(files.path("log")).unwrap();
    assert!(log.matches("\" 200 ").count() >= REQUESTS, "{log}");
    assert!(log.ends_with("ended by SIGTERM\n"), "{log}");
}

/// logrotate with copytruncate empties the file while it is open.
#[test]
fn a_log_file_that_is_truncated_begins_with_the_next_line() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let log = File::create(files.path("log")).unwrap();
    let (mut ec2_role, address) = start(Start::with(&sts).stderr(log.try_clone().unwrap()));
    let text = || fs::read_to_string(files.path("log")).unwrap();
    until("the log", || text().contains("credential of").then_some(()));
    log.set_len(0).unwrap();
    http::get(address, "/line/after").unwrap();
    check_that_sigterm_ends(&mut ec2_role);
    assert!(
        text().starts_with(|first: char| first != '\0'),
        "{:?}",
        text()
    );
    assert!(text().contains("GET /line/after"), "{}", text());
}

#[test]
fn a_killed_log_writer_is_replaced_and_loses_no_line() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let log = File::create(files.path("log")).unwrap();
    let (mut ec2_role, address) = start(Start::with(&sts).stderr(log));
    let writer = until("the log writer", || ec2_role.log_writer());
    kill_process(writer, Signal::STOP).unwrap();
    let stat = format!("/proc/{}/stat", writer.as_raw_nonzero());
    until("the stop of the log writer", || {
        let stat = fs::read_to_string(&stat).unwrap();
        stat.contains(") T ").then_some(())
    });
    for number in 0..REQUESTS {
        http::get(address, &format!("/line/{number}")).unwrap();
    }
    kill_process(writer, Signal::KILL).unwrap();
    until("another log writer", || {
        ec2_role.log_writer().filter(|pid| *pid != writer)
    });
    check_that_sigterm_ends(&mut ec2_role);
    let log = fs::read_to_string(files.path("log")).unwrap();
    assert_eq!(log.matches("GET /line/").count(), REQUESTS, "{log}");
    assert!(log.ends_with("ended by SIGTERM\n"), "{log}");
}

/// Starts ec2-role with a log file that can have 1,024 bytes. The limit is soft, so that a test can raise it.
fn start_with_limit(sts: &Sts, files: &Directory) -> (Ec2Role, SocketAddr) {
    let log = File::create(files.path("log")).unwrap();
    let limited = ["sh", "-c", "ulimit -S -f 2; exec \"$@\"", "sh"];
    start(Start::with(sts).before(limited).stderr(log))
}

#[test]
fn a_log_file_at_its_size_limit_ends_no_process() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let (mut ec2_role, address) = start_with_limit(&sts, &files);
    let server = ec2_role.server();
    check_that_requests_are_answered(address);
    assert_eq!(ec2_role.server(), server);
    check_that_sigterm_ends(&mut ec2_role);
    assert!(fs::metadata(files.path("log")).unwrap().len() <= 1024);
}

/// `ulimit -f` stands in for a full disk: when the file reaches this limit, it ends in the middle of a line.
#[test]
fn a_line_after_a_full_disk_does_not_continue_a_cut_one() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let (mut ec2_role, address) = start_with_limit(&sts, &files);
    check_that_requests_are_answered(address);
    let text = || fs::read_to_string(files.path("log")).unwrap();
    let cut = until("a full log file", || {
        Some(text()).filter(|text| text.len() == 1024)
    });
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(ec2_role.log_writer(), Resource::Fsize, unlimited).unwrap();
    check_that_sigterm_ends(&mut ec2_role);
    assert!(text().starts_with(&format!("{cut}\n")), "{}", text());
    assert!(text().ends_with("ended by SIGTERM\n"), "{}", text());
}

/// Starts ec2-role in the foreground of a new terminal, which also gets the log. The other processes of ec2-role run in the
/// background. With `tostop` the kernel suspends a background process that writes to the terminal.
fn start_on_terminal(it: Start) -> (OwnedFd, Ec2Role, SocketAddr) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let on_terminal = [
        "sh",
        "-c",
        "exec 3<&0 <&2; exec setsid -c sh -c 'stty tostop; exec \"$@\" <&3 3<&-' sh \"$@\"",
        "sh",
    ];
    let (ec2_role, address) = start(it.before(on_terminal).stderr(terminal));
    (master, ec2_role, address)
}

#[test]
fn a_terminal_that_stops_background_output_stops_no_process() {
    let sts = Sts::start([Reply::good()]);
    let (_terminal, mut ec2_role, address) = start_on_terminal(Start::with(&sts));
    let server = ec2_role.server();
    check_that_requests_are_answered(address);
    assert_eq!(ec2_role.server(), server);
    check_that_sigterm_ends(&mut ec2_role);
}

/// As a credential_process, the AWS CLI may ask on the terminal for the code of an MFA device. The kernel suspends a background
/// process that reads from the terminal (SIGTTIN).
#[test]
fn a_credential_process_that_reads_a_terminal_is_not_suspended() {
    let sts = Sts::start([Reply::good()]);
    let script = format!("read code </dev/tty || {PRINT_CREDENTIAL}");
    let start = Start::without_source(&sts).credential_process(&script);
    let (_terminal, mut ec2_role, _) = start_on_terminal(start);
    check_that_sigterm_ends(&mut ec2_role);
}

#[test]
fn ec2_role_ends_when_its_terminal_is_closed() {
    let sts = Sts::start([Reply::good()]);
    let (terminal, mut ec2_role, address) = start_on_terminal(Start::with(&sts));
    drop(terminal);
    assert!(ec2_role.wait_for_end().success());
    assert!(http::get(address, DOCUMENT_PATH).is_err());
}

/// A file system in a loop device. Dropping it thaws and unmounts it, even if the test fails.
struct FileSystem {
    mount_point: PathBuf,
}

impl FileSystem {
    fn make(files: &Directory) -> Option<Self> {
        let (image, mount_point) = (files.path("image"), files.path("mounted"));
        File::create(&image).unwrap().set_len(1 << 22).unwrap();
        fs::create_dir(&mount_point).unwrap();
        let made = run("mkfs.ext4", &["-q".as_ref(), image.as_ref()])
            && run(
                "mount",
                &[
                    "-o".as_ref(),
                    "loop".as_ref(),
                    image.as_ref(),
                    mount_point.as_ref(),
                ],
            );
        made.then(|| FileSystem { mount_point })
    }

    fn freeze(&self, option: &str) -> bool {
        run("fsfreeze", &[option.as_ref(), self.mount_point.as_ref()])
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        self.freeze("--unfreeze");
        until("the file system's end", || {
            run("umount", &[self.mount_point.as_ref()]).then_some(())
        });
    }
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_log_file_on_a_frozen_file_system_stops_no_process() {
    let files = Directory::new();
    let Some(file_system) = FileSystem::make(&files) else {
        return skip("mounting a loop device is not allowed here");
    };
    let sts = Sts::start([Reply::good()]);
    let log = file_system.mount_point.join("log");
    let (mut ec2_role, address) = start(Start::with(&sts).stderr(File::create(&log).unwrap()));
    assert!(file_system.freeze("--freeze"));
    // Thaw even if a check fails: a process that waits for a frozen file system cannot be killed.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        check_that_requests_are_answered(address);
        check_that_sigterm_ends(&mut ec2_role);
    }));
    assert!(file_system.freeze("--unfreeze"));
    outcome.unwrap();
    until("the lines that waited", || {
        let log = fs::read_to_string(&log).unwrap();
        log.ends_with("ended by SIGTERM\n").then_some(())
    });
}
