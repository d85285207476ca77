//! Gives random requests to the router, without a process or socket. Checks that it never panics and returns one complete
//! response, and that exactly the requests that are entitled to the credential get it.

use ec2_role::server::protocol::http::{Request, StatusCode};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::any_answer::{CONTAINER_TOKEN, World};

/// Parts of paths that the router knows or must reject.
const PIECES: [&str; 36] = [
    "/",
    "/",
    "/",
    "/",
    "//",
    "latest",
    "meta-data",
    "iam",
    "info",
    "security-credentials",
    "exc_web",
    "security-credentials-extended",
    "identity-credentials",
    "ec2",
    "api",
    "token",
    "v2",
    "credentials",
    "2012-01-12",
    "2012-01-11",
    "2021-03-23",
    "1.0",
    "user-data",
    "placement",
    "region",
    "spot",
    "instance-id",
    "instance-action",
    "..",
    ".",
    "%2e",
    "%2F",
    "%",
    "?a=b",
    "%69am",
    "é",
];
const NAMES: [&str; 12] = [
    "X-aws-ec2-metadata-token",
    "x-AWS-ec2-metadata-token",
    "X-aws-ec2-metadata-token-ttl-seconds",
    "X-Forwarded-For",
    "x-forwarded-FOR",
    "Authorization",
    "Host",
    "Origin",
    "Sec-Fetch-Site",
    "Sec-Fetch-Mode",
    "Upgrade-Insecure-Requests",
    "Accept",
];
const VALUES: [&str; 20] = [
    "",
    "TOKEN",
    "TOKEN",
    "CONTAINER",
    "CONTAINER",
    "INVALID",
    "60",
    "21601",
    "169.254.169.254",
    "[::1]:80",
    "evil.example",
    "allowed.example",
    "localhost",
    "localhost.",
    "ec2-role",
    "host.docker.internal",
    "internal.example",
    "127.0.0.1:80:evil.example",
    "[::1].evil.example",
    "TOKEN ",
];

fn methods() -> impl Strategy<Value = String> {
    let known = select(vec![
        "GET", "GET", "GET", "HEAD", "PUT", "POST", "OPTIONS", "get",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn targets() -> impl Strategy<Value = String> {
    let made = prop::collection::vec(select(&PIECES[..]), 0..14).prop_map(|pieces| pieces.concat());
    let right = prop::collection::vec(select(&["/", "//", "/%69am/", "/latest/"][..]), 5).prop_map(
        |slashes| {
            [
                "latest",
                "meta-data",
                "iam",
                "security-credentials",
                "exc_web",
            ]
            .iter()
            .zip(slashes)
            .map(|(segment, slash)| format!("{slash}{segment}"))
            .collect()
        },
    );
    let known = select(vec![
        "/latest/meta-data/iam/security-credentials/exc_web",
        "/2021-03-23/meta-data/iam/security-credentials/exc_web/",
        "/latest/meta-data/iam/security-credentials/EXC_WEB",
        "/v2/credentials/exc_web",
        "/v2/credentials/exc_web/?a=b",
        "/v2/credentials/exc%5Fweb",
    ]);
    prop_oneof![3 => made, 1 => right, 3 => known.prop_map(str::to_owned), 1 => ".{0,60}"]
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![9 => select(&NAMES[..]).prop_map(str::to_owned), 1 => ".{0,20}"];
    let value = prop_oneof![9 => select(&VALUES[..]).prop_map(str::to_owned), 1 => ".{0,60}"];
    prop::collection::vec((name, value), 0..4)
}

fn check(
    choice: u8,
    is_to_loopback: bool,
    method: &str,
    target: &str,
    headers: &[(String, String)],
) -> StatusCode {
    let world = World::new(choice);
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| {
            let value = match value.as_str() {
                "TOKEN" => &world.token,
                "CONTAINER" => CONTAINER_TOKEN,
                value => value,
            };
            (name.as_str(), value)
        })
        .collect();
    let request = Request {
        method,
        target,
        headers: &headers,
        is_to_loopback,
    };
    world.check(&request).status
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_entitled_requests_get_the_credential(
        choice: u8, is_to_loopback: bool, method in methods(), target in targets(), headers in headers()
    ) {
        check(choice, is_to_loopback, &method, &target, &headers);
    }
}

#[test]
fn the_check_itself_recognizes_entitled_requests() {
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let (token, container) = (
        header("X-aws-ec2-metadata-token", "TOKEN"),
        header("Authorization", "CONTAINER"),
    );
    let document = "/latest/meta-data/iam/security-credentials/exc_web";
    let (optional, required, with_container) = (0, 1, 3);
    for (choice, target, headers, status) in [
        (optional, document, &vec![], StatusCode::OK),
        (required, document, &vec![], StatusCode::UNAUTHORIZED),
        (required, document, &token, StatusCode::OK),
        (
            with_container,
            "/v2/credentials/exc_web",
            &container,
            StatusCode::OK,
        ),
        (
            with_container,
            "/v2/credentials/exc_web",
            &token,
            StatusCode::UNAUTHORIZED,
        ),
        (
            required,
            "/v2/credentials/exc_web",
            &container,
            StatusCode::UNAUTHORIZED,
        ),
    ] {
        assert_eq!(
            check(choice, true, "GET", target, headers),
            status,
            "{target}"
        );
    }
}
