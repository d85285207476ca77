//! Runs each attack of `support::attack` briefly, and checks that normal clients are served while the attack's connections stay
//! open. scripts/test-hostile runs the same attacks at their full rate and reports figures.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::attack::{self, Attack, Form};
use crate::support::http::{self, request_with, reset};
use crate::support::sts::access_key_id;
use crate::support::{Ec2Role, Reply, Start, Sts, TIMEOUT, each};

/// Number of fetches in each check of a normal client: one check runs during each attack, one after it. A fetch is three
/// requests: for a token, the list and the document.
const FETCHES: usize = 20;
/// Limit for the median duration of the fetches in a check: most SDKs wait one second. A busy machine can delay a single fetch,
/// so only the median is limited.
const MAX_MEDIAN: Duration = Duration::from_secs(1);
/// Maximum number of connections of one attack. All tests share one process, and a process may usually open only 1,024 files.
const MOST: usize = 200;
/// Number of attacks that run at the same time, each on a server of its own.
const AT_ONCE: usize = 3;
/// Number of bytes that a `Stream` attack tries to send: enough to fill all buffers if the server stops reading.
const STREAM_BYTES: usize = 8 << 20;
/// How long a write of a `Stream` attack waits for a server that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

type Held = Vec<TcpStream>;

/// Connects and sends. A failed write is ignored, because the server may close at any time.
fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = http::connect(address).unwrap();
    _ = stream.write_all(bytes);
    stream
}

/// Checks that all fetches of a normal client succeed, that their median duration is less than `MAX_MEDIAN`, and that they cause
/// no STS call.
#[track_caller]
fn check_the_next_client(what: &str, ec2_role: &Ec2Role, sts: &Sts) {
    let mut times = [Duration::ZERO; FETCHES];
    for time in &mut times {
        let begun = Instant::now();
        let answer =
            http::fetch(ec2_role.address).unwrap_or_else(|error| panic!("{what}: {error}"));
        *time = begun.elapsed();
        assert_eq!(answer.field("AccessKeyId"), access_key_id(1), "{what}");
    }
    times.sort();
    assert!(times[FETCHES / 2] < MAX_MEDIAN, "{what}: {times:?}");
    assert_eq!(sts.calls().len(), 1, "{what}");
}

/// Runs an attack once, briefly, and returns the connections that it leaves open.
fn attack(form: &Form, address: SocketAddr) -> Held {
    match form {
        Form::Hold {
            max_open, bytes, ..
        } => (0..MOST.min(*max_open))
            .map(|number| send(address, &bytes(number)))
            .collect(),
        Form::Stream { begin, then, .. } => {
            let mut stream = send(address, begin.as_bytes());
            stream.set_write_timeout(Some(WRITE_TIMEOUT)).unwrap();
            _ = stream.write_all(&then.repeat(STREAM_BYTES.div_ceil(then.len())));
            vec![stream]
        }
        Form::Drip { bytes, .. } => (0..MOST).map(|_| send(address, &bytes[..1])).collect(),
        Form::Reset { bytes, .. } => {
            (0..MOST).for_each(|_| reset(send(address, bytes)));
            Vec::new()
        }
    }
}

#[test]
fn during_each_attack_the_next_client_is_served() {
    for some in attack::all().chunks(AT_ONCE) {
        each(some, |Attack { name, form }| {
            let sts = Sts::start([Reply::good()]);
            let ec2_role = Start::with(&sts).arguments(["--quiet"]).serving();
            let server = ec2_role.server();
            let held = attack(form, ec2_role.address);
            check_the_next_client(name, &ec2_role, &sts);
            drop(held);
            check_the_next_client(&format!("after {name}"), &ec2_role, &sts);
            assert_eq!(ec2_role.server(), server, "{name}: the server was replaced");
        });
    }
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
    let end = loop {
        let written = stream.write_all(b"x");
        match stream.read(&mut [0]) {
            // The connection is still open: `WouldBlock` is the read timeout, and `Interrupted` occurs when the test process is
            // stopped and continued.
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind())
                    && written.is_ok() =>
            {
                assert!(begun.elapsed() < TIMEOUT, "it is never cut");
            }
            read => break (written, read),
        }
    };
    let lifetime = begun.elapsed();
    assert!(lifetime >= Duration::from_secs(3), "{lifetime:?}: {end:?}");
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
        // This fails if the server resets the connection. A reset can destroy the response before the client reads it.
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[test]
fn no_body_is_parsed_as_a_request() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let smuggled = "0\r\n\r\nGET /latest/meta-data/iam/security-credentials/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = format!(
        "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
        smuggled.len()
    );
    for (lengths, status) in [
        (both.as_str(), "413"),
        ("Transfer-Encoding: chunked\r\n", "200"),
        ("Content-Length: 5\r\n", "200"),
    ] {
        let request = format!("{}{smuggled}", request_with(lengths));
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
    each(0..64, |_| {
        let answer = http::fetch(address).unwrap();
        assert_eq!(answer.field("AccessKeyId"), access_key_id(1));
    });
}
