//! Tests how ec2-role serves clients from its start to its shutdown.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::ec2_role::SOURCE_KEY;
use crate::support::http::{self, DOCUMENT_PATH, LIST_PATH, TOKEN};
use crate::support::sts::{access_key_id, secret_access_key, session_token};
use crate::support::{Reply, Start, Sts, port, until};

#[test]
fn the_role_name_option_renames_the_role() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts)
        .arguments(["--role-name", "temp"])
        .serving();
    assert_eq!(ec2_role.get(LIST_PATH).body, "temp");
    assert_eq!(ec2_role.get(&format!("{LIST_PATH}temp")).status, 200);
    assert_eq!(ec2_role.get(DOCUMENT_PATH).status, 404);
}

#[test]
fn no_request_causes_an_sts_call() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    for path in [
        "/",
        "/latest/",
        LIST_PATH,
        DOCUMENT_PATH,
        "/latest/user-data",
        "/latest/meta-data/iam/info",
    ] {
        ec2_role.get(path);
    }
    assert_eq!(
        http::fetch(ec2_role.address).unwrap().field("AccessKeyId"),
        access_key_id(1)
    );
    assert_eq!(sts.calls().len(), 1);
    assert_eq!(sts.calls()[0].access_key_id(), SOURCE_KEY);
}

#[test]
fn a_token_outlives_a_killed_server() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let (token, server) = (ec2_role.token("60"), ec2_role.server());
    rustix::process::kill_process(server, Signal::KILL).unwrap();
    ec2_role.wait_for_line(&format!("server replaced ({server})"));
    let answer = ec2_role.request("GET", DOCUMENT_PATH, &[(TOKEN, &token)]);
    assert_eq!(answer.field("AccessKeyId"), access_key_id(1));
    assert_ne!(ec2_role.server(), server);
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn a_token_outlives_thousands_of_others() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let token = ec2_role.token("60");
    for _ in 0..3000 {
        ec2_role.token("60");
    }
    let answer = ec2_role.request("GET", DOCUMENT_PATH, &[(TOKEN, &token)]);
    assert_eq!(answer.status, 200);
}

#[test]
fn a_token_outlives_the_supervisor_only_with_a_key_file() {
    let sts = Sts::start([Reply::good()]);
    let key = crate::support::Directory::new();
    let start = || {
        Start::with(&sts)
            .arguments(["--token-key-file", &key.text("key")])
            .serving()
    };
    let (first, other) = (start(), Start::with(&sts).serving());
    let token = first.token("60");
    drop(first);
    let second = start();
    assert_eq!(
        second.request("GET", LIST_PATH, &[(TOKEN, &token)]).status,
        200
    );
    assert_eq!(
        other.request("GET", LIST_PATH, &[(TOKEN, &token)]).status,
        401
    );
}

#[test]
fn without_a_credential_it_is_500_and_recovers() {
    let sts = Sts::start([Reply::error(503, "ServiceUnavailable", "later")]);
    let ec2_role = Start::with(&sts).start();
    ec2_role.wait_for_line("no credential, requests are answered 500");
    for path in [LIST_PATH, DOCUMENT_PATH, "/latest/meta-data/iam/info"] {
        let answer = ec2_role.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (500, ""), "{path}");
    }
    assert_eq!(ec2_role.get("/latest/meta-data/iam/").status, 200);
    sts.replies_now(Reply::good());
    let document = until("the document", || {
        Some(ec2_role.document()).filter(|answer| answer.status == 200)
    });
    assert_eq!(document.field("Code"), "Success");
    assert_eq!(ec2_role.get(LIST_PATH).body, "exc_web");
}

#[test]
fn the_region_is_known_before_there_is_a_credential() {
    let sts = Sts::start([Reply::error(503, "ServiceUnavailable", "later")]);
    let ec2_role = Start::with(&sts)
        .variable("AWS_REGION", "eu-west-1")
        .start();
    ec2_role.wait_for_line("no credential, requests are answered 500");
    let answer = ec2_role.get("/latest/meta-data/placement/region");
    assert_eq!((answer.status, answer.body.as_str()), (200, "eu-west-1"));
}

#[test]
fn early_clients_get_the_first_credential_or_500() {
    let sts = Sts::start([Reply::good().after(std::time::Duration::from_millis(100))]);
    // The client's connection waits in the accept queue until the server starts. On a busy machine, the server can start before
    // the credential is there and answer 500. So repeat until a client gets the credential.
    until("a client that waited for the credential", || {
        let document = Start::with(&sts).start().document();
        (document.status == 200).then_some(())
    });
    let sts = Sts::start([Reply::hang()]);
    let ec2_role = Start::with(&sts).start();
    assert_eq!(ec2_role.document().status, 500);
    assert!(ec2_role.fetcher().is_some(), "STS hangs no longer");
}

#[test]
fn it_listens_on_ipv6_and_on_an_inherited_socket() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).listen("[::1]:0").serving();
    assert!(ec2_role.address.is_ipv6());
    assert_eq!(ec2_role.get(LIST_PATH).status, 200);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let ec2_role = Start::with(&sts)
        .listen("-")
        .stdin(OwnedFd::from(listener))
        .serving();
    assert_eq!(ec2_role.address, address);
    assert_eq!(ec2_role.get(LIST_PATH).status, 200);
}

/// Whenever systemd runs a command of the unit, for example at `systemctl reload`, it makes the unit's socket blocking.
#[test]
fn an_inherited_socket_that_is_made_blocking_delays_nothing() {
    let sts = Sts::start([Reply::good()]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let same_socket = listener.try_clone().unwrap();
    let ec2_role = Start::with(&sts)
        .listen("-")
        .stdin(OwnedFd::from(listener))
        .serving();
    let server = ec2_role.server();
    same_socket.set_nonblocking(false).unwrap();
    for _ in 0..20 {
        assert_eq!(ec2_role.get(LIST_PATH).status, 200);
    }
    let connect = |_| http::connect(ec2_role.address).unwrap();
    let get = |client| {
        let request = http::text(ec2_role.address, "GET", LIST_PATH, &[]);
        http::exchange_on(|| Ok(client), request.as_bytes())
    };
    let clients = [(); 20].map(connect);
    for client in clients {
        assert_eq!(get(client).unwrap().status, 200);
    }
    assert_eq!(ec2_role.server(), server);
    let last = connect(());
    ec2_role.signal(Signal::TERM);
    assert_eq!(get(last).unwrap().status, 200);
}

#[test]
fn sigterm_and_sigint_exit_0_and_free_the_port() {
    let sts = Sts::start([Reply::good()]);
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut ec2_role = Start::with(&sts).serving();
        let server = ec2_role.server();
        ec2_role.signal(signal);
        assert_eq!(ec2_role.wait_for_end().code(), Some(0));
        ec2_role.wait_for_line(&format!("ec2-role: ended by {name}"));
        assert!(!crate::support::ec2_role::is_alive(server));
        TcpListener::bind(ec2_role.address).unwrap();
    }
}

#[test]
fn credential_process_prints_what_sdks_read() {
    let sts = Sts::start([Reply::good()]);
    let ended = Start::with(&sts).arguments(["--credential-process"]).run();
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.status, ended.lines), (Some(0), vec![]));
    assert_eq!(json["Version"], 1);
    assert_eq!(json["AccessKeyId"], access_key_id(1));
    assert_eq!(json["SecretAccessKey"], secret_access_key(1));
    assert_eq!(json["SessionToken"], session_token(1));
    assert!(json["Expiration"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_client_port_reused_after_a_reset_is_answered() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let mut port = 0;
    let mut ask = || {
        let socket = port::socket();
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        // Close with a reset, which frees the port at once.
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).ok()?;
        // The connect fails while the kernel still holds the previous connection from this port.
        rustix::net::connect(&socket, &ec2_role.address).ok()?;
        let mut stream = TcpStream::from(socket);
        port = stream.local_addr().unwrap().port();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            .unwrap();
        stream.read_exact(&mut [0; 16]).ok()
    };
    for _ in 0..2 {
        until("an answer", &mut ask);
    }
}

#[test]
fn the_server_closes_first_and_the_port_is_reusable() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    let mut port = 0;
    for version in ["1.0", "1.1", "1.1", "1.0"] {
        let socket = port::socket();
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        // The connect fails while a busy kernel is still closing the previous connection.
        until("a connection from the same port", || {
            rustix::net::connect(&socket, &ec2_role.address).ok()
        });
        let mut stream = TcpStream::from(socket);
        port = stream.local_addr().unwrap().port();
        // The timeout is below 3 s, the maximum lifetime of a connection. If the server waited for the client to close first, the
        // read would fail.
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        write!(stream, "GET / HTTP/{version}\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
}
