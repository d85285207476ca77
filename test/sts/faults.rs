//! Checks transient faults of STS, at the start and during a refresh: errors, malformed responses and failed connections.

use std::time::Duration;

use crate::support::sts::RetryAfter;
use crate::support::{Fault, PortState, Reply, Start, Sts, When, each};

const TIME: &str = "2199-01-01T00:00:00Z";

/// A response of STS, with status 200, that has these texts as secret access key and expiration. Either may be malformed.
fn with_secret(secret: &str, expiration: &str) -> Reply {
    Reply::bytes(
        200,
        format!(
            "<A><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>s3cr3t</SessionToken><Expiration>{expiration}</Expiration></A>"
        ),
    )
}

/// STS's reply, the text that the log line must contain, and the number of calls in one attempt.
fn replies() -> Vec<(Reply, &'static str, usize)> {
    let denied =
        "User: arn:aws:iam::123456789012:user/bob is not authorized to perform: sts:AssumeRole";
    let too_long = vec![b'x'; 300 * 1024];
    vec![
        (
            Reply::error(500, "InternalFailure", "oh"),
            "InternalFailure (500): oh",
            1,
        ),
        (
            Reply::error(503, "ServiceUnavailable", "oh"),
            "ServiceUnavailable (503): oh",
            1,
        ),
        (
            Reply::error(400, "Throttling", "Rate exceeded"),
            "Throttling (400): Rate exceeded",
            1,
        ),
        (
            Reply::error(400, "IDPCommunicationError", "oh"),
            "IDPCommunicationError",
            1,
        ),
        (
            Reply::error(418, "SomethingNew", "oh"),
            "SomethingNew (418): oh",
            1,
        ),
        (
            Reply::error(403, "RegionDisabledException", "oh"),
            "activate STS for this region",
            1,
        ),
        (
            Reply::error(403, "AccessDenied", denied),
            "must name arn:aws:iam::123456789012:user/bob, whose own policy must allow sts:AssumeRole",
            1,
        ),
        (
            Reply::error(403, "ExpiredToken", "oh"),
            "the source's credential has expired: let it be renewed",
            2,
        ),
        (
            Reply::error(403, "InvalidClientTokenId", "oh"),
            "this STS does not know the source's access key",
            2,
        ),
        (
            Reply::error(403, "SignatureDoesNotMatch", "oh"),
            "the source's secret key or this machine's clock is wrong",
            1,
        ),
        (
            Reply::bytes(502, "<html><body>Bad gateway</body></html>"),
            "status 502 with XML (<html>) without AccessKeyId",
            1,
        ),
        (
            Reply::bytes(200, "<!DOCTYPE html><p>Log in<br>here"),
            "status 200 with a body that is not XML",
            1,
        ),
        (Reply::bytes(302, ""), "status 302 with an empty body", 1),
        (Reply::bytes(200, ""), "status 200 with an empty body", 1),
        (
            Reply::bytes(200, vec![0xff; 100]),
            "status 200 with a body that is not XML",
            1,
        ),
        (Reply::bytes(200, "{}"), "a body that is not XML", 1),
        (
            Reply::bytes(200, "[".repeat(100_000)),
            "a body that is not XML",
            1,
        ),
        (
            Reply::bytes(200, "{\"a\":".repeat(40_000)),
            "a body that is not XML",
            1,
        ),
        (
            Reply::bytes(200, "<a>".repeat(80_000)),
            "a body that is not XML",
            1,
        ),
        (
            Reply::bytes(200, too_long),
            "its answer is longer than 256 KiB",
            1,
        ),
        (Reply::cut_mid_body(), "Peer disconnected", 1),
        (Reply::close_at_once(), "Peer disconnected", 1),
        (
            Reply::good().valid_for(-5),
            "by the clock of that STS its credential has expired",
            1,
        ),
        (
            Reply::hang(),
            "it accepted the connection and did not answer in time",
            1,
        ),
        (
            Reply::hang_mid_head(),
            "it accepted the connection and did not answer in time",
            1,
        ),
        (Reply::hang_mid_body(), "it took too long", 1),
        (
            Reply::error(503, "SlowDown", "oh"),
            "SlowDown (503): oh…; nothing to do if it passes",
            1,
        ),
        (
            Reply::error(400, "RequestTimeout", "oh"),
            "RequestTimeout (400): oh…; nothing to do",
            1,
        ),
        (
            Reply::error(400, "PriorRequestNotComplete", "oh"),
            "oh…; nothing to do if it passes",
            1,
        ),
        (
            Reply::error(429, "TooManyRequestsException", "oh"),
            "oh…; nothing to do if it passes",
            1,
        ),
        (
            Reply::error(503, "Busy", "oh").retry_after(RetryAfter::Seconds(1)),
            "Busy (503): oh…; nothing to do",
            1,
        ),
        (
            Reply::error(400, "RequestExpired", "oh"),
            "or this machine's clock is wrong",
            1,
        ),
        (
            Reply::bytes(403, "Forbidden"),
            "status 403 with a body that is not XML…; check that http://127.0.0.1:",
            1,
        ),
        (
            Reply::bytes(429, "slow down"),
            "a body that is not XML…; nothing to do if it passes",
            1,
        ),
        (
            Reply::bytes(504, "{\"message\":\"late\"}"),
            "status 504 with a body that is not XML…; nothing",
            1,
        ),
        (
            Reply::bytes(200, "<ErrorResponse><Error/></ErrorResponse>"),
            "XML (<ErrorResponse>) without AccessKeyId, SecretAccessKey, SessionToken, Expiration",
            1,
        ),
        (
            with_secret("s3cr3t<!-- -->more", TIME),
            "without SecretAccessKey",
            1,
        ),
        (
            with_secret("s3cr3t<b/>", TIME),
            "without SecretAccessKey",
            1,
        ),
        (with_secret("", TIME), "without SecretAccessKey", 1),
        (
            with_secret("s3cr\n3t", TIME),
            "whose credential is malformed",
            1,
        ),
        (
            with_secret("s3cr\u{a0}3t", TIME),
            "whose credential is malformed",
            1,
        ),
        (
            Reply::error(
                403,
                "AccessDenied",
                &denied.replace("AssumeRole", "TagSession"),
            ),
            "the own policy of arn:aws:iam::123456789012:user/bob must allow sts:TagSession too",
            1,
        ),
        (
            Reply::error(
                403,
                "AccessDenied",
                &format!(
                    "{denied} on resource: x with an explicit deny in a service control policy"
                ),
            ),
            "change the policy with the explicit deny",
            1,
        ),
        (
            Reply::error(
                403,
                "AccessDenied",
                "Roles may not be assumed by root accounts.",
            ),
            "give the credential of an IAM user or a role",
            1,
        ),
        (
            Reply::error(
                403,
                "SignatureDoesNotMatch",
                "Credential should be scoped to a valid region.",
            ),
            "give the region of this endpoint with --region",
            1,
        ),
        (
            Reply::error(403, "UnrecognizedClientException", "oh"),
            "ASIA… needs its session token too",
            2,
        ),
        (
            Reply::error(400, &"c".repeat(9_000), &format!("{}é", "m".repeat(9_000))),
            "if it lasts, correct what the message names",
            1,
        ),
        (
            with_secret("s3cr3t", "tomorrow"),
            "whose credential is malformed",
            1,
        ),
        (
            with_secret("s3cr3t", "12026-01-01T00:00:00Z"),
            "whose credential is malformed",
            1,
        ),
        (
            Reply::raw("SSH-2.0-OpenSSH_9.6\r\n"),
            "check that http://127.0.0.1:",
            1,
        ),
        (
            Reply::raw(format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                "x".repeat(70_000)
            )),
            "header",
            1,
        ),
        (
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n<a>"),
            "disconnected",
            1,
        ),
        (
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<a>"),
            "disconnected",
            1,
        ),
        (
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n<a>"),
            "chunk",
            1,
        ),
        (
            // The connection ends by FIN or by RST. The error texts differ except for the remedy, so only the remedy is expected.
            Reply::raw("HTTP/1.1 100 Continue\r\n\r\n"),
            "is reachable from here",
            1,
        ),
        (
            Reply::good().drip(Duration::from_millis(50)),
            "it took too long",
            1,
        ),
    ]
}

/// How connecting fails, and the text that the log line must contain.
fn states() -> [(PortState, &'static str); 2] {
    [
        (PortState::Shut, "Connection refused"),
        (PortState::Full, "it took too long (connect)"),
    ]
}

fn check_each(when: When) {
    let replies = replies()
        .into_iter()
        .map(|(reply, expected, calls)| (reply, PortState::Open, expected, calls));
    let states = states().map(|(state, expected)| (Reply::good(), state, expected, 0));
    each(replies.chain(states), |(reply, state, expected, calls)| {
        let sts = Sts::start([Reply::good()]);
        Fault {
            what: format!("{reply:?}, {state:?}"),
            sts: &sts,
            start: &|| Start::with(&sts),
            inject: &|_| {
                sts.replies_now(reply.clone());
                sts.set_port_state(state.clone());
            },
            repair: &|_| sts.set_port_state(PortState::Open),
            expected: &[expected, &sts.url()],
            calls,
        }
        .check(when);
    });
}

#[test]
fn sts_faults_at_start_are_one_line_and_ec2_role_recovers() {
    check_each(When::AtTheFirstStart);
}

#[test]
fn sts_faults_during_refresh_keep_the_credential_to_its_end() {
    check_each(When::DuringARefresh);
}
