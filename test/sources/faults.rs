//! Checks each fault of two credential sources that are HTTP services: the host's metadata service and a container credential
//! endpoint. Each fault is tested at the start and during a refresh.

use crate::support::host_metadata::Step::{Document, List, Token};
use crate::support::host_metadata::Wrong::{Body, Cut, Drip, Hang, Status, TooLong};
use crate::support::host_metadata::{HostMetadata, Tokens};
use crate::support::{Fault, PortState, Reply, Start, Sts, When, each};

const DOCUMENT_PATH: &str = "/latest/meta-data/iam/security-credentials/host-role";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Instance,
    /// A container credential endpoint. `HostMetadata` serves as this endpoint too: its document at DOCUMENT_PATH has all fields
    /// of a container credential.
    Container,
}

fn check_each(when: When) {
    let instance = [
        (
            Token,
            Hang,
            "did not answer in time; if its hop limit is 1…; if it is slow: raise AWS_METADATA_SERVICE_TIMEOUT",
        ),
        (
            Token,
            Status(500),
            "it answered 500 to a request for a session token; nothing to do if it passes",
        ),
        (
            Token,
            Status(401),
            "it answered 401 to a request for a session token",
        ),
        (Token, TooLong, "its answer is longer than 256 KiB"),
        (
            Token,
            Body("<html>\n<p>Log in</p>"),
            "its session token is malformed; check AWS_EC2_METADATA_SERVICE_ENDPOINT",
        ),
        (Token, Body(""), "its session token is malformed"),
        (
            List,
            Body("<html>"),
            "its list of roles is malformed; check AWS_EC2_METADATA_SERVICE_ENDPOINT",
        ),
        (List, Body("a b"), "its list of roles is malformed"),
        // The service has already returned a token, so the log line must not blame the hop limit.
        (
            List,
            Hang,
            "did not answer in time; nothing to do if it passes",
        ),
        (
            List,
            Status(503),
            "it answered 503 to meta-data/iam/security-credentials/; nothing to do if it passes; otherwise check the instance's",
        ),
        (
            List,
            Status(401),
            "it answered 401 to meta-data/iam/security-credentials/;",
        ),
        (
            List,
            Status(404),
            "the instance has no role; attach an instance profile to it",
        ),
        (
            List,
            Body(""),
            "the instance has no role; attach an instance profile to it",
        ),
        (List, Cut, "Peer disconnected"),
        (
            Document,
            Hang,
            "did not answer in time; nothing to do if it passes",
        ),
        (
            Document,
            Status(500),
            "it answered 500 to meta-data/iam/security-credentials/host-role;",
        ),
        (
            Document,
            Status(404),
            "its document for role host-role holds no credential",
        ),
        (
            Document,
            Body("<html>"),
            "its document for role host-role holds no credential",
        ),
        (
            Document,
            Body("{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s3cr3t\"}"),
            "its document for role host-role holds no credential",
        ),
        (Document, Drip, "it took too long (receive body)"),
        (Document, Cut, "Peer disconnected"),
        (Document, TooLong, "its answer is longer than 256 KiB"),
    ];
    let container = [
        (
            Document,
            Hang,
            "did not answer in time; check that the agent that serves it runs",
        ),
        (
            Document,
            Status(401),
            "it answered 401; check the token and the agent",
        ),
        (
            Document,
            Status(500),
            "it answered 500; check the token and the agent",
        ),
        (
            Document,
            Status(302),
            "it answered 302; check the token and the agent",
        ),
        (
            Document,
            Body(""),
            "the answer holds no credential; check the agent",
        ),
        (
            Document,
            Body("{\"AccessKeyId\":\"A\"}"),
            "the answer holds no credential",
        ),
        (Document, Drip, "it took too long (receive body)"),
        (Document, Cut, "Peer disconnected"),
        (Document, TooLong, "its answer is longer than 256 KiB"),
    ];
    let states = [
        (PortState::Shut, "Connection refused"),
        (PortState::Full, "it took too long (connect)"),
    ];
    let mut rows = Vec::new();
    for (source, answers) in [
        (Source::Instance, &instance[..]),
        (Source::Container, &container),
    ] {
        let answers = answers
            .iter()
            .map(|(step, wrong, expected)| (Some((*step, *wrong)), PortState::Open, *expected));
        let states = states
            .iter()
            .map(|(state, expected)| (None, state.clone(), *expected));
        let both = answers.chain(states);
        rows.extend(both.map(|(wrong, state, expected)| (source, wrong, state, expected)));
    }
    rows.push((
        Source::Instance,
        Some((
            Document,
            Body("{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"oh\"}"),
        )),
        PortState::Open,
        "AssumeRoleUnauthorizedAccess: oh; check the instance profile",
    ));
    each(rows, |(source, wrong, state, expected)| {
        let tokens = if source == Source::Instance {
            Tokens::Required
        } else {
            Tokens::Refused(403)
        };
        let host = HostMetadata::start(tokens, "ASIAHOST");
        let sts = Sts::start([Reply::good()]);
        Fault {
            what: format!("{source:?}, {wrong:?}, {state:?}"),
            sts: &sts,
            start: &|| match (Start::without_source(&sts), source) {
                // The default of one second is too short for a busy machine.
                (start, Source::Instance) => host
                    .known_to(start)
                    .variable("AWS_METADATA_SERVICE_TIMEOUT", "3"),
                (start, Source::Container) => {
                    let url = format!("{}{DOCUMENT_PATH}", host.url());
                    start.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)
                }
            },
            inject: &|_| {
                host.wrong_now(wrong);
                host.set_port_state(state.clone());
            },
            repair: &|_| {
                host.wrong_now(None);
                host.set_port_state(PortState::Open);
            },
            expected: &[expected],
            calls: 0,
        }
        .check(when);
    });
}

#[test]
fn source_faults_at_start_are_one_line_and_ec2_role_recovers() {
    check_each(When::AtTheFirstStart);
}

#[test]
fn source_faults_during_refresh_keep_the_credential() {
    check_each(When::DuringARefresh);
}
