//! Checks the response to any request, for the router's tests and its fuzz target. The expected result is computed here
//! independently of the code under test, so that a fault in that code does not also change the expected result.

use std::time::{Duration, UNIX_EPOCH};

use ec2_role::common::{
    BootTime, Credential, Item, PassThrough, RoleArn, RoleName, Secret, ServerConfig, Snapshot,
    TokenKey, Ttl, log::Format,
};
use ec2_role::messages::{Counts, ServerState, to_frame};
use ec2_role::server::protocol::http::{Request, Response, StatusCode};
use ec2_role::server::protocol::router::respond;
use ec2_role::server::protocol::state::ResponseState;

const SECRETS: [&str; 2] = ["s3cr3t/key", "s3cr3t/token"];
pub const CONTAINER_TOKEN: &str = "Bearer container/token";
const NOW: BootTime = BootTime(1_000_000_000);

/// A server's state at one moment.
pub struct World {
    state: ResponseState,
    /// A valid session token.
    pub token: String,
}

impl World {
    /// Makes a state. Each of its properties depends on one bit of `choice`, or on two.
    pub fn new(choice: u8) -> Self {
        let token_key = TokenKey::from_hex(&"a1".repeat(32)).unwrap();
        let bit = |at: u8| choice >> at & 1 == 1;
        let age = if bit(5) { 121_000 } else { 0 };
        let snapshot = Snapshot {
            left_out: 0,
            taken: BootTime(NOW.0 - age),
            items: [
                ("meta-data/instance-id", false, &b"i-1"[..]),
                ("meta-data/placement/region", false, b"eu-west-1"),
                ("meta-data/spot/instance-action", false, b"{}"),
                ("user-data", true, b"\x1f\x8b\0\r\n\r\n"),
            ]
            .map(|(path, is_binary, body)| {
                let body = body.to_vec();
                (path.to_owned(), Item { is_binary, body })
            })
            .into(),
        };
        let state = ResponseState::from(ServerState {
            role: RoleArn::parse("arn:aws:iam::123456789012:role/exc_web").unwrap(),
            config: ServerConfig {
                role_name: RoleName::parse("exc_web").unwrap(),
                requires_session_token: bit(0),
                both_forms: bit(7),
                pass_through: bit(3).then(PassThrough::default),
                same_network: false,
                allow_hosts: vec!["allowed.example".to_owned()],
                metrics: true,
                quiet: true,
            },
            token_key,
            log_format: Format::default(),
            region: bit(4).then(|| "eu-west-1".to_owned()),
            container_token: bit(1).then(|| Secret::new(CONTAINER_TOKEN)),
            metadata: (bit(3) && bit(6)).then(|| to_frame(&snapshot)),
            counts: Counts::default(),
            credential: (choice >> 2 & 0x21 != 0x21).then(|| Credential {
                access_key_id: "ASIAEXAMPLE".to_owned(),
                secret_access_key: Secret::new(SECRETS[0]),
                session_token: Secret::new(SECRETS[1]),
                last_updated: UNIX_EPOCH,
                expiration: UNIX_EPOCH + Duration::from_secs(3600),
                deadline: if bit(2) { NOW } else { BootTime(NOW.0 + 1) },
            }),
        });
        let token = state.tokens.issue(Ttl::parse("60").unwrap(), NOW);
        World { state, token }
    }

    /// Panics unless the response is complete, and has the credential exactly if the request is entitled to it.
    pub fn check(&self, request: &Request) -> Response<'_> {
        let response = respond(request, &self.state, NOW);
        check_is_one_complete_response(&response);
        let text = String::from_utf8_lossy(&response.body);
        let has_secret = SECRETS.iter().any(|secret| text.contains(secret));
        assert_eq!(has_secret, self.is_entitled(request), "{request:?}\n{text}");
        assert!(
            !has_secret || response.status == StatusCode::OK,
            "{response:?}"
        );
        assert!(
            !SECRETS
                .iter()
                .any(|secret| response.headers.contains(secret))
        );
        assert!(!text.contains(CONTAINER_TOKEN), "{response:?}");
        response
    }

    fn is_entitled(&self, request: &Request) -> bool {
        let values = |name: &str| -> Vec<&str> {
            let named = |header: &&(&str, &str)| header.0.to_lowercase() == name;
            let found = request.headers.iter().filter(named);
            found.map(|(_, value)| *value).collect()
        };
        let is_of_a_page = request.headers.iter().any(|(name, _)| {
            let name = name.to_lowercase();
            ["origin", "upgrade-insecure-requests"].contains(&&*name)
                || (name.starts_with("sec-fetch-") && name != "sec-fetch-mode")
        });
        let valid = self.state.server.credential.as_ref();
        let is_valid = valid.is_some_and(|credential| credential.deadline.0 > NOW.0);
        if !is_valid
            || is_of_a_page
            || !values("x-forwarded-for").is_empty()
            || !values("host")
                .into_iter()
                .all(|host| is_good_host(host, request.is_to_loopback))
            || !["GET", "HEAD"].contains(&request.method)
        {
            return false;
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let pieces: Option<Vec<String>> = path.split('/').map(decoded).collect();
        if self.state.server.container_token.is_some()
            && let Some([root, v2, credentials, name, rest @ ..]) = pieces.as_deref()
            && [root, v2, credentials] == ["", "v2", "credentials"]
        {
            return name == "exc_web"
                && rest.iter().all(String::is_empty)
                && values("authorization").first() == Some(&CONTAINER_TOKEN);
        }
        if self.state.server.container_token.is_some() && !self.state.server.config.both_forms {
            return false;
        }
        let has_right_token = match values("x-aws-ec2-metadata-token").first() {
            None | Some(&"") => !self.state.server.config.requires_session_token,
            Some(token) => *token == self.token,
        };
        let is_document = segments(path).is_some_and(|segments| match &segments[..] {
            [version, rest @ ..] => {
                rest == ["meta-data", "iam", "security-credentials", "exc_web"]
                    && (version == "latest" || is_date_of_roles(version))
            }
            [] => false,
        });
        has_right_token && is_document
    }
}

fn check_is_one_complete_response(response: &Response) {
    const END: &[u8] = b"\r\n\r\n";
    for is_head in [false, true] {
        let bytes = response.to_bytes(is_head, UNIX_EPOCH);
        let end = bytes
            .windows(END.len())
            .position(|window| window == END)
            .unwrap();
        let (head, body) = (&bytes[..end], &bytes[end + END.len()..]);
        let head = std::str::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap();
        assert!(status.starts_with("HTTP/1.1 ") && status.is_ascii());
        let headers: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']));
        let all = |name: &str| -> Vec<&str> {
            let named = headers
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case(name));
            named.map(|(_, value)| *value).collect()
        };
        assert_eq!(all("Content-Length"), [response.body.len().to_string()]);
        assert_eq!(all("Connection"), ["close"]);
        assert_eq!(all("Transfer-Encoding"), [""; 0]);
        let expected: &[u8] = if is_head { b"" } else { &response.body };
        assert_eq!(body, expected);
    }
}

/// Whether ec2-role accepts this Host header, with or without a port. Always accepted: an IP address, the configured name, an
/// empty name, `localhost` and `*.localhost`. Accepted only if the connection is not to loopback: a single label and
/// `*.internal`.
fn is_good_host(host: &str, is_to_loopback: bool) -> bool {
    let host = host.trim().to_ascii_lowercase();
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, after)| {
            let is_end = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
            let (address, _zone) = address.split_once('%').unwrap_or((address, ""));
            is_end && address.parse::<std::net::Ipv6Addr>().is_ok()
        });
    }
    let (name, port) = host.split_once(':').unwrap_or((&host, ""));
    let mut labels: Vec<&str> = name.split('.').collect();
    if labels.len() > 1 && labels.last() == Some(&"") {
        labels.pop();
    }
    let is_label = |label: &&str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        label.bytes().all(is_allowed)
    };
    let is_known = match labels.last() {
        _ if labels == ["allowed", "example"] => true,
        Some(&"localhost") => true,
        Some(&"internal") => !is_to_loopback,
        _ if labels.len() == 1 => !is_to_loopback || labels == [""],
        _ => labels.join(".").parse::<std::net::Ipv4Addr>().is_ok(),
    };
    is_port(port) && labels.iter().all(is_label) && is_known
}

/// Decodes a segment of a path; `None` if it has a bad escape, an escaped slash, a space, or a byte outside printable ASCII.
fn decoded(raw: &str) -> Option<String> {
    let mut bytes = raw.bytes();
    let mut segment = String::new();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digits =
                    [bytes.next()?, bytes.next()?].map(|digit| (digit as char).to_digit(16));
                (digits[0]? * 16 + digits[1]?) as u8
            }
            byte => byte,
        };
        if !(b'!'..=b'~').contains(&byte) || byte == b'/' {
            return None;
        }
        segment.push(byte as char);
    }
    Some(segment)
}

/// The non-empty segments of a path, each decoded once. Returns `None` if the path does not begin with `/`, if `decoded` rejects
/// a segment, or if a decoded segment is `.` or `..`.
fn segments(path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    for raw in path.strip_prefix('/')?.split('/') {
        let segment = decoded(raw)?;
        match segment.as_str() {
            "." | ".." => return None,
            "" => {}
            _ => segments.push(segment),
        }
    }
    Some(segments)
}

fn is_date_of_roles(version: &str) -> bool {
    let parts: Vec<&str> = version.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_of_digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    lengths == [4, 2, 2] && parts.iter().all(is_of_digits) && version >= "2012-01-12"
}
