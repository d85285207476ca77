//! Tests `--pass-through`: which of the host's metadata is served, and that no byte of a client reaches the host's metadata
//! service.

use ec2_role::server::protocol::http::Request;
use rustix::process::Signal;

use crate::support::any_answer::World;
use crate::support::http::{self, Answer, DOCUMENT_PATH, LIST_PATH, TOKEN};
use crate::support::metadata_service::MetadataService;
use crate::support::upstream::{self, KNOWN, Manner, NEVER, SIGNATURES, USER_DATA, Upstream};
use crate::support::{Ec2Role, Reply, Start, Sts, each, until};

/// Starts ec2-role with this metadata service as the host's.
fn start<State: Send + Sync + 'static>(
    upstream: &MetadataService<State>,
    sts: &Sts,
    arguments: &[&str],
) -> Ec2Role {
    let start = upstream.known_to(Start::with(sts));
    start
        .arguments(["--pass-through"])
        .arguments(arguments.iter().copied())
        .serving()
}

#[track_caller]
fn wait_for_reading(ec2_role: &Ec2Role) {
    ec2_role.wait_for_line("items of the host's metadata fetched");
}

/// Sends a GET and returns the response, and its body as bytes.
#[track_caller]
fn get(ec2_role: &Ec2Role, path: &str) -> (Answer, Vec<u8>) {
    let request = format!("GET /latest/{path} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n");
    let response = http::converse(ec2_role.address, request.as_bytes()).unwrap();
    let (_, body) = http::halves(&response).unwrap();
    (Answer::parse(&response).unwrap(), body.to_vec())
}

#[track_caller]
fn check_status(ec2_role: &Ec2Role, paths: &[&str], status: u16) {
    for path in paths {
        assert_eq!(get(ec2_role, path).0.status, status, "{path}");
    }
}

#[test]
fn allowed_metadata_is_served_unchanged() {
    let (upstream, sts) = (Upstream::start(), Sts::start([Reply::good()]));
    let ec2_role = start(&upstream, &sts, &[]);
    wait_for_reading(&ec2_role);
    for (path, body) in KNOWN {
        for path in [path.to_owned(), format!("{path}/")] {
            let (answer, bytes) = get(&ec2_role, &path);
            assert_eq!(
                (answer.status, bytes.as_slice()),
                (200, body.as_bytes()),
                "{path}"
            );
            assert_eq!(answer.header("Content-Type"), "text/plain", "{path}");
        }
    }
    for (directory, listing) in [
        ("", "dynamic\nmeta-data"),
        (
            "meta-data/",
            "ami-id\nevents/\nhostname\niam/\ninstance-id\nnetwork/\nplacement/\nservices/\nspot/\ntags/",
        ),
        ("meta-data/placement/", "availability-zone\nregion"),
        ("meta-data/network/interfaces/macs", "02:aa:bb:cc:dd:ee/"),
        ("dynamic/instance-identity/", "document"),
        ("meta-data/iam/", "info\nsecurity-credentials/"),
    ] {
        assert_eq!(get(&ec2_role, directory).0.body, listing, "{directory}");
    }
    // The list has the served role, never the host's.
    assert_eq!(ec2_role.get(LIST_PATH).body, "exc_web");
    assert!(
        ec2_role
            .get("/latest/meta-data/iam/info")
            .body
            .contains("instance-profile/exc_web")
    );
}

#[test]
fn host_only_metadata_is_neither_fetched_nor_served() {
    let (upstream, sts) = (Upstream::start(), Sts::start([Reply::good()]));
    let ec2_role = start(&upstream, &sts, &[]);
    wait_for_reading(&ec2_role);
    check_status(&ec2_role, &NEVER[1..], 404);
    check_status(&ec2_role, &SIGNATURES, 404);
    check_status(
        &ec2_role,
        &[
            "user-data",
            "meta-data/public-keys/",
            "meta-data/identity-credentials/",
            "nowhere",
        ],
        404,
    );
    for request in upstream.requests() {
        let target = request
            .target
            .strip_prefix("/latest/")
            .unwrap()
            .trim_end_matches('/');
        let is_known = KNOWN.iter().any(|(path, _)| path.starts_with(target));
        assert!(is_known || target == "api/token", "{request:?}");
    }
}

#[test]
fn user_data_and_signatures_each_need_their_option() {
    let rows = [
        (
            "--pass-through-user-data",
            &["user-data"][..],
            &SIGNATURES[..],
        ),
        (
            "--pass-through-identity-signature",
            &SIGNATURES,
            &["user-data"],
        ),
    ];
    each(rows, |(option, served, not_served)| {
        let (upstream, sts) = (Upstream::start(), Sts::start([Reply::good()]));
        let ec2_role = start(&upstream, &sts, &[option]);
        wait_for_reading(&ec2_role);
        check_status(&ec2_role, served, 200);
        check_status(&ec2_role, not_served, 404);
        check_status(&ec2_role, &NEVER[1..], 404);
        if served == ["user-data"] {
            let (answer, bytes) = get(&ec2_role, "user-data");
            assert_eq!(answer.header("Content-Type"), "application/octet-stream");
            assert_eq!(bytes, USER_DATA);
            assert_eq!(get(&ec2_role, "").0.body, "dynamic\nmeta-data\nuser-data");
        }
    });
}

#[test]
fn no_byte_of_a_client_reaches_the_hosts_service() {
    let (upstream, sts) = (Upstream::start(), Sts::start([Reply::good()]));
    let ec2_role = start(&upstream, &sts, &[]);
    wait_for_reading(&ec2_role);
    let read = upstream.requests();
    let token = ec2_role.token("60");
    for path in [
        "/latest/meta-data/instance-id",
        "//latest//meta-data/ami-id",
        DOCUMENT_PATH,
        "/latest/user-data",
        "/latest/meta-data/identity-credentials/ec2/info",
        "/latest/meta-data/iam/security-credentials/host-role",
        "/latest/meta-data/x/../iam/security-credentials/host-role",
        "/client-bytes?client-bytes",
    ] {
        for headers in [
            &[(TOKEN, token.as_str()), ("X-Client", "client-bytes")][..],
            &[(TOKEN, "client-bytes")],
            &[("X-Forwarded-For", "1.2.3.4"), ("Via", "client-bytes")],
        ] {
            ec2_role.request("GET", path, headers);
        }
    }
    let all = upstream.requests();
    assert_eq!(
        all.len(),
        read.len(),
        "a client's request caused traffic upstream"
    );
    let host = upstream.url().replace("http://", "");
    for (at, request) in all.iter().enumerate() {
        let line = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        let rest = if at == 0 {
            assert_eq!(line, "PUT /latest/api/token HTTP/1.1\r\n");
            "x-aws-ec2-metadata-token-ttl-seconds: 300\r\n".to_owned()
        } else {
            assert_eq!(request.method, "GET");
            format!("x-aws-ec2-metadata-token: {}\r\n", upstream::token(1))
        };
        let mut expected: Vec<String> = format!(
            "{rest}content-length: 0\r\nhost: {host}\r\nuser-agent: ec2-role/{}\r\n",
            env!("CARGO_PKG_VERSION")
        )
        .lines()
        .map(str::to_owned)
        .collect();
        let text = String::from_utf8(request.bytes.clone()).unwrap();
        println!("upstream got: {text:?}");
        let headers = text
            .strip_prefix(&line)
            .unwrap()
            .strip_suffix("\r\n\r\n")
            .unwrap();
        let mut got: Vec<String> = headers.split("\r\n").map(str::to_owned).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
    }
}

#[test]
fn malformed_listing_entries_are_not_fetched() {
    let strays = [
        "../iam/security-credentials/host-role",
        "..",
        ".",
        "../",
        "./",
        "%2e%2e/",
        "a b",
        "iam/",
        "iam//",
        "x\r",
        "/",
        "//",
        "?x",
        "#x",
        "iam/security-credentials/host-role",
        "placement/../iam/",
        "http://127.0.0.1/",
        "\u{e9}",
    ];
    let (upstream, sts) = (
        Upstream::with(&strays, Manner::Well),
        Sts::start([Reply::good()]),
    );
    let ec2_role = start(&upstream, &sts, &[]);
    wait_for_reading(&ec2_role);
    for request in upstream.requests() {
        let target = &request.target;
        let is_odd = ["..", "%", " ", "?", "#", "//", "host-role", "http:"];
        assert!(!is_odd.iter().any(|odd| target.contains(odd)), "{target}");
        assert!(!target.starts_with("/latest/meta-data/iam"), "{target}");
    }
    assert_eq!(get(&ec2_role, "meta-data/instance-id").0.status, 200);
    assert_eq!(ec2_role.get(LIST_PATH).body, "exc_web");
}

/// amazon-ec2-metadata-mock lists items with their whole paths in `meta-data/`, and has no directories.
#[test]
fn items_listed_with_their_whole_path_are_served() {
    let host = MetadataService::answering((), |(), request, connection| {
        let (status, body) = match request.target.as_str() {
            "/latest/api/token" => (200, "AQAEHOST"),
            "/latest/meta-data/" => (
                200,
                "ami-id\niam/security-credentials/host-role\nplacement/availability-zone\nspot/instance-action\n",
            ),
            "/latest/meta-data/ami-id" => (200, "ami-0123"),
            "/latest/meta-data/placement/availability-zone" => (200, "eu-north-1b"),
            "/latest/meta-data/spot/instance-action" => (200, "{}"),
            _ => (404, ""),
        };
        connection.answer(status, "", body.as_bytes());
    });
    let sts = Sts::start([Reply::good()]);
    let ec2_role = start(&host, &sts, &[]);
    wait_for_reading(&ec2_role);
    for (path, body) in [
        ("meta-data/ami-id", "ami-0123"),
        ("meta-data/placement/availability-zone", "eu-north-1b"),
        ("meta-data/spot/", "instance-action"),
        ("meta-data/spot/instance-action", "{}"),
    ] {
        let (answer, bytes) = get(&ec2_role, path);
        assert_eq!(
            (answer.status, bytes.as_slice()),
            (200, body.as_bytes()),
            "{path}"
        );
    }
}

#[test]
fn excess_metadata_is_left_out_and_the_rest_served() {
    let rows = [(1_000, 110), (1_000, 900), (40, 100_000)];
    each(rows, |(count, bytes)| {
        let upstream = Upstream::with_more(count, bytes);
        let sts = Sts::start([Reply::good()]);
        let ec2_role = start(&upstream, &sts, &[]);
        let line = ec2_role.wait_for_line("items of the host's metadata fetched");
        assert!(line.contains(" left out because "), "{line}");
        assert_eq!(ec2_role.document().status, 200);
        assert_eq!(get(&ec2_role, "meta-data/instance-id").0.status, 200);
        let replaced = |line: &String| line.contains("server replaced");
        assert!(!ec2_role.lines().iter().any(replaced));
    });
}

/// The largest instances have dozens of interfaces, each with twenty items, among them lists of addresses.
#[test]
fn many_interfaces_displace_no_other_metadata() {
    let rows = [(110, 10), (30, 1_000)];
    each(rows, |(count, bytes)| {
        let (upstream, sts) = (
            Upstream::with_interfaces(count, bytes),
            Sts::start([Reply::good()]),
        );
        let ec2_role = start(&upstream, &sts, &["--pass-through-user-data"]);
        let line = ec2_role.wait_for_line("items of the host's metadata fetched");
        assert!(line.contains(" left out because "), "{line}");
        let others = KNOWN.iter().map(|(path, _)| *path);
        let others: Vec<&str> = others
            .filter(|path| !path.contains("network/"))
            .chain(["user-data"])
            .collect();
        check_status(&ec2_role, &others, 200);
    });
}

#[test]
fn endless_listings_are_truncated() {
    // Each listing has ten directories. Without a limit on entries, a fetch would send millions of requests.
    let host = MetadataService::answering((), |(), request, connection| {
        let directories = "placement/\nnetwork/\nspot/\na/\nb/\nc/\nd/\ne/\nf/\ng/";
        let body = match request.method.as_str() {
            "PUT" => "AQAEHOST",
            _ => directories,
        };
        connection.answer(200, "", body.as_bytes());
    });
    let sts = Sts::start([Reply::good()]);
    let ec2_role = start(&host, &sts, &[]);
    ec2_role.wait_for_line(" left out because they are too many or too large");
}

#[test]
fn a_rejected_token_is_renewed_once() {
    let sts = Sts::start([Reply::good()]);
    let upstream = Upstream::with(&[], Manner::TokensFrom(2));
    let ec2_role = start(&upstream, &sts, &[]);
    wait_for_reading(&ec2_role);
    assert_eq!(get(&ec2_role, "meta-data/instance-id").0.status, 200);
    let puts = |upstream: &Upstream| {
        upstream
            .requests()
            .iter()
            .filter(|request| request.method == "PUT")
            .count()
    };
    assert_eq!(puts(&upstream), 2);
    // If the service rejects every token, ec2-role soon stops requesting tokens.
    let upstream = Upstream::with(&[], Manner::TokensFrom(1000));
    let ec2_role = start(&upstream, &sts, &[]);
    ec2_role.wait_for_line("the host's metadata was not fetched");
    assert!(puts(&upstream) <= 4, "{:?}", upstream.requests());
}

#[test]
fn disabled_service_is_reported_with_the_remedy() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).arguments(["--pass-through"]).serving();
    ec2_role.wait_for_line(
        "AWS_EC2_METADATA_DISABLED is true; unset it, or leave out --pass-through; ",
    );
}

#[test]
fn a_request_without_an_answer_is_repeated_and_fails_no_fetch() {
    for method in ["PUT", "GET"] {
        let sts = Sts::start([Reply::good()]);
        let upstream = Upstream::with(&[], Manner::HangOnce(method));
        let ec2_role = start(&upstream, &sts, &[]);
        wait_for_reading(&ec2_role);
        let failures = ec2_role.count_lines("was not fetched");
        assert_eq!(failures, 0, "{method}: {:?}", ec2_role.lines());
    }
}

#[test]
fn a_killed_fetcher_of_metadata_is_logged_with_its_step() {
    let sts = Sts::start([Reply::good()]);
    let upstream = Upstream::with(&[], Manner::Hang);
    let start = upstream.known_to(Start::with(&sts));
    let ec2_role = start
        .variable("AWS_METADATA_SERVICE_TIMEOUT", "60")
        .arguments(["--pass-through"])
        .serving();
    upstream.wait_for_requests(1);
    let fetcher = until("a fetcher", || ec2_role.fetcher());
    rustix::process::kill_process(fetcher, Signal::KILL).unwrap();
    ec2_role.wait_for_line("fetcher killed by signal 9 while reading the host's metadata; look");
}

#[test]
fn metadata_is_503_before_the_first_snapshot() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx";
    let manners = [
        Manner::Hang,
        Manner::Say(Vec::new()),
        Manner::Say(head.into()),
        Manner::Say(b"\0\xff garbage\r\n\r\n".to_vec()),
        Manner::Say(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Manner::Say(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        ),
    ];
    each(manners, |manner| {
        let (upstream, sts) = (Upstream::with(&[], manner), Sts::start([Reply::good()]));
        let ec2_role = start(&upstream, &sts, &[]);
        upstream.wait_for_requests(1);
        let check = || {
            check_status(
                &ec2_role,
                &[
                    "meta-data/placement/region", // not the region of STS
                    "meta-data/instance-id",
                    "meta-data/spot/instance-action",
                    "dynamic/instance-identity/document",
                ],
                503,
            );
            // Metadata that is never passed through, or that needs an option that is not set, is 404 even without a snapshot.
            // `NEVER[0]` is `iam/info`, which ec2-role answers itself.
            check_status(&ec2_role, &NEVER[1..], 404);
            check_status(&ec2_role, &SIGNATURES, 404);
            check_status(&ec2_role, &["user-data", "meta-data/public-keys/"], 404);
            let answer = http::fetch(ec2_role.address).unwrap();
            assert_eq!(answer.field("Code"), "Success");
        };
        check();
        ec2_role.wait_for_line("the host's metadata was not fetched");
        check();
        // The next fetch succeeds without a restart of ec2-role.
        upstream.does_now(Manner::Well);
        wait_for_reading(&ec2_role);
        check_status(&ec2_role, &["meta-data/instance-id"], 200);
    });
}

#[test]
fn a_new_server_gets_the_last_snapshot() {
    let (upstream, sts) = (Upstream::start(), Sts::start([Reply::good()]));
    let ec2_role = start(&upstream, &sts, &[]);
    wait_for_reading(&ec2_role);
    drop(upstream);
    check_status(
        &ec2_role,
        &["meta-data/instance-id", "meta-data/spot/instance-action"],
        200,
    );
    let server = ec2_role.server();
    rustix::process::kill_process(server, Signal::KILL).unwrap();
    until("a new server", || {
        (ec2_role.server() != server).then_some(())
    });
    let (answer, bytes) = get(&ec2_role, "dynamic/instance-identity/document");
    assert_eq!(
        (answer.status, bytes.as_slice()),
        (200, KNOWN[11].1.as_bytes())
    );
    assert_eq!(ec2_role.document().status, 200);
}

#[test]
fn a_snapshot_outlives_failures_and_is_renewed() {
    let (upstream, sts) = (Upstream::start(), Sts::start([Reply::good()]));
    let ec2_role = start(&upstream, &sts, &[]);
    wait_for_reading(&ec2_role);
    upstream.does_now(Manner::Hang);
    // Without SIGHUP the next fetch would start only after a minute.
    ec2_role.signal(Signal::HUP);
    ec2_role.wait_for_line("was not fetched, serving what was fetched before");
    check_status(&ec2_role, &["meta-data/instance-id"], 200);
    let lines = ec2_role.lines().len();
    upstream.does_now(Manner::Well);
    ec2_role.wait_for_line_after(lines, "items of the host's metadata fetched");
}

/// The time is an argument of the router, so this test does not wait two minutes.
#[test]
fn warnings_are_503_from_a_snapshot_two_minutes_old() {
    let (fresh, old) = (World::new(0b0100_1000), World::new(0b0110_1000));
    for (path, when_fresh, when_old) in [
        ("meta-data/spot/instance-action", 200, 503),
        ("meta-data/spot/termination-time", 404, 503),
        ("meta-data/events/maintenance/scheduled", 404, 503),
        ("meta-data/spot/", 200, 503),
        ("meta-data/autoscaling/target-lifecycle-state", 404, 503),
        ("meta-data/instance-id", 200, 200),
        ("user-data", 200, 200),
        ("meta-data/iam/security-credentials/exc_web", 200, 200),
    ] {
        let status = |world: &World| {
            let request = Request {
                method: "GET",
                target: &format!("/latest/{path}"),
                ..Request::default()
            };
            world.check(&request).status.as_u16()
        };
        assert_eq!(
            (status(&fresh), status(&old)),
            (when_fresh, when_old),
            "{path}"
        );
    }
}
