//! Watching it: `/metrics` for the host, `--check` for people and programs.

use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketType};

use crate::support::container::Container;
use crate::support::http::{self, DOCUMENT_PATH, LIST_PATH, TOKEN, TOKEN_PATH, TTL};
use crate::support::loopback::Loopback;
use crate::support::{Ec2Role, Ended, ROLE, Reply, Start, Sts, namespace, until};

const METRICS: &str = "/metrics";

/// The value of one sample.
#[track_caller]
fn sample(ec2_role: &Ec2Role, name: &str) -> u64 {
    let answer = ec2_role.get(METRICS);
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = answer.body.lines().find_map(|line| {
        let (found, value) = line.rsplit_once(' ')?;
        (found == format!("ec2_role_{name}")).then(|| value.parse().unwrap())
    });
    line.unwrap_or_else(|| panic!("no {name} in {}", answer.body))
}

#[test]
fn metrics_are_in_prometheus_form_and_count_what_happens() {
    let sts = Sts::start([
        Reply::error(503, "ServiceUnavailable", "later"),
        Reply::good(),
    ]);
    let ec2_role = Start::with(&sts).arguments(["--metrics"]).serving();
    let answer = ec2_role.get(METRICS);
    assert_eq!(answer.header("Content-Type"), "text/plain; version=0.0.4");
    // Every family: its help, its type, then its samples with whole numbers; a newline at the end.
    assert!(answer.body.ends_with('\n'));
    let mut family = String::new();
    for line in answer.body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, _] => family = name.to_owned(),
            ["#", "TYPE", name, kind] => {
                assert!(
                    name == family && ["counter", "gauge"].contains(&kind),
                    "{line}"
                );
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            }
            [sample, value] => {
                assert!(
                    sample.split('{').next() == Some(&family) && value.parse::<u64>().is_ok(),
                    "{line}"
                );
            }
            _ => panic!("{line:?}"),
        }
    }
    let names = [
        "requests_total",
        "version_one_requests_total",
        "refreshes_total",
        "refresh_failures_total",
        "server_restarts_total",
    ];
    assert_eq!(names.map(|name| sample(&ec2_role, name)), [0, 0, 1, 1, 0]);
    let expiration =
        ec2_role::common::clock::parse_iso8601(&ec2_role.document().field("Expiration")).unwrap();
    assert_eq!(
        sample(&ec2_role, "credential_expiry_timestamp_seconds") as i64,
        ec2_role::common::clock::epoch_seconds(expiration)
    );
    let token = ec2_role.token("60");
    ec2_role.request("GET", LIST_PATH, &[(TOKEN, &token)]);
    assert_eq!(names.map(|name| sample(&ec2_role, name)), [3, 1, 1, 1, 0]);

    for (reason, method, path, headers) in [
        (
            "host",
            "GET",
            LIST_PATH,
            [("Accept", "x"), ("Host", "evil.example")],
        ),
        (
            "script",
            "GET",
            LIST_PATH,
            [("Accept", "x"), ("Origin", "x")],
        ),
        (
            "forwarded",
            "GET",
            LIST_PATH,
            [("Accept", "x"), ("X-Forwarded-For", "x")],
        ),
        (
            "bad_token",
            "GET",
            LIST_PATH,
            [("Accept", "x"), (TOKEN, "INVALID")],
        ),
        ("bad_ttl", "PUT", TOKEN_PATH, [("Accept", "x"), (TTL, "0")]),
        (
            "method",
            "POST",
            LIST_PATH,
            [("Accept", "x"), ("Accept", "y")],
        ),
        (
            "body",
            "PUT",
            TOKEN_PATH,
            [(TTL, "60"), ("Content-Length", "100000")],
        ),
    ] {
        let name = format!("refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(sample(&ec2_role, &name), 0, "{reason}");
        ec2_role.request(method, path, &headers);
        assert_eq!(sample(&ec2_role, &name), 1, "{reason}");
    }
}

#[test]
fn without_a_token_where_one_is_required_is_counted_and_a_restart_of_the_server_too() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts)
        .arguments(["--metrics", "--http-tokens", "required"])
        .serving();
    ec2_role.get(DOCUMENT_PATH);
    assert_eq!(sample(&ec2_role, "refusals_total{reason=\"no_token\"}"), 1);
    let server = ec2_role.server();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    until("a new server", || {
        (ec2_role.server() != server).then_some(())
    });
    assert_eq!(sample(&ec2_role, "server_restarts_total"), 1);
    // The supervisor counts on, the server begins again.
    assert_eq!(sample(&ec2_role, "refreshes_total"), 1);
    assert_eq!(sample(&ec2_role, "refusals_total{reason=\"no_token\"}"), 0);
}

#[test]
fn metrics_are_not_for_browsers_and_proxies_and_are_404_without_the_option() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).arguments(["--metrics"]).serving();
    for header in [
        ("Host", "evil.example"),
        ("Origin", "x"),
        ("Sec-Fetch-Site", "none"),
        ("X-Forwarded-For", "1.2.3.4"),
    ] {
        let answer = ec2_role.request("GET", METRICS, &[header]);
        assert_eq!(answer.status, 403, "{header:?}");
        assert!(!answer.body.contains("ec2_role_"), "{header:?}");
    }
    assert_eq!(ec2_role.request("POST", METRICS, &[]).status, 405);
    assert_eq!(ec2_role.get("/latest/metrics").status, 404);
    let ec2_role = Start::with(&sts).serving();
    assert_eq!(ec2_role.get(METRICS).status, 404);
}

/// Needs to make a network namespace. The container is a second namespace at the other end of a pair.
#[test]
fn metrics_are_answered_to_the_host_by_any_of_its_addresses_and_to_no_container() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let container = Container::start();
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts)
        .listen("0.0.0.0:0")
        .arguments(["--metrics"])
        .serving();
    let port = ec2_role.address.port();
    for address in ["127.0.0.1", "192.0.2.1"] {
        let answer = http::get(format!("{address}:{port}").parse().unwrap(), METRICS).unwrap();
        assert_eq!(answer.status, 200, "{address}");
    }
    let asked = format!("192.0.2.1:{port}");
    let (metrics, list) = (
        container.get(&asked, METRICS),
        container.get(&asked, LIST_PATH),
    );
    assert!(
        metrics.starts_with("HTTP/1.1 404 Not Found\r\n"),
        "{metrics}"
    );
    assert!(list.ends_with("\r\n\r\nexc_web"), "{list}");
}

/// Asks whether all is well at an address.
#[track_caller]
fn check(address: &str) -> Ended {
    let ended = Start::bare().listen(address).arguments(["--check"]).run();
    assert_eq!(
        ended.lines.len() + ended.stdout.lines().count(),
        1,
        "one line: {ended:?}"
    );
    ended
}

#[test]
fn a_check_of_one_that_serves_says_so_with_status_0() {
    let sts = Sts::start([Reply::good()]);
    for mode in ["optional", "required"] {
        let ec2_role = Start::with(&sts)
            .arguments(["--http-tokens", mode])
            .serving();
        let ended = check(&ec2_role.address.to_string());
        let until = ec2_role::common::clock::iso8601(std::time::SystemTime::now());
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let well = format!(
            "{}: all is well: it serves exc_web until {}",
            ec2_role.address,
            &until[..10]
        );
        // The day may turn between.
        assert!(
            ended.stdout.starts_with(&well[..well.len() - 10]) && ended.stdout.ends_with("Z\n"),
            "{ended:?}"
        );
    }
    // On every address is on loopback too.
    let ec2_role = Start::with(&sts).listen("0.0.0.0:0").serving();
    assert_eq!(
        check(&format!("0.0.0.0:{}", ec2_role.address.port())).status,
        Some(0)
    );
}

#[test]
fn a_check_of_one_that_does_not_serve_says_why_with_status_1() {
    let sts = Sts::start([Reply::error(503, "ServiceUnavailable", "later")]);
    let without_credential = Start::with(&sts).start();
    without_credential.wait_for_line("no credential, requests are answered 500");
    // Bound and not listening: refused, and nobody else gets the port.
    let bound = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let nobody = SocketAddr::try_from(rustix::net::getsockname(&bound).unwrap()).unwrap();
    // Bound, and never accepted from.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Loopback::start(|_, connection| connection.answer(404, "", b""));
    let glad = Loopback::start(|_, connection| connection.answer(200, "", b"hello"));
    let garbage = Loopback::start(|_, connection| {
        use std::io::Write;
        _ = connection.0.write_all(b"\0\xff\r\n\r\n");
    });
    crate::support::each(
        [
            (
                without_credential.address,
                "ec2-role runs, and has no valid credential; its log says why",
            ),
            (
                nobody,
                "Connection refused; is ec2-role running, and is --listen what it was started with?",
            ),
            (
                silent.local_addr().unwrap(),
                "did not answer in time; is ec2-role running",
            ),
            (
                other.address,
                "it answered 404 to PUT /latest/api/token; is ec2-role running",
            ),
            (
                glad.address,
                "its answer is not a credential; is it another program?",
            ),
            (garbage.address, "is ec2-role running"),
        ],
        |(address, says)| {
            let ended = check(&address.to_string());
            assert_eq!(
                (ended.status, ended.stdout.as_str()),
                (Some(1), ""),
                "{ended:?}"
            );
            let line = &ended.lines[0];
            let begins = format!("ec2-role: {address}: ");
            assert!(
                line.starts_with(&begins) && line.contains(says),
                "{ended:?}"
            );
        },
    );
}

#[test]
fn a_check_of_one_that_serves_another_role_says_so_with_status_1() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let check = |role: &str| {
        let start = Start::bare().listen(&ec2_role.address.to_string());
        start.arguments(["--check", role]).run()
    };
    assert_eq!(check(ROLE).status, Some(0));
    let health_check = Start::bare()
        .listen(&ec2_role.address.to_string())
        .variable("EC2_ROLE_ARN", "arn:aws:iam::123456789012:role/other")
        .arguments(["--check"])
        .run();
    assert_eq!(health_check.status, Some(0), "{health_check:?}");
    for other in [
        "arn:aws:iam::123456789012:role/exc_weby",
        "arn:aws:iam::210987654321:role/exc_web",
        "arn:aws-cn:iam::123456789012:role/exc_web",
    ] {
        let ended = check(other);
        let says = format!("it serves exc_web, and not {other}");
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.lines[0].contains(&says), "{ended:?}");
    }
}

#[test]
fn a_check_is_not_in_the_access_log() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).listen("0.0.0.0:0").start();
    ec2_role.wait_for_line("credential of ");
    assert_eq!(
        check(&format!("127.0.0.1:{}", ec2_role.address.port())).status,
        Some(0)
    );
    ec2_role.get(LIST_PATH);
    let line = ec2_role.wait_for_line(" - - [");
    assert!(line.contains(LIST_PATH), "{line}");
}

#[test]
fn a_check_that_cannot_know_where_to_ask_is_told_what_to_give_with_status_2() {
    let ended = check("-");
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(2), ""));
    assert!(
        ended.lines[0].contains("give --listen ADDRESS:PORT"),
        "{ended:?}"
    );
}
