//! Tests that clients are served while a peer of the fetcher hangs, and that a killed server loses only its requests in flight.
//! Also tests kills of the supervisor, crashes, the wait for an address, and ec2-role as PID 1.
//! scripts/bench measures the time of a client's fetch while STS hangs, and scripts/test-soak kills servers for a long time.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ec2_role::common::{
    BootTime, Credential, RoleArn, Secret, ServerConfig, TokenKey, log::Format,
};
use ec2_role::messages::{Counts, ServerState, ServerUpdate, to_frame};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::ec2_role::{PRINT_CREDENTIAL, children, is_alive, processor_time};
use crate::support::http::{self, DOCUMENT_PATH, TOKEN};
use crate::support::sts::access_key_id;
use crate::support::{Directory, Ec2Role, ROLE, Reply, Start, Sts, namespace, skip, until};

/// Time limit for the end after SIGTERM. Every peer here hangs longer, so a process that waits for its peer fails the test.
const END: Duration = Duration::from_secs(5);
/// Number of requests while a fetcher hangs.
const FETCHES: usize = 200;
/// Number of server kills while a fetcher hangs. The same number of hostile requests follows. Their Content-Length would make
/// tiny_http abort the server, so the server must not pass this header on to tiny_http.
const DEATHS: usize = 20;
/// Number of server kills under load.
const DEATHS_UNDER_LOAD: usize = 20;
/// Number of clients that make the load.
const CLIENTS: usize = 8;
const UPDATES: usize = 1_000;
/// Lifetime of the credential in seconds. Its refresh, which hangs, begins after 1 to 10 s. The credential is still valid when
/// the test is done.
const LIFETIME: i64 = 20;

/// Checks that, while a fetcher hangs, requests are answered, killed servers are replaced, and SIGTERM ends every process.
#[track_caller]
fn check_through_a_hang(what: &str, mut ec2_role: Ec2Role, also_ends: Option<Pid>) {
    let address = ec2_role.address;
    let token = ec2_role.token("21600");
    let mut hanging = std::collections::HashSet::new();
    let mut fetch = || {
        let answer = http::request(address, "GET", DOCUMENT_PATH, &[(TOKEN, &token)]).unwrap();
        assert_eq!(answer.field("AccessKeyId"), access_key_id(1), "{what}");
        hanging.extend(ec2_role.fetcher());
    };
    (0..FETCHES).for_each(|_| fetch());
    for _ in 0..DEATHS {
        let server = ec2_role.server();
        kill_process(server, Signal::KILL).unwrap();
        ec2_role.wait_for_line(&format!("server replaced ({server})"));
        fetch();
    }
    let mut bodies = Vec::new();
    for _ in 0..DEATHS {
        let body = "Content-Length: 1000000000000\r\n\r\n";
        let mut hostile = http::connect(address).unwrap();
        write!(
            hostile,
            "GET {DOCUMENT_PATH} HTTP/1.1\r\nHost: {address}\r\n{body}"
        )
        .unwrap();
        bodies.push(hostile);
        fetch();
    }
    // Check that responses do not wait for the end of a fetcher. `hanging` has the process id of each fetcher that was seen after
    // a response. If responses waited, another fetcher would be seen after each one.
    let answers = FETCHES + 2 * DEATHS;
    assert!(
        (1..=answers / 10).contains(&hanging.len()),
        "{what}: {answers} answers during {hanging:?}"
    );
    drop(bodies);

    let (server, fetcher, signalled) = (ec2_role.server(), ec2_role.fetcher(), Instant::now());
    ec2_role.signal(Signal::TERM);
    assert_eq!(ec2_role.wait_for_end().code(), Some(0));
    let took = signalled.elapsed();
    assert!(took < END, "{what}: {took:?}");
    for pid in [Some(server), fetcher, also_ends].into_iter().flatten() {
        until("the end of every process", || {
            (!is_alive(pid)).then_some(())
        });
    }
}

#[test]
fn clients_are_served_while_sts_hangs() {
    let sts = Sts::start([Reply::good().valid_for(LIFETIME), Reply::hang()]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).serving();
    sts.wait_for_calls(2);
    check_through_a_hang("STS hangs", ec2_role, None);
}

#[test]
fn clients_are_served_while_a_credential_process_hangs() {
    let sts = Sts::start([Reply::good().valid_for(LIFETIME)]);
    let start = Start::without_source(&sts).arguments(["--quiet"]);
    let hanging = start.home.path("hanging");
    let script = format!(
        "if mkdir {0}.asked 2>/dev/null; then {PRINT_CREDENTIAL}; exit; fi\n\
         echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
        hanging.display()
    );
    let ec2_role = start.credential_process(&script).serving();
    let pid: i32 = until("the process", || {
        std::fs::read_to_string(&hanging).ok()?.trim().parse().ok()
    });
    check_through_a_hang("credential_process hangs", ec2_role, Pid::from_raw(pid));
}

#[test]
fn clients_are_served_while_name_resolution_hangs() {
    if !namespace::enter_for_this_test() {
        return;
    }
    // A name server that never answers. The first fetch finds the name in the hosts file. Then the test empties the file, so name
    // resolution hangs.
    let _silent = std::net::UdpSocket::bind("127.0.0.1:53").unwrap();
    std::fs::write("/etc/hosts", "127.0.0.1 sts.test\n").unwrap();
    let sts = Sts::start([Reply::good().valid_for(LIFETIME)]);
    let url = sts.url().replace("127.0.0.1", "sts.test");
    let ec2_role = Start::bare()
        .keys("AKIA")
        .listen("127.0.0.1:0")
        .arguments([ROLE, "--quiet", "--endpoint-url", &url])
        .serving();
    until("the end of the first fetcher", || {
        ec2_role.fetcher().is_none().then_some(())
    });
    std::fs::write("/etc/hosts", "").unwrap();
    until("a hanging fetcher", || ec2_role.fetcher());
    check_through_a_hang("name resolution hangs", ec2_role, None);
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn a_killed_server_loses_only_requests_in_flight() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).serving();
    let (address, token) = (ec2_role.address, ec2_role.token("21600"));
    let served: Vec<AtomicU64> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let (failures, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut worst = 0;
    std::thread::scope(|scope| {
        for count in &served {
            scope.spawn(|| {
                let mut failed = false;
                while !is_over.load(Ordering::Relaxed) {
                    match http::request(address, "GET", DOCUMENT_PATH, &[(TOKEN, &token)]) {
                        Ok(answer) => {
                            assert_eq!(answer.status, 200, "{answer:?}");
                            failed = false;
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            failures.fetch_add(1, Ordering::Relaxed);
                            assert!(!failed, "the next attempt fails as well: {error}");
                            failed = true;
                        }
                    }
                }
            });
        }
        // Waits until each client has received two more responses. At least the second one was requested after the last kill.
        let all_are_served = || {
            let before: Vec<u64> = served
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect();
            let begun = Instant::now();
            let has_gone_on = || {
                served
                    .iter()
                    .zip(&before)
                    .all(|(count, before)| count.load(Ordering::Relaxed) >= before + 2)
            };
            while !has_gone_on() && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(1));
            }
            has_gone_on()
        };
        for _ in 0..DEATHS_UNDER_LOAD {
            let before = failures.load(Ordering::Relaxed);
            let server = ec2_role.server();
            kill_process(server, Signal::KILL).unwrap();
            if !all_are_served() {
                break;
            }
            worst = worst.max(failures.load(Ordering::Relaxed) - before);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let failed = failures.load(Ordering::Relaxed);
    assert!(failed <= DEATHS_UNDER_LOAD * CLIENTS, "{failed} failures");
    // A kill makes at most one request of each client fail. The limit is two per client, in case the machine is busy.
    assert!(worst <= 2 * CLIENTS, "{worst} failures for one death");
    assert_eq!(ec2_role.count_lines("server replaced"), DEATHS_UNDER_LOAD);
    assert_eq!(sts.calls().len(), 1);
}

/// If a user sends a signal to the supervisor by `systemctl kill` or `pkill`, every other process of ec2-role receives it too.
/// The server must keep serving.
#[test]
fn signals_for_the_supervisor_leave_the_server() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let server = ec2_role.server();
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::POWER,
        Signal::STKFLT,
        Signal::XCPU,
    ] {
        kill_process(server, signal).unwrap();
        assert_eq!(ec2_role.get(DOCUMENT_PATH).status, 200);
    }
    assert_eq!(ec2_role.server(), server);
}

/// Kills each server after 60 ms. A server that lives less than 500 ms (`SHORT_LIFE`) counts as short-lived.
#[test]
fn servers_that_keep_ending_are_started_after_a_pause() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    // On a busy machine a server may live longer, which resets the count of short-lived servers. So repeat until a pause comes.
    until("a pause before a start", || {
        let server = ec2_role.server();
        std::thread::sleep(Duration::from_millis(60));
        kill_process(server, Signal::KILL).unwrap();
        let killed = Instant::now();
        until("the next server", || {
            (ec2_role.server() != server).then_some(())
        });
        (killed.elapsed() > Duration::from_millis(300)).then_some(())
    });
}

#[test]
fn newest_of_a_thousand_updates_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut channel, theirs) = UnixStream::pair().unwrap();
    let role = RoleArn::parse(ROLE).unwrap();
    let token_key = TokenKey::random().unwrap();
    let now = BootTime::now();
    let credential = |number| Credential {
        access_key_id: access_key_id(number),
        secret_access_key: Secret::new("s3cr3t"),
        session_token: Secret::new("s3cr3t"),
        last_updated: std::time::SystemTime::now(),
        expiration: std::time::SystemTime::now(),
        deadline: now.after(Duration::from_secs(3600)),
    };
    let state = ServerState {
        config: ServerConfig {
            role_name: role.name(),
            requires_session_token: false,
            both_forms: false,
            pass_through: None,
            same_network: false,
            allow_hosts: Vec::new(),
            metrics: false,
            quiet: true,
        },
        role,
        token_key,
        log_format: Format::default(),
        region: None,
        container_token: None,
        metadata: None,
        counts: Counts::default(),
        credential: Some(credential(0)),
    };
    let update = |number| to_frame(&ServerUpdate::Fetched(credential(number)));
    let updates = (1..=UPDATES).flat_map(update);
    let frames: Vec<u8> = to_frame(&state).into_iter().chain(updates).collect();
    let mut server = Command::new(env!("CARGO_BIN_EXE_ec2-role"))
        .arg0("ec2-role-server")
        .env_clear()
        .stdin(OwnedFd::from(listener))
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    channel.write_all(&frames).unwrap();
    let document = http::get(address, DOCUMENT_PATH).unwrap();
    // The server ends when its control channel closes.
    drop(channel);
    assert!(server.wait().unwrap().success());
    assert_eq!(document.field("AccessKeyId"), access_key_id(UPDATES));
}

#[test]
fn replacing_or_deleting_the_binary_changes_nothing() {
    let sts = Sts::start([Reply::good().valid_for(2)]);
    let files = Directory::new();
    let program = files.text("ec2-role");
    std::fs::copy(env!("CARGO_BIN_EXE_ec2-role"), &program).unwrap();
    let ec2_role = Start::with(&sts).program(program.clone()).serving();
    files.program("ec2-role", "exit 1");
    let check = |call| {
        let server = ec2_role.server();
        kill_process(server, Signal::KILL).unwrap();
        ec2_role.wait_for_line(&format!("server replaced ({server})"));
        ec2_role.wait_for_document_of_call(call);
    };
    check(1);
    std::fs::remove_file(&program).unwrap();
    check(2);
}

#[test]
fn a_killed_supervisor_leaves_no_process_and_a_free_port() {
    let sts = Sts::start([Reply::good().valid_for(2), Reply::hang()]);
    let mut ec2_role = Start::with(&sts).serving();
    sts.wait_for_calls(2);
    let (server, fetcher) = (ec2_role.server(), ec2_role.fetcher().unwrap());
    ec2_role.signal(Signal::KILL);
    until("the port", || TcpListener::bind(ec2_role.address).ok());
    for pid in [server, fetcher] {
        until("the end of every process", || {
            (!is_alive(pid)).then_some(())
        });
    }
    ec2_role.wait_for_end();
}

#[test]
fn a_crash_leaves_no_core_file() {
    let sts = Sts::start([Reply::good()]);
    let unlimited = ["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"];
    let mut ec2_role = Start::with(&sts).before(unlimited).serving();
    for pid in [ec2_role.pid, ec2_role.server()] {
        let limits = format!("/proc/{}/limits", pid.as_raw_nonzero());
        until("a core file size of 0", || {
            let limits = std::fs::read_to_string(&limits).ok()?;
            let mut lines = limits.lines();
            let line = lines.find(|line| line.starts_with("Max core file size"))?;
            (line.split_whitespace().nth(4) == Some("0")).then_some(())
        });
    }
    let server = ec2_role.server();
    // Send SIGABRT, which dumps core by default, as a crash does. SIGSEGV and SIGQUIT would dump no core here, because Rust's
    // runtime handles the first SIGSEGV, and ec2-role blocks SIGQUIT.
    kill_process(server, Signal::ABORT).unwrap();
    ec2_role.wait_for_line("signal 6");
    ec2_role.signal(Signal::ABORT);
    ec2_role.wait_for_end();
    let left: Vec<_> = std::fs::read_dir(ec2_role.home.path(""))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Sets the core_pattern of the whole machine, and restores it when dropped. A lock on its file excludes a parallel run of this
/// test, for example by `scripts/test --debian`.
struct CorePattern {
    before: String,
    _lock: File,
}

impl CorePattern {
    const FILE: &str = "/proc/sys/kernel/core_pattern";

    /// Returns `None` if this machine does not let the test set core_pattern.
    fn set(pattern: &str) -> Option<Self> {
        let lock = File::open(Self::FILE).ok()?;
        lock.lock().ok()?;
        let before = std::fs::read_to_string(Self::FILE).ok()?;
        std::fs::write(Self::FILE, pattern).ok()?;
        Some(CorePattern {
            before,
            _lock: lock,
        })
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        std::fs::write(Self::FILE, &self.before).unwrap();
    }
}

#[test]
#[ignore = "takes root, and sets the machine's core_pattern for a moment"]
fn no_core_pattern_receives_a_crash() {
    // Test a file and a program as core_pattern: a core limit of 0 does not stop the kernel from sending a core to a program.
    let cores = Directory::new();
    let collector = cores.program("collect", &format!("cat >{}", cores.text("core.$1")));
    for pattern in [cores.text("core.%p"), format!("|{collector} %p")] {
        let Some(_pattern) = CorePattern::set(&pattern) else {
            return skip("only root may set core_pattern, and no container");
        };
        let core = |pid: Pid| cores.path(&format!("core.{}", pid.as_raw_nonzero()));
        let mut other = Command::new("sh")
            .args(["-c", "ulimit -c unlimited; kill -ABRT $$"])
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&other);
        other.wait().unwrap();
        until("the core file of a program that may have one", || {
            core(pid).exists().then_some(())
        });

        let sts = Sts::start([Reply::good().valid_for(2), Reply::hang()]);
        let unlimited = ["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"];
        let mut ec2_role = Start::with(&sts).before(unlimited).serving();
        let server = ec2_role.server();
        // Wait for the second call, which hangs: before it, `fetcher` could return the fetcher of the first call.
        sts.wait_for_calls(2);
        let fetcher = until("a fetcher that hangs", || ec2_role.fetcher());
        for (pid, told) in [(server, "server replaced"), (fetcher, "fetcher killed by")] {
            kill_process(pid, Signal::ABORT).unwrap();
            ec2_role.wait_for_line(told);
        }
        ec2_role.signal(Signal::ABORT);
        ec2_role.wait_for_end();
        for pid in [ec2_role.pid, server, fetcher] {
            assert!(!core(pid).exists(), "{pattern}: {pid:?}");
        }
    }
}

#[test]
fn a_token_key_file_is_written_whole_or_not_at_all() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    let key = files.text("key");
    let with_key = || Start::with(&sts).arguments(["--token-key-file", &key]);
    // With a file size limit of 0, ec2-role can create a file, but can write no byte to it. It must not leave the empty file
    // behind.
    let mut ec2_role = with_key()
        .before(["sh", "-c", "ulimit -f 0; exec \"$@\"", "sh"])
        .spawn();
    ec2_role.wait_for_line("File too large");
    ec2_role.signal(Signal::TERM);
    assert!(ec2_role.wait_for_end().success());
    assert_eq!(std::fs::read_dir(files.path("")).unwrap().count(), 0);
    let ec2_role = with_key().serving();
    assert_eq!(ec2_role.document().status, 200);
    assert_eq!(std::fs::read_dir(files.path("")).unwrap().count(), 1);
}

#[test]
fn waiting_for_an_address_does_not_spin_and_ends_by_sigterm() {
    let sts = Sts::start([Reply::good()]);
    // No machine has an interface with the index 999999, nor an address that RFC 5737 reserves for documentation.
    let listen = |address| Start::with(&sts).listen(address).spawn();
    listen("[fe80::1%999999]:4567").wait_for_line("does not have the address yet");
    let mut ec2_role = listen("192.0.2.1:4567");
    ec2_role.wait_for_line("does not have the address yet");
    // SIGCHLD must not make the wait for the address spin. If ec2-role is PID 1, it gets SIGCHLD whenever an orphan ends.
    ec2_role.signal(Signal::CHILD);
    let before = processor_time(ec2_role.pid);
    std::thread::sleep(Duration::from_millis(600));
    let (used, half) = (processor_time(ec2_role.pid) - before, 30);
    assert!(used < half, "{used} hundredths of a second of 60");
    ec2_role.signal(Signal::TERM);
    assert!(ec2_role.wait_for_end().success());
    ec2_role.wait_for_line("ended by SIGTERM");
}

#[test]
fn as_pid_1_orphans_are_reaped_and_sigterm_ends_it() {
    let Some(words) = namespace::unshare(&["--pid", "--fork", "--kill-child"]) else {
        return;
    };
    let sts = Sts::start([Reply::good().valid_for(2), Reply::hang()]);
    let start = Start::without_source(&sts).before(words);
    // `sleep` must become an orphan, whose new parent is PID 1, the supervisor. The supervisor kills the fetcher's process group
    // when the fetcher has ended, so `setsid` takes `sleep` out of this group.
    let script = format!("setsid sleep 0.2 >/dev/null 2>&1 &\n{PRINT_CREDENTIAL}");
    let mut ec2_role = start.credential_process(&script).serving();
    let supervisor = until("the supervisor", || {
        children(ec2_role.pid).into_iter().next()
    });
    sts.wait_for_calls(2);
    let is_orphan = |pid: &Pid| {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
            .unwrap_or_default();
        comm.trim() == "sleep"
    };
    until("the reaping of the orphans", || {
        (!children(supervisor).iter().any(is_orphan)).then_some(())
    });
    let signalled = Instant::now();
    kill_process(supervisor, Signal::TERM).unwrap();
    assert_eq!(ec2_role.wait_for_end().code(), Some(0));
    assert!(signalled.elapsed() < END);
}
