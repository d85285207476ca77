//! Checks the format of log lines on stderr, that they contain no secrets, and that requests are answered while the log cannot be
//! written.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::http::{self, DOCUMENT_PATH, LIST_PATH, TOKEN};
use crate::support::{Directory, Ec2Role, ROLE, Reply, SECRET, Start, Sts, until};

/// Enough requests that their log lines do not fit into a pipe.
const REQUESTS: usize = 1_000;

#[test]
fn access_log_is_common_log_format_with_duration() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let length = ec2_role.document().body.len();
    let line = ec2_role.wait_for_line("\"GET ");
    // Example: 127.0.0.1 - - [17/Jan/2015:04:58:54 +0000] "GET … HTTP/1.1" 200 590 0.0003
    let rest = line.strip_prefix("127.0.0.1 - - [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    let shape: String = time
        .chars()
        .map(|character| {
            if character.is_ascii_digit() {
                '9'
            } else if character.is_ascii_alphabetic() {
                'a'
            } else {
                character
            }
        })
        .collect();
    assert_eq!(shape, "99/aaa/9999:99:99:99 +9999", "{line}");
    let rest = rest
        .strip_prefix(&format!("\"GET {DOCUMENT_PATH} HTTP/1.1\" 200 {length} "))
        .unwrap();
    let (seconds, fraction) = rest.split_once('.').unwrap();
    assert!(
        seconds == "0" && fraction.len() == 4 && fraction.parse::<u32>().is_ok(),
        "{line}"
    );
    ec2_role.request("HEAD", DOCUMENT_PATH, &[]);
    let line = ec2_role.wait_for_line("\"HEAD ");
    assert!(line.contains(" HTTP/1.1\" 200 0 0."), "{line}");
}

/// Whether a line is an event: `2026-01-31T18:20:00Z ec2-role: TEXT`.
fn is_event(line: &str) -> bool {
    line.split_once(" ec2-role: ")
        .is_some_and(|(time, _)| ec2_role::common::clock::parse_iso8601(time).is_some())
}

#[test]
fn quiet_leaves_out_requests_and_keeps_events() {
    let sts = Sts::start([Reply::good().valid_for(2)]);
    let ec2_role = Start::with(&sts)
        .variable("EC2_ROLE_QUIET", "true")
        .serving();
    for _ in 0..10 {
        ec2_role.document();
    }
    ec2_role.wait_for_line_after(2, "ec2-role: credential of ");
    let lines = ec2_role.lines();
    assert!(lines.iter().all(|line| is_event(line)), "{lines:?}");
}

#[test]
fn control_bytes_and_quotes_are_escaped_in_the_log() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let address = ec2_role.address;
    let request = |target: &str| {
        _ = http::exchange(
            address,
            format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes(),
        );
    };
    request("/\u{1b}[2J\"x\"\\y\tz");
    request("/a\rb\u{7f}c");
    request(&format!("/{}", "long".repeat(3_000)));
    request(&format!("/{}", "\u{1b}".repeat(1_000)));
    request(&format!("/{}", "fits".repeat(1_000)));
    ec2_role.get("/last");
    ec2_role.wait_for_line("GET /last ");
    let lines = ec2_role.lines();
    assert!(
        lines
            .iter()
            .all(|line| line.len() < 350 && !line.contains(|c: char| c.is_control())),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("GET /\\x1b[2J\\x22x\\x22\\x5cy\\x09z ")),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .all(|line| is_event(line) || line.starts_with("127.0.0.1 - - [")),
        "{lines:?}"
    );
}

#[test]
fn no_secret_is_logged_whatever_fails() {
    // Every test searches the log of its process for secrets. This one also sends secrets in unexpected places.
    let sts = Sts::start([
        Reply::bytes(
            200,
            format!("{{\"SecretAccessKey\":\"{SECRET}\",\"SessionToken\":\"{SECRET}\"}}"),
        ),
        Reply::bytes(200, format!("{SECRET} {SECRET}")),
        Reply::bytes(500, format!("<html>{SECRET}<br>")),
        Reply::good().valid_for(2),
        Reply::bytes(
            200,
            format!("<a><SecretAccessKey>{SECRET}</SecretAccessKey></a>"),
        ),
        Reply::good(),
    ]);
    let ec2_role = Start::with(&sts)
        .variable("AWS_SESSION_TOKEN", &format!("{SECRET}/session"))
        .start();
    ec2_role.wait_for_document_of_call(4);
    let token = ec2_role.token("60");
    for headers in [
        [(TOKEN, token.as_str())],
        [("Authorization", SECRET)],
        [("Cookie", SECRET)],
    ] {
        ec2_role.request("GET", LIST_PATH, &headers);
    }
    ec2_role.wait_for_document_of_call(6);
}

/// Starts ec2-role with this stderr. The test cannot read the listening address from this stderr, so it makes the listening
/// socket and passes it to ec2-role.
fn start_with_stderr(sts: &Sts, stderr: impl Into<Stdio>) -> (Ec2Role, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ec2_role = Start::with(sts)
        .listen("-")
        .stdin(OwnedFd::from(listener))
        .stderr(stderr)
        .spawn();
    (ec2_role, address)
}

/// Checks that many requests are answered, and then that a refresh happens.
#[track_caller]
fn check_that_answers_go_on(address: SocketAddr) {
    let get = || http::get(address, DOCUMENT_PATH).ok();
    until("the first credential", || {
        get().filter(|answer| answer.status == 200)
    });
    for _ in 0..REQUESTS {
        assert_eq!(http::get(address, DOCUMENT_PATH).unwrap().status, 200);
    }
    let key = http::get(address, DOCUMENT_PATH)
        .unwrap()
        .field("AccessKeyId");
    until("a refresh", || {
        get().filter(|answer| answer.status == 200 && answer.field("AccessKeyId") != key)
    });
}

#[test]
fn a_full_stderr_pipe_holds_whole_lines_and_blocks_nothing() {
    let sts = Sts::start([Reply::good().valid_for(4)]);
    let (reader, writer) = std::io::pipe().unwrap();
    let (ec2_role, address) = start_with_stderr(&sts, writer);
    check_that_answers_go_on(address);
    drop(ec2_role);
    let lines: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
    assert!(
        lines.len() > 100 && lines.len() < REQUESTS,
        "{} lines",
        lines.len()
    );
    for line in lines {
        assert!(
            is_event(&line) || (line.starts_with("127.0.0.1 - - [") && line.contains("\" 200 ")),
            "{line:?}"
        );
        assert!(!line.contains(SECRET));
    }
}

#[test]
fn stderr_without_a_reader_blocks_nothing() {
    let sts = Sts::start([Reply::good().valid_for(4)]);
    let (reader, writer) = std::io::pipe().unwrap();
    let (_ec2_role, address) = start_with_stderr(&sts, writer);
    drop(reader);
    check_that_answers_go_on(address);
}

#[test]
fn stderr_on_a_full_disk_or_socket_blocks_nothing() {
    let sts = Sts::start([Reply::good().valid_for(4)]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (_ec2_role, address) = start_with_stderr(&sts, full);
    check_that_answers_go_on(address);
    let sts = Sts::start([Reply::good().valid_for(4)]);
    let (mut journal, theirs) = UnixStream::pair().unwrap();
    let (ec2_role, address) = start_with_stderr(&sts, OwnedFd::from(theirs));
    check_that_answers_go_on(address);
    drop(ec2_role);
    let mut lines = String::new();
    journal.read_to_string(&mut lines).unwrap();
    assert!(lines.contains(" ec2-role: listening on "), "{lines:?}");
}

#[test]
fn closed_stderr_blocks_nothing() {
    let sts = Sts::start([Reply::good().valid_for(4)]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _ec2_role = Start::with(&sts)
        .before(["sh", "-c", "exec \"$@\" 2>&-", "sh"])
        .listen("-")
        .stdin(OwnedFd::from(listener))
        .spawn();
    check_that_answers_go_on(address);
}

/// Returns the log of a run: a failed call of STS, a request with special characters, and the end by SIGTERM.
fn log_of(start: Start) -> Vec<String> {
    let (stderr, theirs) = UnixStream::pair().unwrap();
    let stat = rustix::fs::fstat(&theirs).unwrap();
    let start = start
        .variable(
            "JOURNAL_STREAM",
            &format!("{}:{}", stat.st_dev, stat.st_ino),
        )
        .stderr(OwnedFd::from(theirs));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut ec2_role = start.listen("-").stdin(OwnedFd::from(listener)).spawn();
    let mut lines = BufReader::new(stderr).lines().map(Result::unwrap);
    let mut log = Vec::new();
    let mut read_until = |text: &str| {
        while !log.last().is_some_and(|line: &String| line.contains(text)) {
            log.push(lines.next().unwrap());
        }
    };
    read_until("next try in ");
    _ = http::get(address, "/\"\u{1b}odd\\");
    read_until("odd");
    ec2_role.signal(Signal::TERM);
    read_until("ended by SIGTERM");
    assert!(ec2_role.wait_for_end().success());
    log
}

fn denied() -> Sts {
    Sts::start([Reply::error(403, "AccessDenied", "no\u{202e} \"way\"")])
}

#[test]
fn lines_for_journald_begin_with_their_priority() {
    let sts = denied();
    let log = log_of(Start::with(&sts));
    for (text, begins) in [
        ("listening on ", "<6>ec2-role: listening on "),
        ("AccessDenied", "<4>ec2-role: "),
        ("odd", "<6>127.0.0.1 - - ["),
        ("ended by SIGTERM", "<6>ec2-role: ended by SIGTERM"),
    ] {
        let line = log.iter().find(|line| line.contains(text)).unwrap();
        assert!(line.starts_with(begins), "{log:?}");
    }
    let wrong = Start::bare().arguments(["--listen", "x"]);
    let (mut stderr, theirs) = UnixStream::pair().unwrap();
    let stat = rustix::fs::fstat(&theirs).unwrap();
    let mut ended = wrong
        .variable(
            "JOURNAL_STREAM",
            &format!("{}:{}", stat.st_dev, stat.st_ino),
        )
        .arguments([ROLE])
        .stderr(OwnedFd::from(theirs))
        .spawn();
    ended.wait_for_end();
    drop(ended);
    let mut lines = String::new();
    stderr.read_to_string(&mut lines).unwrap();
    assert!(lines.starts_with("<3>ec2-role: --listen \"x\""), "{lines}");
}

#[test]
fn every_line_is_a_json_object_if_configured() {
    let sts = denied();
    let log = log_of(Start::with(&sts).arguments(["--log-format", "json"]));
    let parsed = log.iter().map(|line| {
        let object = line.split_once('>').unwrap().1;
        serde_json::from_str::<serde_json::Value>(object).unwrap()
    });
    let parsed: Vec<_> = parsed.collect();
    for object in &parsed {
        let time = object["time"].as_str().unwrap();
        assert!(ec2_role::common::clock::parse_iso8601(time).is_some());
        assert_eq!(object["role"], ROLE);
    }
    let of = |key: &str, text: &str| {
        let has = |object: &&serde_json::Value| {
            object[key]
                .as_str()
                .is_some_and(|value| value.contains(text))
        };
        parsed.iter().find(has).unwrap()
    };
    let denied = of("message", "AccessDenied");
    assert_eq!(
        (&denied["event"], &denied["level"]),
        (&"message".into(), &"warning".into())
    );
    let request = of("request", "odd");
    assert_eq!(
        (&request["event"], &request["level"]),
        (&"request".into(), &"info".into())
    );
    assert_eq!(request["client"], "127.0.0.1");
    assert!(request["status"].is_u64() && request["bytes"].is_u64());
    assert!(request["seconds"].is_f64());
}

#[test]
fn errors_outside_of_serving_have_the_chosen_format() {
    let json = ("EC2_ROLE_LOG_FORMAT", "json");
    let directory = Directory::new();
    let nowhere = ("AWS_SHARED_CREDENTIALS_FILE", directory.text("none"));
    for (variable, arguments, is_json) in [
        (json, vec!["--frob"], true),
        (("LANG", "C"), vec!["--log-format", "json", "--frob"], true),
        (("LANG", "C"), vec!["--log-format=json", "--check"], true),
        (json, vec!["--credential-process", ROLE], true),
        (json, vec!["--log-format=text", "--frob"], false),
        (json, vec!["--log-format", "text", "--check"], false),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_ec2-role"))
            .args(&arguments)
            .args(["--listen", "127.0.0.1:1"])
            .env_clear()
            .envs([variable, ("AWS_EC2_METADATA_DISABLED", "true")])
            .env(nowhere.0, &nowhere.1)
            .output()
            .unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        let line: Result<serde_json::Value, _> = serde_json::from_str(&stderr);
        assert_eq!(line.is_ok(), is_json, "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_log_that_is_not_journalds_has_no_priorities() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts)
        .variable("JOURNAL_STREAM", "1:2")
        .serving();
    let line = ec2_role.wait_for_line("listening on ");
    assert!(is_event(&line), "{line}");
}
