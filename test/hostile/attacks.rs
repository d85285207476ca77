//! Each attack on its own, briefly: every other client is served while the attack's connections stay open. scripts/test-hostile
//! runs them for longer and reports figures.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::http::{self, request_with, reset};
use crate::support::sts::access_key_id;
use crate::support::{Ec2Role, Reply, Start, Sts, each};

/// Fetches of the victim during each attack: a token, the list and the document each time.
const FETCHES: usize = 20;
/// Go's SDK waits 0.5 s; the bound is larger because all attacks run at the same time.
const SLOWEST: Duration = Duration::from_secs(2);

type Held = Vec<TcpStream>;
type Attack = fn(SocketAddr) -> Held;

/// Connects and sends; an error is ignored, because the server may close at any time.
fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = http::connect(address).unwrap();
    _ = stream.write_all(bytes);
    stream
}

/// Every fetch of the victim succeeds, and none causes a call to STS.
#[track_caller]
fn check_the_next_client(what: &str, ec2_role: &Ec2Role, sts: &Sts) {
    let mut slowest = Duration::ZERO;
    for _ in 0..FETCHES {
        let begun = Instant::now();
        let answer =
            http::fetch(ec2_role.address).unwrap_or_else(|error| panic!("{what}: {error}"));
        slowest = slowest.max(begun.elapsed());
        assert_eq!(answer.field("AccessKeyId"), access_key_id(1), "{what}");
    }
    println!("{what}: {FETCHES} fetches, slowest {slowest:.1?}");
    assert!(slowest < SLOWEST, "{what}: slowest {slowest:?}");
    assert_eq!(sts.calls().len(), 1, "{what}");
}

fn attacks() -> Vec<(&'static str, Attack)> {
    vec![
        ("withheld bodies", |address| {
            let lengths = [
                "1",
                "1024",
                "1025",
                "5000",
                "1000000000000",
                "18446744073709551615",
                "18446744073709551616",
                "-1",
            ];
            lengths
                .iter()
                .map(|length| {
                    send(
                        address,
                        request_with(&format!("Content-Length: {length}\r\n")).as_bytes(),
                    )
                })
                .collect()
        }),
        ("a hundred withheld bodies", |address| {
            (0..100)
                .map(|_| {
                    send(
                        address,
                        request_with("Content-Length: 1000000000000\r\n").as_bytes(),
                    )
                })
                .collect()
        }),
        ("bodies that come", |address| {
            let body = "x".repeat(5_000);
            vec![
                send(
                    address,
                    format!("{}{body}", request_with("Content-Length: 5000\r\n")).as_bytes(),
                ),
                send(
                    address,
                    format!(
                        "{}{}",
                        request_with("Content-Length: 1000\r\n"),
                        &body[..1000]
                    )
                    .as_bytes(),
                ),
            ]
        }),
        ("chunks without end, and Expect", |address| {
            vec![
                send(
                    address,
                    format!(
                        "{}5\r\nhello\r\n",
                        request_with("Transfer-Encoding: chunked\r\n")
                    )
                    .as_bytes(),
                ),
                send(
                    address,
                    request_with("Expect: 100-continue\r\nContent-Length: 5\r\n").as_bytes(),
                ),
                send(address, request_with("Expect: something\r\n").as_bytes()),
            ]
        }),
        ("pipelining without reading", |address| {
            let mut stream = http::connect(address).unwrap();
            stream
                .set_write_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            _ = stream.write_all(request_with("").repeat(20_000).as_bytes());
            vec![stream]
        }),
        ("a header line of 8 MiB", |address| {
            vec![send(
                address,
                format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(8 << 20)).as_bytes(),
            )]
        }),
        ("100,000 header lines", |address| {
            vec![send(
                address,
                format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(100_000)).as_bytes(),
            )]
        }),
        ("300 idle connections", |address| {
            (0..300).map(|_| http::connect(address).unwrap()).collect()
        }),
        ("requests cut at every length", |address| {
            let request = request_with("X-aws-ec2-metadata-token: x\r\n");
            (0..request.len())
                .map(|length| send(address, &request.as_bytes()[..length]))
                .collect()
        }),
        ("connect and reset", |address| {
            (0..200).for_each(|_| reset(http::connect(address).unwrap()));
            Vec::new()
        }),
        ("a request and reset", |address| {
            (0..200).for_each(|_| reset(send(address, request_with("").as_bytes())));
            Vec::new()
        }),
        ("HTTP/2 prefaces", |address| {
            (0..50)
                .map(|_| send(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
                .collect()
        }),
        ("upgrades", |address| {
            let upgrade = |to| {
                request_with(&format!(
                    "Connection: upgrade\r\nUpgrade: {to}\r\nSec-WebSocket-Key: x\r\n"
                ))
            };
            ["websocket", "h2c", "TLS/1.2"]
                .iter()
                .map(|to| send(address, upgrade(to).as_bytes()))
                .collect()
        }),
        ("garbage", |address| {
            let garbage: Vec<u8> = (0..=255).cycle().take(4_096).collect();
            vec![
                send(address, &garbage),
                send(address, "GET /é HTTP/1.1\r\n\r\n".as_bytes()),
                send(address, b"GET / HTTP/1.1\n\n"),
                send(address, b"\r\n\r\n\r\n\r\n"),
                send(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
                send(
                    address,
                    b"GET http://x/latest/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                ),
                send(address, b"GET / HTTP/9.9\r\n\r\n"),
            ]
        }),
    ]
}

#[test]
fn during_each_attack_the_next_client_is_served() {
    each(attacks(), |(what, attack)| {
        let sts = Sts::start([Reply::good()]);
        let ec2_role = Start::with(&sts).arguments(["--quiet"]).serving();
        let server = ec2_role.server();
        let held = attack(ec2_role.address);
        check_the_next_client(what, &ec2_role, &sts);
        drop(held);
        check_the_next_client(&format!("after {what}"), &ec2_role, &sts);
        assert_eq!(ec2_role.server(), server, "{what}: the server was replaced");
    });
}

#[test]
fn without_descriptors_the_oldest_connection_is_evicted() {
    check_with_few_descriptors("ulimit -n 64");
}

#[test]
fn inherited_descriptors_are_no_reason_to_refuse_clients() {
    let inherited: String = (10..40)
        .map(|fd| format!("exec {fd}</dev/null; "))
        .collect();
    check_with_few_descriptors(&format!("{inherited} ulimit -n 64"));
}

#[track_caller]
fn check_with_few_descriptors(before: &str) {
    let sts = Sts::start([Reply::good()]);
    let script = format!("{before}; exec \"$@\"");
    let few = ["bash", "-c", &script, "bash"];
    let ec2_role = Start::with(&sts)
        .arguments(["--quiet"])
        .before(few)
        .serving();
    let mut held: Held = (0..400)
        .map(|_| http::connect(ec2_role.address).unwrap())
        .collect();
    check_the_next_client("400 connections with 64 descriptors", &ec2_role, &sts);
    let is_open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream
            .read(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    let open: Vec<bool> = held.iter_mut().map(is_open).collect();
    assert!(!open[0] && open[399], "{open:?}");
    assert!(open.is_sorted(), "{open:?}");
    drop(held);
    check_the_next_client("after that", &ec2_role, &sts);
}

#[test]
fn a_slow_drip_does_not_prolong_a_connection() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let begun = Instant::now();
    let mut stream = send(ec2_role.address, b"GET / HTTP/1.1\r\nX: ");
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    loop {
        let is_cut = stream.write_all(b"x").is_err();
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !is_cut => {}
            Ok(0) | Err(_) => break,
            Ok(_) => panic!("an answer to half a request"),
        }
    }
    let took = begun.elapsed();
    assert!((3..5).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn the_response_reaches_a_client_that_sends_more() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    for (sent, status) in [
        (
            format!(
                "{}{}",
                request_with("Content-Length: 50000\r\n"),
                "x".repeat(50_000)
            ),
            "413",
        ),
        (request_with("").repeat(100), "200"),
        ("x".repeat(50_000), "400"),
    ] {
        let mut stream = send(ec2_role.address, sent.as_bytes());
        let mut answer = String::new();
        // A reset would be an error and lose the response.
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[test]
fn no_body_is_taken_for_a_request() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let smuggled = "0\r\n\r\nGET /latest/meta-data/iam/security-credentials/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for (lengths, status) in [
        (
            format!(
                "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
                smuggled.len()
            ),
            "413",
        ),
        ("Transfer-Encoding: chunked\r\n".to_owned(), "200"),
        ("Content-Length: 5\r\n".to_owned(), "200"),
    ] {
        let request = format!("{}{smuggled}", request_with(&lengths));
        let mut stream = send(ec2_role.address, request.as_bytes());
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut responses = String::new();
        stream.read_to_string(&mut responses).unwrap();
        assert!(
            responses.starts_with(&format!("HTTP/1.1 {status} ")),
            "{responses}"
        );
        assert_eq!(responses.matches("HTTP/1.1 ").count(), 1, "{responses}");
    }
    assert!(
        !ec2_role
            .lines()
            .iter()
            .any(|line| line.contains("smuggled"))
    );
}

#[test]
fn a_crowd_of_simultaneous_clients_is_served() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).serving();
    let address = ec2_role.address;
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(move || {
                    let begun = Instant::now();
                    assert_eq!(
                        http::fetch(address).unwrap().field("AccessKeyId"),
                        access_key_id(1)
                    );
                    begun.elapsed()
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    println!(
        "64 clients at once: slowest {:.1?}",
        times.iter().max().unwrap()
    );
    assert!(times.iter().all(|time| *time < SLOWEST), "{times:?}");
}
