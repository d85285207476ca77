//! Checks STS calls over TLS with a private certificate authority, and the log lines of faults of certificates and of TLS.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::certificates::{self, Authority, Validity};
use crate::support::metadata_service::MetadataService;
use crate::support::{Fault, PortState, ROLE, Reply, Start, Sts, When, each};

const HERE: &str = "IP:127.0.0.1";

fn url(sts: &Sts) -> String {
    sts.url().replace("http:", "https:")
}

/// A start that calls STS by HTTPS and trusts this authority.
fn start(sts: &Sts, authority: &Authority) -> Start {
    Start::bare()
        .keys("AKIA")
        .listen("127.0.0.1:0")
        .arguments([ROLE, "--endpoint-url", &url(sts)])
        .variable("AWS_CA_BUNDLE", &authority.bundle())
}

fn check_each(when: When) {
    if !certificates::can() {
        return;
    }
    let authority = Authority::new("ours");
    let good = PortState::Tls(authority.certify(HERE, Validity::TwoDays));
    let states = [
        (
            PortState::Tls(Authority::new("another").certify(HERE, Validity::TwoDays)),
            "from an authority that is not trusted here; name a file with that authority's certificate in AWS_CA_BUNDLE",
        ),
        // An authority of the same name with another key.
        (
            PortState::Tls(Authority::new("ours").certify(HERE, Validity::TwoDays)),
            "its certificate is invalid: BadSignature; check the URL, the certificate, AWS_CA_BUNDLE and this machine's clock",
        ),
        (
            PortState::Tls(authority.certify(HERE, Validity::Expired)),
            "its certificate is invalid: certificate expired: ",
        ),
        (
            PortState::Tls(authority.certify("DNS:elsewhere.test", Validity::TwoDays)),
            "its certificate is invalid: certificate not valid for name \"127.0.0.1\"; certificate is only valid for DnsName(\"elsewhere.test\"); check the URL",
        ),
        // A server certificate with CA:TRUE: `openssl req -x509` makes one by default, and OpenSSL's clients accept it.
        (
            PortState::Tls(authority.certify(
                "IP:127.0.0.1\nbasicConstraints = CA:TRUE",
                Validity::TwoDays,
            )),
            "its certificate is an authority's (CA:TRUE), not a server's; give that server one with basicConstraints=CA:FALSE",
        ),
        (
            PortState::Open,
            "it does not speak TLS; check whether the URL is http://",
        ),
        (
            PortState::Silent,
            "it took too long (connect and TLS); check that ",
        ),
    ];
    each(states, |(state, expected)| {
        let sts = Sts::start([Reply::good()]);
        sts.set_port_state(good.clone());
        Fault {
            what: expected.to_owned(),
            sts: &sts,
            start: &|| start(&sts, &authority),
            inject: &|_| sts.set_port_state(state.clone()),
            repair: &|_| sts.set_port_state(good.clone()),
            expected: &[expected, &url(&sts)],
            calls: 0,
        }
        .check(when);
    });
}

#[test]
fn tls_faults_at_start_are_one_line_and_ec2_role_recovers() {
    check_each(When::AtTheFirstStart);
}

#[test]
fn tls_faults_during_refresh_keep_the_credential() {
    check_each(When::DuringARefresh);
}

#[test]
fn ca_bundle_may_be_one_that_a_windows_editor_saved() {
    if !certificates::can() {
        return;
    }
    let authority = Authority::new("ours");
    let text = std::fs::read_to_string(authority.bundle()).unwrap();
    let saved = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    std::fs::write(authority.bundle(), saved).unwrap();
    let sts = Sts::start([Reply::good()]);
    sts.set_port_state(PortState::Tls(authority.certify(HERE, Validity::TwoDays)));
    start(&sts, &authority).serving();
}

#[test]
fn ca_bundle_is_trusted_for_a_container_endpoint_too() {
    if !certificates::can() {
        return;
    }
    let authority = Authority::new("ours");
    let agent = Sts::start([Reply::good()]);
    agent.set_port_state(PortState::Tls(authority.certify(HERE, Validity::TwoDays)));
    let sts = Sts::start([Reply::good()]);
    let start = || {
        let start = Start::without_source(&sts).arguments(["--credential-process"]);
        start.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url(&agent))
    };
    let line = &start().run().lines[0];
    assert!(line.contains("name a file with that authority's certificate in AWS_CA_BUNDLE"));
    let line = &start()
        .variable("AWS_CA_BUNDLE", &authority.bundle())
        .run()
        .lines[0];
    assert!(line.contains("the answer holds no credential"), "{line}");
}

#[test]
fn the_token_for_an_https_container_endpoint_goes_only_by_tls() {
    if !certificates::can() {
        return;
    }
    let authority = Authority::new("ours");
    let agent = MetadataService::answering((), |(), _, connection| {
        connection.answer(403, "", b"");
    });
    agent.set_port_state(PortState::Tls(authority.certify(HERE, Validity::TwoDays)));
    let sts = Sts::start([Reply::good()]);
    Start::without_source(&sts)
        .arguments(["--credential-process"])
        .variable("AWS_CA_BUNDLE", &authority.bundle())
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "s3cr3t")
        .variable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &agent.url().replace("http:", "https:"),
        )
        .run();
    // The second request checks whether the endpoint is ec2-role itself. It uses TLS too, or this service could not read it.
    let requests = agent.requests();
    let requests = requests
        .iter()
        .map(|request| (request.method.as_str(), request.header("Authorization")));
    assert_eq!(
        requests.collect::<Vec<_>>(),
        [("GET", "s3cr3t"), ("PUT", "s3cr3t")]
    );
}

#[test]
fn a_server_with_old_tls_is_one_line_with_the_remedy() {
    // A server sends the alert handshake_failure (40) if it supports none of the client's cipher suites, and protocol_version
    // (70) if it supports none of the client's TLS versions.
    for (number, name) in [(40, "HandshakeFailure"), (70, "ProtocolVersion")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let record = [21, 3, 3, 0, 2, 2, number];
            assert!(client.read(&mut [0; 4096]).unwrap() > 0);
            client.write_all(&record).unwrap();
        });
        let start = Start::bare().keys("AKIA");
        let ended = start
            .arguments(["--credential-process", ROLE, "--endpoint-url", &url])
            .run();
        server.join().unwrap();
        let expected = format!(
            "received fatal alert: {name}; let it offer TLS 1.2 with ECDHE and AES-GCM, or TLS 1.3"
        );
        assert!(ended.lines[0].ends_with(&expected), "{ended:?}");
    }
}
