//! Checks what ec2-role does on signals, at low resource limits, without /proc, and with a container token file that changes, is
//! late or too large, or is on a file system that hangs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::support::ec2_role::{Ec2Role, PRINT_CREDENTIAL, is_alive};
use crate::support::http::fetch;
use crate::support::{Directory, Fault, Reply, Start, Sts, When, each, namespace, skip, until};

/// A start whose profile has a `credential_process` that runs `script` and then prints a credential.
fn with_credential_process(sts: &Sts, script: &str) -> Start {
    Start::without_source(sts).credential_process(&format!("{script}\n{PRINT_CREDENTIAL}"))
}

#[test]
fn sigterm_ends_ec2_role_although_the_parent_blocked_it() {
    let sts = Sts::start([Reply::good()]);
    let block = ["env", "--block-signal=TERM"];
    let mut ec2_role = Start::with(&sts).before(block).serving();
    ec2_role.signal(Signal::TERM);
    assert!(ec2_role.wait_for_end().success());
    ec2_role.wait_for_line("ended by SIGTERM");
}

#[test]
fn children_are_waited_for_although_the_parent_ignores_sigchld() {
    let sts = Sts::start([Reply::good()]);
    let ignore = ["env", "--ignore-signal=CHLD"];
    let ended = with_credential_process(&sts, "")
        .before(ignore)
        .arguments(["--credential-process"])
        .run();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let ec2_role = with_credential_process(&sts, "").before(ignore).serving();
    let server = ec2_role.server();
    // Wait for a response, which shows that the server has its state. If the server has no state when it is killed, the log can
    // name the missing state as the reason for the replacement.
    assert_eq!(ec2_role.document().status, 200);
    kill_process(server, Signal::KILL).unwrap();
    ec2_role.wait_for_line(&format!("server replaced ({server}): killed by signal 9; if it recurs, look for an error above, or check the memory limit"));
}

#[test]
fn sighup_fetches_now_and_other_signals_are_ignored_with_a_line() {
    let sts = Sts::start([Reply::good()]);
    let mut ec2_role = Start::with(&sts).serving();
    ec2_role.signal(Signal::HUP);
    ec2_role.wait_for_line("SIGHUP: fetching now");
    ec2_role.wait_for_document_of_call(2);
    for (signal, name) in [
        (Signal::USR1, "SIGUSR1"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::STKFLT, "SIGSTKFLT"),
        (Signal::XCPU, "SIGXCPU"),
    ] {
        ec2_role.signal(signal);
        ec2_role.wait_for_line(&format!("{name} ignored"));
    }
    assert_eq!(sts.calls().len(), 2);
    ec2_role.signal(Signal::QUIT);
    assert!(ec2_role.wait_for_end().success());
    ec2_role.wait_for_line("ended by SIGQUIT");
}

#[test]
fn sighup_during_a_fetch_starts_another_one_after_it() {
    let slow = Reply::good().after(Duration::from_secs(1));
    let sts = Sts::start([Reply::good(), slow, Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    ec2_role.signal(Signal::HUP);
    sts.wait_for_calls(2);
    ec2_role.signal(Signal::HUP);
    ec2_role.wait_for_document_of_call(3);
}

#[test]
fn after_sigusr2_a_second_server_takes_over_without_a_gap() {
    let sts = Sts::start([Reply::good()]);
    let mut first = Start::with(&sts).listen("127.0.0.2:0").serving();
    let address = first.address;
    let second = Start::with(&sts).listen(&address.to_string()).spawn();
    second.wait_for_line("the address is in use");
    first.signal(Signal::USR2);
    first.wait_for_line("SIGUSR2: another server of this user may listen here too");
    second.wait_for_line("listening on ");
    second.wait_for_line("ec2-role: credential of ");

    let third = Start::with(&sts).listen(&address.to_string()).spawn();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            first.signal(Signal::TERM);
            first.wait_for_end()
        });
        while !ended.is_finished() {
            assert_eq!(fetch(address).unwrap().status, 200);
        }
    });
    third.wait_for_line("the address is in use");
    assert_eq!(fetch(address).unwrap().status, 200);
}

#[test]
fn second_server_cannot_bind_at_wildcard_addresses() {
    let sts = Sts::start([Reply::good()]);
    for every in ["0.0.0.0", "[::]"] {
        let first = Start::with(&sts).listen(&format!("{every}:0")).serving();
        first.signal(Signal::USR2);
        first.wait_for_line("SIGUSR2: ");
        let address = format!("{every}:{}", first.address.port());
        let second = Start::with(&sts).listen(&address).spawn();
        second.wait_for_line("the address is in use");
    }
}

#[test]
fn credential_process_ends_with_a_killed_supervisor() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let (own, child) = (files.text("own"), files.text("child"));
    // The credential_process is a shell that starts a child and waits for it. When the supervisor is killed, both must end.
    let script = format!(
        "sleep 600 & echo $! >{child}.new; mv {child}.new {child}; echo $$ >{own}.new; mv {own}.new {own}; wait"
    );
    let ec2_role = with_credential_process(&sts, &script).spawn();
    let pids = [own, child].map(|file| {
        until("the process", || {
            Pid::from_raw(std::fs::read_to_string(&file).ok()?.trim().parse().ok()?)
        })
    });
    ec2_role.signal(Signal::KILL);
    for pid in pids {
        until("its end", || (!is_alive(pid)).then_some(()));
    }
}

#[test]
fn children_have_a_higher_oom_score_than_the_supervisor() {
    let sts = Sts::start([Reply::good()]);
    for (own, of_children) in [("0", "500"), ("600", "1000")] {
        let script = format!("echo {own} >/proc/self/oom_score_adj && exec \"$@\"");
        let ec2_role = Start::with(&sts)
            .before(["sh", "-c", &script, "sh"])
            .serving();
        let score = |pid: Pid| {
            let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        };
        assert_eq!(score(ec2_role.pid), own);
        assert_eq!(score(ec2_role.server()), of_children);
    }
}

#[test]
fn limit_on_open_files_is_logged_once_and_retried() {
    let sts = Sts::start([Reply::good()]);
    let mut ec2_role = Start::with(&sts)
        .before(["sh", "-c", "ulimit -S -n 4; exec \"$@\"", "sh"])
        .spawn();
    ec2_role.wait_for_line("--listen 127.0.0.1:0: too many open files: raise LimitNOFILE=");
    let enough = Rlimit {
        current: Some(256),
        maximum: Some(256),
    };
    prlimit(Some(ec2_role.pid), Resource::Nofile, enough).unwrap();
    ec2_role.wait_for_line("credential of ");
    assert_eq!(ec2_role.lines().len(), 3, "{:?}", ec2_role.lines());
    ec2_role.signal(Signal::TERM);
    ec2_role.wait_for_end();
}

#[test]
fn sigterm_ends_it_while_it_waits_for_descriptors() {
    let sts = Sts::start([Reply::good()]);
    each([4, 5, 7, 9], |most| {
        let script = format!("ulimit -S -n {most}; exec \"$@\"");
        let before = ["sh", "-c", &script, "sh"];
        let mut ec2_role = Start::with(&sts).before(before).spawn();
        ec2_role.wait_for_line("too many open files");
        ec2_role.signal(Signal::TERM);
        ec2_role.wait_for_end();
    });
}

#[test]
fn missing_proc_is_logged_with_the_remedy() {
    let hide = "mount -t tmpfs none /proc && exec \"$@\"";
    let before = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    if !namespace::can(&before[..2]) {
        return;
    }
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).before(before).spawn();
    let fault = " cannot be started: there is no /proc/self/exe: mount /proc";
    until("three failed fetches", || {
        (ec2_role.count_lines(&format!("fetcher{fault}")) > 2).then_some(())
    });
    let lines = ec2_role.lines();
    let named = lines
        .iter()
        .filter_map(|line| line.split_once(fault)?.0.split(' ').next_back());
    // Each failed fetch is logged. The start of the server fails repeatedly too, but is logged only the first time.
    let named: Vec<&str> = named.take(4).collect();
    assert_eq!(named, ["fetcher", "server", "fetcher", "fetcher"]);
}

/// Each limit prevents the start of a fetcher, so refreshes fail; the running server is not affected.
#[test]
fn limits_reached_during_a_refresh_keep_the_credential() {
    // The kernel does not limit the number of root's processes, so for `nproc` both ec2-role and prlimit run as another user.
    const AS_NOBODY: [&str; 3] = ["setpriv", "--reuid=65534", "--clear-groups"];
    let rows = [
        (
            "nofile",
            "4",
            "1024",
            "too many open files: raise LimitNOFILE= or RLIMIT_NOFILE",
        ),
        ("nproc", "1", "1024", "too many processes: raise TasksMax="),
        (
            "as",
            "1000000",
            "8000000000",
            "out of memory: raise MemoryMax=",
        ),
        (
            "data",
            "4096",
            "8000000000",
            "out of memory: raise MemoryMax=",
        ),
    ];
    let can = namespace::can(&AS_NOBODY);
    each(rows, |(limit, most, enough, expected)| {
        let before = if limit == "nproc" {
            &AS_NOBODY[..]
        } else {
            &["env"]
        };
        if limit == "nproc" && !can {
            return;
        }
        let sts = Sts::start([Reply::good()]);
        let set = |pid: Pid, most: &str| {
            let mut command = Command::new(before[0]);
            command.args(&before[1..]);
            let words = [format!("--pid={pid}"), format!("--{limit}={most}:")];
            assert!(
                command
                    .arg("prlimit")
                    .args(words)
                    .status()
                    .unwrap()
                    .success()
            );
        };
        Fault {
            what: limit.to_owned(),
            sts: &sts,
            start: &|| Start::with(&sts).before(before.iter().copied()),
            inject: &|pid| set(pid.unwrap(), most),
            repair: &|pid| set(pid, enough),
            expected: &["fetcher cannot be started: ", expected],
            calls: 0,
        }
        .check(When::DuringARefresh);
    });
}

fn with_container_token(sts: &Sts, file: &str) -> Start {
    Start::with(sts).arguments(["--container-token-file", file])
}

/// Requests the credential in the container form with a container token, and returns the response's status.
fn status_with_token(ec2_role: &Ec2Role, token: &str) -> u16 {
    let token = ("Authorization", token);
    let answer = ec2_role.request("GET", "/v2/credentials/exc_web", &[token]);
    answer.status
}

/// Mounts a FUSE file system that no program serves: looking up a name in it hangs.
fn mount_hanging_file_system(at: &Path) -> File {
    let fuse = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let mounted = Command::new("mount")
        .args(["--internal-only", "-t", "fuse", "-o"])
        .args(["fd=0,rootmode=40000,user_id=0,group_id=0", "hanging"])
        .arg(at)
        .stdin(fuse.try_clone().unwrap())
        .status();
    assert!(mounted.unwrap().success());
    fuse
}

#[test]
fn hanging_token_file_blocks_neither_refresh_nor_shutdown() {
    if File::options().write(true).open("/dev/fuse").is_err() {
        return skip("/dev/fuse cannot be opened");
    }
    if !namespace::enter_for_this_test() {
        return;
    }
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let file = files.write("mounted/token", "first");
    let mut ec2_role = with_container_token(&sts, &file).serving();
    until("the token", || {
        (status_with_token(&ec2_role, "first") == 200).then_some(())
    });
    let fuse = mount_hanging_file_system(&files.path("mounted"));
    let reader = until("the reader of the token", || {
        let reader = ec2_role.fetcher()?;
        let stat = std::fs::read_to_string(format!("/proc/{reader}/stat")).ok()?;
        // Wait for state D: the fetcher hangs in a read of the file. In state S it would only sleep between two reads.
        stat.contains(") D ").then_some(reader)
    });
    let before = ec2_role.lines().len();
    ec2_role.signal(Signal::HUP);
    sts.wait_for_calls(2);
    ec2_role.wait_for_line_after(before, "credential of ");
    assert_eq!(status_with_token(&ec2_role, "first"), 200);
    ec2_role.signal(Signal::TERM);
    assert!(ec2_role.wait_for_end().success());
    until("the end of the reader", || {
        (!is_alive(reader)).then_some(())
    });
    drop(fuse);
    let unmounted = Command::new("umount").arg(files.path("mounted")).status();
    assert!(unmounted.unwrap().success());
}

#[test]
fn too_large_container_token_is_refused_and_the_old_one_kept() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let longest = "x".repeat(4096);
    let file = files.write("token", &longest);
    let ec2_role = with_container_token(&sts, &file).serving();
    let status = || status_with_token(&ec2_role, &longest);
    // Wait until the token is valid: `serving` waits only for the credential, and ec2-role may read the container token later.
    until("the token", || (status() == 200).then_some(()));
    files.write("token", &"x".repeat(4097));
    ec2_role.wait_for_line("a token has at most 4096 bytes");
    ec2_role.wait_for_line("the token that was read before stays valid");
    assert_eq!(status(), 200);
}

#[test]
fn changed_container_token_is_read_despite_equal_file_times() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let file = files.write("token", "other");
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    let ec2_role = with_container_token(&sts, &file).serving();
    until("the other token", || {
        (status_with_token(&ec2_role, "other") == 200).then_some(())
    });
    // Change the content but keep the file, its size and its modification time, as `rsync --inplace --times` does.
    let mut same = File::options().write(true).open(&file).unwrap();
    same.write_all(b"first").unwrap();
    same.set_modified(modified).unwrap();
    until("the first token", || {
        (status_with_token(&ec2_role, "first") == 200).then_some(())
    });
}

#[test]
fn late_container_token_is_read_and_its_exposure_logged() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let file = files.text("token");
    let ec2_role = with_container_token(&sts, &file).serving();
    ec2_role.wait_for_line("the container form is answered 401");
    let status = || status_with_token(&ec2_role, "first");
    assert_eq!(status(), 401);
    files.write("token", "first");
    crate::support::directory::set_mode(&files.path("token"), 0o644);
    until("the token", || (status() == 200).then_some(()));
    let line = ec2_role.wait_for_line("others can read or write it (mode 644); chmod 640");
    assert!(line.contains("--container-token-file"), "{line}");
}
