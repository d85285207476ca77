//! Answers one SDK's request for the document so many times, for a counter of instructions: `answers 1000`.

use ec2_role::common::clock::BootTime;
use ec2_role::common::http_headers::{TOKEN_HEADER, TTL_HEADER};
use ec2_role::messages::server_state::ServerState;
use ec2_role::server::protocol::http::Request;
use ec2_role::server::protocol::router::respond;
use ec2_role::server::protocol::state::ResponseState;

const LINE: &str = r#"{"role":"arn:aws:iam::123456789012:role/exc_web","role_name":"exc_web","tokens_required":true,
"token_key":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","boot_id":"c0ffee00-0000-4000-8000-000000000000",
"quiet":false,"same_network":false,"allow_hosts":[],"metrics":false,"region":"us-east-1","container_token":null,"both_forms":false,"pass_through":null,
"snapshot":null,"counts":[1,0,0],"credential":{"access_key_id":"ASIAIOSFODNN7EXAMPLE",
"secret_access_key":"made-up/secret/access/key/of/bench","session_token":"TOKEN","last_updated":1795467600,
"expiration":1795471200,"deadline":3600000}}"#;
/// As long as what STS gives is at least.
const TOKEN_LENGTH: usize = 400;
const NOW: BootTime = BootTime(1000);

fn main() {
    let number: u32 = std::env::args()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("answers NUMBER");
    let line = LINE.replace("TOKEN", &"t".repeat(TOKEN_LENGTH));
    let state = ResponseState::from(ServerState::from_line(&line).expect("a hand-over"));
    let asks_for_token = Request {
        method: "PUT",
        target: "/latest/api/token",
        headers: &[(TTL_HEADER, "21600")],
        ..Request::default()
    };
    let token = respond(&asks_for_token, &state, NOW).body;
    let token = std::str::from_utf8(&token).expect("a token");
    let request = Request {
        method: "GET",
        target: "/latest/meta-data/iam/security-credentials/exc_web",
        headers: &[
            ("Host", "169.254.169.254"),
            ("Accept-Encoding", "identity"),
            (
                "User-Agent",
                "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux",
            ),
            (TOKEN_HEADER, token),
        ],
        ..Request::default()
    };
    for _ in 0..number {
        let response = std::hint::black_box(respond(&request, &state, NOW));
        assert_eq!(response.status.code(), 200);
    }
}
