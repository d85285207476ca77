//! Answers an SDK's request for the document N times (`answers 1000`), so that valgrind can count the instructions.

use std::time::{Duration, UNIX_EPOCH};

use ec2_role::common::{
    BootTime, Credential, RoleArn, Secret, ServerConfig, TOKEN_HEADER, TTL_HEADER, TokenKey,
    log::Format,
};
use ec2_role::messages::{Counts, ServerState};
use ec2_role::server::protocol::http::Request;
use ec2_role::server::protocol::router::respond;
use ec2_role::server::protocol::state::ResponseState;

/// About the length of the shortest session tokens of the real STS.
const TOKEN_LENGTH: usize = 400;
const NOW: BootTime = BootTime(1000);

fn main() {
    let number: u32 = std::env::args()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("answers NUMBER");
    let role = RoleArn::parse("arn:aws:iam::123456789012:role/exc_web").expect("an ARN");
    let state = ResponseState::from(ServerState {
        config: ServerConfig {
            role_name: role.name(),
            requires_session_token: true,
            both_forms: false,
            pass_through: None,
            same_network: false,
            allow_hosts: Vec::new(),
            metrics: false,
            quiet: false,
        },
        role,
        token_key: TokenKey::from_hex(&"a1".repeat(32)).expect("a key"),
        log_format: Format::default(),
        region: Some("us-east-1".to_owned()),
        container_token: None,
        metadata: None,
        counts: Counts::default(),
        credential: Some(Credential {
            access_key_id: "ASIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: Secret::new("made-up/secret/access/key/of/bench"),
            session_token: Secret::new("t".repeat(TOKEN_LENGTH)),
            last_updated: UNIX_EPOCH + Duration::from_secs(1_795_467_600),
            expiration: UNIX_EPOCH + Duration::from_secs(1_795_471_200),
            deadline: BootTime(3_600_000),
        }),
    });
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
        assert_eq!(response.status.as_u16(), 200);
    }
}
