//! Every fault of the host's metadata service as a source, at the start and during a refresh.

use crate::support::host_metadata::Step::{Document, List, Token};
use crate::support::host_metadata::{HostMetadata, Tokens, Wrong};
use crate::support::{Door, Fault, Reply, Start, Sts, When, each};

fn check_each(when: When) {
    let answers = [
        (
            Token,
            Wrong::Hang,
            "it accepted the connection and did not answer in time; hop limit 1?",
        ),
        (
            Token,
            Wrong::Status(500),
            "it answered 500 to a request for a session token",
        ),
        (Token, Wrong::TooLong, "its answer is longer than 256 KiB"),
        // It gave a token, so the hop limit is not the cause.
        (
            List,
            Wrong::Hang,
            "it accepted the connection and did not answer in time; nothing to do if it passes",
        ),
        (
            List,
            Wrong::Status(503),
            "it answered 503 to meta-data/iam/security-credentials/;",
        ),
        (
            Document,
            Wrong::Hang,
            "it accepted the connection and did not answer in time; nothing to do if it passes",
        ),
        (
            Document,
            Wrong::Status(500),
            "it answered 500 to meta-data/iam/security-credentials/host-role;",
        ),
        (
            Document,
            Wrong::Status(404),
            "its document for role host-role holds no credential",
        ),
        (Document, Wrong::Drip, "it took too long (receive body)"),
        (Document, Wrong::Cut, "Peer disconnected"),
        (
            Document,
            Wrong::TooLong,
            "its answer is longer than 256 KiB",
        ),
    ];
    let answers = answers.map(|(step, wrong, said)| (Some((step, wrong)), Door::Open, said));
    let doors = [
        (Door::Shut, "Connection refused"),
        (Door::Full, "it took too long (connect)"),
    ];
    let doors = doors.map(|(door, said)| (None, door, said));
    each(answers.into_iter().chain(doors), |(wrong, door, said)| {
        let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
        let sts = Sts::start([Reply::good()]);
        Fault {
            what: format!("{wrong:?}, {door:?}"),
            sts: &sts,
            // The default of one second is too short for a busy machine.
            start: &|| {
                host.known_to(Start::without_source(&sts))
                    .variable("AWS_METADATA_SERVICE_TIMEOUT", "3")
            },
            comes: &|| {
                host.wrong_now(wrong);
                host.door_now(door.clone());
            },
            passes: &|| {
                sts.replies_now(Reply::good());
                host.wrong_now(None);
                host.door_now(Door::Open);
            },
            said: &["the metadata service at ", &host.url(), said],
            calls: 0,
        }
        .check(when);
    });
}

#[test]
fn source_faults_at_start_are_one_line_and_heal() {
    check_each(When::AtTheFirstStart);
}

#[test]
fn source_faults_during_refresh_keep_the_credential() {
    check_each(When::DuringARefresh);
}
