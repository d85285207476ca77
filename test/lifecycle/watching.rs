//! Monitoring: `/metrics`, `--check` and the rate of the access log.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use rustix::process::Signal;

use crate::support::container::Container;
use crate::support::http::{self, DOCUMENT_PATH, LIST_PATH, TOKEN, TOKEN_PATH, TTL};
use crate::support::loopback::Loopback;
use crate::support::{Ec2Role, Ended, ROLE, Reply, Start, Sts, namespace, port, until};

const METRICS: &str = "/metrics";

/// The value of the metric `name` in /metrics.
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
fn metrics_are_in_prometheus_format_and_count() {
    let sts = Sts::start([
        Reply::error(503, "ServiceUnavailable", "later"),
        Reply::good(),
    ]);
    let ec2_role = Start::with(&sts).arguments(["--metrics"]).serving();
    let answer = ec2_role.get(METRICS);
    assert_eq!(answer.header("Content-Type"), "text/plain; version=0.0.4");
    // Each metric family has a HELP line, a TYPE line and samples with whole numbers. The last line ends with a newline.
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
fn missing_tokens_and_server_restarts_are_counted() {
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
    // The supervisor counts refreshes, so a new server has the same count. The server counts refusals, so a new server begins
    // with zero.
    assert_eq!(sample(&ec2_role, "refreshes_total"), 1);
    assert_eq!(sample(&ec2_role, "refusals_total{reason=\"no_token\"}"), 0);
}

#[test]
fn metrics_refuse_browsers_and_are_404_without_the_option() {
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

#[test]
fn metrics_are_for_the_host_and_no_container() {
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
fn check_of_a_serving_role_exits_0() {
    let sts = Sts::start([Reply::good()]);
    for mode in ["optional", "required"] {
        let ec2_role = Start::with(&sts)
            .arguments(["--http-tokens", mode])
            .serving();
        let ended = check(&ec2_role.address.to_string());
        let document = http::fetch(ec2_role.address).unwrap();
        let (address, expiration) = (ec2_role.address, document.field("Expiration"));
        let well = format!("{address}: all is well: it serves exc_web until {expiration}\n");
        assert_eq!((ended.status, &ended.stdout), (Some(0), &well), "{ended:?}");
    }
    // A server that listens on every address is checked on loopback.
    for everywhere in ["0.0.0.0", "[::]"] {
        let ec2_role = Start::with(&sts)
            .listen(&format!("{everywhere}:0"))
            .serving();
        let port = ec2_role.address.port();
        assert_eq!(check(&format!("{everywhere}:{port}")).status, Some(0));
    }
}

#[test]
fn check_works_at_a_link_local_address() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let added = Command::new("ip")
        .args(["address", "add", "fe80::1/64", "dev", "lo", "nodad"])
        .status();
    assert!(added.unwrap().success());
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).listen("[fe80::1%1]:0").serving();
    let ended = check(&ec2_role.address.to_string());
    assert_eq!(ended.status, Some(0), "{ended:?}");
}

/// Docker disables IPv6 in a container on a network without IPv6.
#[test]
fn check_of_every_address_works_without_ipv6_on_loopback() {
    if !namespace::enter_for_this_test() {
        return;
    }
    std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let sts = Sts::start([Reply::good()]);
    for every in ["0.0.0.0:0", "[::]:0"] {
        let ec2_role = Start::with(&sts).listen(every).serving();
        let ended = check(&ec2_role.address.to_string());
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
}

#[test]
fn check_without_service_says_why_and_exits_1() {
    let sts = Sts::start([Reply::error(503, "ServiceUnavailable", "later")]);
    let without_credential = Start::with(&sts).start();
    without_credential.wait_for_line("no credential, requests are answered 500");
    // Bound but not listening: the port refuses connections, and no other process can take it.
    let bound = port::socket();
    rustix::net::bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let nobody = SocketAddr::try_from(rustix::net::getsockname(&bound).unwrap()).unwrap();
    // This socket listens, but nothing accepts its connections.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Loopback::start(|_, connection| connection.answer(404, "", b""));
    let web_server = Loopback::start(|_, connection| connection.answer(200, "", b"hello"));
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
                "Connection refused; start ec2-role, or give the --listen and --container-token-file that it was started with",
            ),
            (
                silent.local_addr().unwrap(),
                "did not answer in time; start ec2-role",
            ),
            (
                other.address,
                "it answered 404 to PUT /latest/api/token; start ec2-role",
            ),
            (
                web_server.address,
                "its answer is not a credential; check that ec2-role listens there",
            ),
            (garbage.address, "start ec2-role"),
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
fn check_of_another_role_exits_1() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let check = |role: &str| {
        let start = Start::bare().listen(&ec2_role.address.to_string());
        start.arguments(["--check", role]).run()
    };
    assert_eq!(check(ROLE).status, Some(0));
    for arn in [
        "arn:aws:iam::123456789012:role/other",
        "arn:minio:iam:::role/x",
    ] {
        let health_check = Start::bare()
            .listen(&ec2_role.address.to_string())
            .variable("EC2_ROLE_ARN", arn)
            .arguments(["--check"])
            .run();
        assert_eq!(health_check.status, Some(0), "{health_check:?}");
    }
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
fn check_is_not_in_the_access_log() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).listen("0.0.0.0:0").serving();
    assert_eq!(
        check(&format!("127.0.0.1:{}", ec2_role.address.port())).status,
        Some(0)
    );
    ec2_role.get(LIST_PATH);
    let line = ec2_role.wait_for_line(" - - [");
    assert!(line.contains(LIST_PATH), "{line}");
}

#[test]
fn the_access_log_has_a_rate() {
    let sts = Sts::start([Reply::good()]);
    let mut ec2_role = Start::with(&sts).serving();
    for _ in 0..1_100 {
        ec2_role.get("/");
    }
    ec2_role.signal(Signal::TERM);
    ec2_role.wait_for_end();
    let lines = ec2_role.lines();
    let accesses = lines
        .iter()
        .filter(|line| line.starts_with("127.0.0.1 - -"));
    assert_eq!(accesses.count(), 1_000);
}

#[test]
fn check_without_an_address_exits_2() {
    let ended = check("-");
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(2), ""));
    assert!(
        ended.lines[0].contains("give --listen ADDRESS:PORT"),
        "{ended:?}"
    );
}

#[test]
fn a_check_prints_json_for_scripts() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let check = |address: &str| {
        let ended = Start::bare()
            .listen(address)
            .arguments(["--check", "--json"])
            .run();
        let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(ended.lines.is_empty(), "{ended:?}");
        (ended.status, json)
    };
    let address = ec2_role.address.to_string();
    let (status, json) = check(&address);
    assert_eq!(status, Some(0));
    assert_eq!(json["healthy"], true);
    assert_eq!(json["address"], address);
    assert_eq!(json["role_name"], "exc_web");
    let expiration = json["expiration"].as_str().unwrap();
    assert!(ec2_role::common::clock::parse_iso8601(expiration).is_some());
    let other = Loopback::start(|_, connection| connection.answer(404, "", b""));
    let (status, json) = check(&other.address.to_string());
    assert_eq!((status, &json["healthy"]), (Some(1), &false.into()));
    assert!(
        json["error"]
            .as_str()
            .unwrap()
            .starts_with("it answered 404 "),
        "{json}"
    );
    for (mistake, error) in [
        ("frob", "EC2_ROLE_LISTEN \"frob\": write "),
        ("-", "--check: it needs an address"),
    ] {
        let (status, json) = check(mistake);
        assert_eq!((status, &json["healthy"]), (Some(2), &false.into()));
        assert!(json["error"].as_str().unwrap().starts_with(error), "{json}");
        assert!(json["address"].is_null(), "{json}");
    }
}

#[test]
fn a_check_prints_nothing_raw_from_the_server() {
    for name in ["a", "a\u{1b}[2J\u{202e}", "\u{9b}2J\u{202e}"] {
        let hostile = Loopback::start(move |request, connection| {
            let (status, body) = match request.target.split_once("/security-credentials/") {
                Some((_, "a")) => (200, r#"{"Expiration":"\u001b[31mnow\u2028"}"#),
                Some((_, name)) if !name.is_empty() => (404, ""),
                _ => (200, name),
            };
            connection.answer(status, "", body.as_bytes());
        });
        let address = hostile.address.to_string();
        for arguments in [&["--check"][..], &["--check", "--json"]] {
            let start = Start::bare().listen(&address);
            let ended = start.arguments(arguments.iter().copied()).run();
            let output = format!("{}{}", ended.stdout.trim_end(), ended.lines.concat());
            let is_raw = |c: char| c != ' ' && !c.is_ascii_graphic();
            assert!(!output.is_empty() && !output.contains(is_raw), "{ended:?}");
        }
    }
}
