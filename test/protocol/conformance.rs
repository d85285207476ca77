//! Tests the protocol byte by byte: sends raw requests and checks the status, the headers, the body and the clean close.

use ec2_role::common::clock;

use crate::support::http::{self, Answer, DOCUMENT_PATH, LIST_PATH, TOKEN, TOKEN_PATH, TTL};
use crate::support::sts::{access_key_id, secret_access_key, session_token};
use crate::support::{Ec2Role, Reply, Start, Sts, until};

const TTL_ANSWER: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";
const INFO_PATH: &str = "/latest/meta-data/iam/info";

/// ec2-role with a credential, and its STS.
struct Served {
    ec2_role: Ec2Role,
    _sts: Sts,
}

fn serve(arguments: &[&str]) -> Served {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts)
        .arguments(arguments.iter().copied())
        .serving();
    Served {
        ec2_role,
        _sts: sts,
    }
}

impl Served {
    /// Sends these bytes and checks what every response must have: its complete body, a clean close, EC2's headers.
    #[track_caller]
    fn send(&self, request: &str) -> Answer {
        let response = http::converse(self.ec2_role.address, request.as_bytes())
            .unwrap_or_else(|error| panic!("{request:?}: {error}"));
        let answer = Answer::parse(&response)
            .unwrap_or_else(|| panic!("{request:?}: {:?}", String::from_utf8_lossy(&response)));
        if !request.starts_with("HEAD ") {
            let length = answer.body.len().to_string();
            assert_eq!(answer.header("Content-Length"), length, "{request:?}");
        }
        assert_eq!(answer.header("Connection"), "close", "{request:?}");
        assert_eq!(answer.header("Server"), "EC2ws", "{request:?}");
        httpdate::parse_http_date(answer.header("Date")).unwrap();
        answer
    }

    /// Sends a request with the Host header that SDKs send.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{headers}\r\n"
        ))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    #[track_caller]
    fn statuses(&self, method: &str, paths: &[&str], headers: &[&str], status: u16) {
        for path in paths {
            let answer = self.ask(method, path, headers);
            assert_eq!(answer.status, status, "{method} {path} {headers:?}");
        }
    }

    /// A header with a token that is valid for a minute.
    #[track_caller]
    fn token(&self) -> String {
        format!("{TOKEN}: {}", self.ec2_role.token("60"))
    }
}

/// The response with `DATE` in place of its date, and `mask` in place of `text`.
fn masked(response: &[u8], text: &str, mask: &str) -> String {
    let response = String::from_utf8(response.to_vec()).unwrap();
    let date = Answer::parse(response.as_bytes())
        .unwrap()
        .header("Date")
        .to_owned();
    response.replacen(&date, "DATE", 1).replacen(text, mask, 1)
}

// Tests of session tokens.

#[test]
fn the_session_token_response_equals_ec2s() {
    let served = serve(&[]);
    let request = format!(
        "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\n{TTL}: 21600\r\nContent-Length: 0\r\n\r\n"
    );
    let response = http::converse(served.ec2_role.address, request.as_bytes()).unwrap();
    let token = Answer::parse(&response).unwrap().body;
    assert_eq!(
        masked(&response, &token, "TOKEN"),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 56\r\n\
         X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\nDate: DATE\r\nServer: EC2ws\r\nConnection: close\r\n\r\nTOKEN"
    );
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"_=-".contains(&byte);
    assert!(
        token.len() == 56 && token.bytes().all(is_of_token),
        "{token}"
    );
}

#[test]
fn a_token_is_refused_after_its_ttl() {
    let served = serve(&[]);
    let token = format!("{TOKEN}: {}", served.ec2_role.token("1"));
    let get = || served.ask("GET", "/latest/meta-data/", &[&token]);
    until("the token's end", || (get().status == 401).then_some(()));
    assert_eq!(get().body, "");
}

#[test]
fn an_invalid_ttl_is_400_without_a_token() {
    let served = serve(&[]);
    for ttl in [
        "", "0", "-1", "+5", "abc", "21601", "1.5", "6 0", "0x10", "1e3",
    ] {
        let answer = served.ask("PUT", TOKEN_PATH, &[&format!("{TTL}: {ttl}")]);
        assert_eq!((answer.status, answer.body.as_str()), (400, ""), "{ttl:?}");
        assert_eq!(answer.header(TTL_ANSWER), "", "{ttl:?}");
    }
    let answer = served.ask("PUT", TOKEN_PATH, &[]);
    assert_eq!((answer.status, answer.body.as_str()), (400, ""));
    for ttl in ["1", "21600"] {
        let answer = served.ask("PUT", TOKEN_PATH, &[&format!("{TTL}: {ttl}")]);
        assert_eq!((answer.status, answer.header(TTL_ANSWER)), (200, ttl));
    }
}

#[test]
fn the_token_path_with_a_slash_or_a_date_is_403() {
    let served = serve(&[]);
    let ttl = format!("{TTL}: 60");
    for path in ["/latest/api/token/", "/2021-03-23/api/token"] {
        let answer = served.ask("PUT", path, &[&ttl]);
        assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{path}");
    }
}

#[test]
fn other_methods_on_the_token_path_are_405_with_allow() {
    let served = serve(&[]);
    let ttl = format!("{TTL}: 60");
    for method in ["GET", "HEAD", "POST", "DELETE", "PATCH", "TRACE", "put"] {
        let request =
            format!("{method} {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\n{ttl}\r\n\r\n");
        let response = http::converse(served.ec2_role.address, request.as_bytes()).unwrap();
        assert_eq!(
            masked(&response, "", ""),
            "HTTP/1.1 405 Not Allowed\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nAllow: OPTIONS, PUT\r\n\
             Date: DATE\r\nServer: EC2ws\r\nConnection: close\r\n\r\n",
            "{method}"
        );
    }
    let answer = served.ask("OPTIONS", TOKEN_PATH, &[]);
    assert_eq!(
        (answer.status, answer.header("Allow")),
        (200, "OPTIONS, PUT")
    );
}

#[test]
fn a_put_with_any_small_body_is_answered() {
    let served = serve(&[]);
    for request in [
        format!("PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\n{TTL}: 60\r\n\r\n"),
        format!(
            "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 0\r\n{TTL}: 60\r\n\r\n"
        ),
        format!(
            "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 5\r\n{TTL}: 60\r\n\r\nhello"
        ),
        // Chunked bodies: an empty one, as s3fs before 1.92 sends it, and one that is not empty.
        format!(
            "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n{TTL}: 60\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n{TTL}: 60\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        // `Host` with a port, no `Host`, and HTTP/1.0.
        format!("PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254:80\r\n{TTL}: 60\r\n\r\n"),
        format!("PUT {TOKEN_PATH} HTTP/1.1\r\n{TTL}: 60\r\n\r\n"),
        format!("PUT {TOKEN_PATH} HTTP/1.0\r\n{TTL}: 60\r\n\r\n"),
        format!(
            "PUT {TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: keep-alive\r\n{TTL}: 60\r\n\r\n"
        ),
        format!(
            "PUT {TOKEN_PATH} HTTP/1.1\r\nhost: 169.254.169.254\r\n{}:60\r\n\r\n",
            TTL.to_uppercase()
        ),
        format!("PUT /{TOKEN_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\n{TTL}: 60\r\n\r\n"),
        format!("PUT {TOKEN_PATH}?a=b HTTP/1.1\r\nHost: 169.254.169.254\r\n{TTL}: 60\r\n\r\n"),
    ] {
        let answer = served.send(&request);
        assert_eq!(
            (answer.status, answer.header(TTL_ANSWER)),
            (200, "60"),
            "{request:?}"
        );
        let token = format!("{TOKEN}: {}", answer.body);
        assert_eq!(served.ask("GET", LIST_PATH, &[&token]).body, "exc_web");
    }
}

#[test]
fn forwarded_requests_are_403() {
    let served = serve(&["--pass-through"]);
    let token = served.token();
    for header in [
        "X-Forwarded-For: 1.2.3.4",
        "x-forwarded-for: 1.2.3.4",
        "X-FORWARDED-FOR:1.2.3.4",
        "x-Forwarded-For:",
    ] {
        let answer = served.ask("PUT", TOKEN_PATH, &[&format!("{TTL}: 60"), header]);
        assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{header}");
        for path in ["/", LIST_PATH, DOCUMENT_PATH, INFO_PATH, "/nowhere", "/%"] {
            for headers in [&[header][..], &[&token, header], &[header, &token]] {
                let answer = served.ask("GET", path, headers);
                assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{path}");
            }
        }
    }
}

#[test]
fn only_successes_with_a_token_have_its_remaining_ttl() {
    let served = serve(&[]);
    let token = served.token();
    for path in ["/", "/latest/meta-data/", LIST_PATH, DOCUMENT_PATH] {
        let answer = served.get(path);
        assert_eq!((answer.status, answer.header(TTL_ANSWER)), (200, ""));
        // aws-sdk-cpp sends an empty token after its fallback to IMDSv1.
        let answer = served.ask("GET", path, &["x-aws-ec2-metadata-token:"]);
        assert_eq!((answer.status, answer.header(TTL_ANSWER)), (200, ""));
        let answer = served.ask("GET", path, &[&token]);
        let left: u32 = answer.header(TTL_ANSWER).parse().unwrap();
        assert!(answer.status == 200 && (1..=60).contains(&left), "{left}");
    }
    let answer = served.ask("GET", "/nowhere", &[&token]);
    assert_eq!((answer.status, answer.header(TTL_ANSWER)), (404, ""));
}

#[test]
fn required_tokens_make_every_path_401_without_one() {
    let served = serve(&["--http-tokens", "required"]);
    let token = served.token();
    for path in [
        "/",
        "/latest/meta-data/",
        LIST_PATH,
        DOCUMENT_PATH,
        INFO_PATH,
        "/nowhere",
        "/..",
    ] {
        for header in [&[][..], &["X-aws-ec2-metadata-token:"]] {
            let lines: String = header.iter().map(|line| format!("{line}\r\n")).collect();
            let request = format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{lines}\r\n");
            let response = http::converse(served.ec2_role.address, request.as_bytes()).unwrap();
            assert_eq!(
                masked(&response, "", ""),
                "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nDate: DATE\r\n\
                 Server: EC2ws\r\nConnection: close\r\n\r\n",
                "{path}"
            );
        }
    }
    for path in ["/", "/latest/meta-data/", LIST_PATH, DOCUMENT_PATH] {
        assert_eq!(served.ask("GET", path, &[&token]).status, 200, "{path}");
    }
}

#[test]
fn a_wrong_token_is_401_on_every_path_in_both_modes() {
    for mode in ["optional", "required"] {
        let served = serve(&["--http-tokens", mode]);
        let good = served.ec2_role.token("60");
        let other = serve(&[]);
        for token in [
            // fluent-bit probes for IMDSv2 with this token.
            "INVALID",
            &good[..55],
            &format!("{good}="),
            &good.replacen('A', "B", 1),
            &good.to_lowercase(),
            &"A".repeat(56),
            &other.ec2_role.token("60"),
        ] {
            let token = format!("{TOKEN}: {token}");
            for path in [
                "/",
                "/latest/",
                "/latest/meta-data/",
                LIST_PATH,
                DOCUMENT_PATH,
                INFO_PATH,
                "/latest/user-data",
                "/1.0/meta-data/",
                "/nowhere",
                "/latest/../etc/passwd",
                "/%zz",
            ] {
                let answer = served.ask("GET", path, &[&token]);
                let response = (
                    answer.status,
                    answer.body.as_str(),
                    answer.header(TTL_ANSWER),
                );
                assert_eq!(response, (401, "", ""), "{path} {token}");
            }
        }
    }
}

// Tests of the role's list and document.

#[test]
fn the_list_is_the_role_name_alone() {
    let served = serve(&[]);
    let token = served.token();
    for path in [LIST_PATH, LIST_PATH.trim_end_matches('/')] {
        let answer = served.ask("GET", path, &[&token]);
        assert_eq!((answer.status, answer.body.as_str()), (200, "exc_web"));
        assert_eq!(answer.header("Content-Length"), "7");
        assert_eq!(answer.header("Content-Type"), "text/plain");
        assert_eq!(answer.header("Location"), "");
    }
}

#[test]
fn the_document_equals_ec2s_to_the_byte() {
    let served = serve(&[]);
    let token = served.token();
    let (key, secret, session) = (access_key_id(1), secret_access_key(1), session_token(1));
    let slash = format!("{DOCUMENT_PATH}/");
    for path in [
        DOCUMENT_PATH,
        &slash,
        "/latest//meta-data/iam/security-credentials/exc_web",
    ] {
        let answer = served.ask("GET", path, &[&token]);
        assert_eq!(answer.header("Content-Type"), "text/plain");
        let times = ["LastUpdated", "Expiration"].map(|name| answer.field(name));
        let [updated, expiration] = &times;
        assert_eq!(
            answer.body,
            format!(
                "{{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"{updated}\",\n  \"Type\" : \"AWS-HMAC\",\n  \
                 \"AccessKeyId\" : \"{key}\",\n  \"SecretAccessKey\" : \"{secret}\",\n  \"Token\" : \"{session}\",\n  \
                 \"Expiration\" : \"{expiration}\",\n  \"AccountId\" : \"123456789012\"\n}}"
            )
        );
        assert_eq!(answer.header("Accept-Ranges"), "none");
        let modified = httpdate::parse_http_date(answer.header("Last-Modified")).unwrap();
        assert_eq!(clock::iso8601(modified), *updated);
        let [updated, expiration] = times.map(|time| {
            assert!(is_of_form(&time, "0000-00-00T00:00:00Z"), "{time}");
            clock::epoch_seconds(clock::parse_iso8601(&time).unwrap())
        });
        assert_eq!(expiration - updated, 3600);
    }
}

/// Whether a text equals the form, with any digit where the form has `0`.
fn is_of_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, of_form)| {
            if of_form == b'0' {
                byte.is_ascii_digit()
            } else {
                byte == of_form
            }
        })
}

#[test]
fn another_role_name_is_404_with_ec2s_page() {
    let served = serve(&[]);
    for path in [
        "other-role",
        "exc_web/x",
        "EXC_WEB",
        "exc_we",
        "exc_web1",
        "exc_web%20",
    ] {
        let answer = served.get(&format!("{LIST_PATH}{path}"));
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (404, "text/html"),
            "{path}"
        );
        assert!(
            answer
                .body
                .starts_with("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>")
        );
        assert!(answer.body.contains("<title>404 - Not Found</title>"));
        assert!(answer.body.contains("<h1>404 - Not Found</h1>"));
    }
}

#[test]
fn repeated_slashes_and_escapes_are_normalised() {
    let served = serve(&[]);
    for path in [
        "//latest/meta-data/iam/security-credentials/",
        "/latest//meta-data/iam/security-credentials",
        "/latest/meta-data///iam//security-credentials//",
        "/latest/meta-data/%69am/security%2Dcredentials/",
        "/%6Catest/meta-data/iam/security-credentials/",
        "/latest/meta-data/iam/security-credentials/?a=b",
        "/latest/meta-data/iam/security-credentials?/x",
    ] {
        let answer = served.get(path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "exc_web"),
            "{path}"
        );
    }
    let document = served.get("/latest/meta-data/%69am/security%2Dcredentials/exc%5Fweb");
    assert_eq!(document.field("Code"), "Success");
}

#[test]
fn a_path_with_dots_or_bad_escapes_is_404() {
    let served = serve(&[]);
    served.statuses(
        "GET",
        &[
            "/latest/meta-data/x/../iam/security-credentials/",
            "/latest/meta-data/iam/security-credentials/../security-credentials/exc_web",
            "/latest/meta-data/./iam/security-credentials/",
            "/latest/meta-data/%2e%2e/meta-data/iam/security-credentials/",
            "/latest/meta-data/iam%2Fsecurity-credentials/",
            "/latest/meta-data/%2569am/security-credentials/",
            "/latest/meta-data/iam/security-credentials/exc_web%00",
            "/latest/meta-data/iam/security-credentials/exc_web%",
            "/latest/meta-data/iam/security-credentials/exc_web%5",
            "/latest/meta-data/iam/security-credentials/exc_web%zz",
            "/latest/meta-data/iam/security-credentials/%FF",
            "/LATEST/meta-data/iam/security-credentials/",
            "/..",
            "latest/meta-data/iam/security-credentials/",
            "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
            "*",
        ],
        &[],
        404,
    );
}

#[test]
fn only_api_versions_since_2012_01_12_have_roles() {
    let served = serve(&[]);
    let versions = served.get("/").body;
    assert!(versions.starts_with("1.0\n2007-01-19\n") && versions.ends_with("\nlatest"));
    let (old, new) = versions.split_at(versions.find("2012-01-12").unwrap());
    for version in new.lines().chain(["2030-01-01"]) {
        let list = format!("/{version}/meta-data/iam/security-credentials/");
        assert_eq!(served.get(&list).body, "exc_web", "{version}");
        let document = served.get(&format!("{list}exc_web"));
        assert_eq!(document.status, 200, "{version}");
    }
    // API versions before 2012-01-12 have all items except roles. Debian's ec2metadata requests every item under the version
    // 2009-04-04.
    for version in old.lines().chain(["2012-01-11"]) {
        for (path, body) in [
            ("", "meta-data"),
            ("meta-data/", "placement/"),
            ("meta-data/placement/", "region"),
            ("meta-data/placement/region", "eu-west-1"),
        ] {
            assert_eq!(
                served.get(&format!("/{version}/{path}")).body,
                body,
                "{version}"
            );
        }
        let iam = format!("/{version}/meta-data/iam");
        served.statuses(
            "GET",
            &[
                &format!("{iam}/"),
                &format!("{iam}/info"),
                &format!("{iam}/security-credentials/"),
                &format!("{iam}/security-credentials/exc_web"),
            ],
            &[],
            404,
        );
    }
    for version in [
        "1.1",
        "2007-01-18",
        "0000-00-00",
        "2012-1-12",
        "2021-03-23x",
        "2021-03-2x",
        "2021.03.23",
        "newest",
        "v2",
    ] {
        served.statuses(
            "GET",
            &[
                &format!("/{version}/meta-data/iam/security-credentials/exc_web"),
                &format!("/{version}/meta-data/"),
                &format!("/{version}/"),
            ],
            &[],
            404,
        );
    }
}

#[test]
fn iam_info_names_the_served_role() {
    let served = serve(&[]);
    for path in [INFO_PATH.to_owned(), format!("{INFO_PATH}/")] {
        let answer = served.get(&path);
        let updated = answer.field("LastUpdated");
        assert!(is_of_form(&updated, "0000-00-00T00:00:00Z"));
        assert_eq!(
            answer.body,
            format!(
                "{{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"{updated}\",\n  \
                 \"InstanceProfileArn\" : \"arn:aws:iam::123456789012:instance-profile/exc_web\",\n  \
                 \"InstanceProfileId\" : \"AIPAEC2ROLEEC2ROLEEC2\"\n}}"
            )
        );
        assert_eq!(answer.header("Content-Type"), "text/plain");
    }
}

#[test]
fn extended_and_identity_credentials_are_404() {
    let served = serve(&[]);
    served.statuses(
        "GET",
        &[
            "/latest/meta-data/iam/security-credentials-extended/",
            "/latest/meta-data/iam/security-credentials-extended",
            "/latest/meta-data/iam/security-credentials-extended/exc_web",
            "/latest/meta-data/identity-credentials/",
            "/latest/meta-data/identity-credentials/ec2/info",
            "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
            "/latest/meta-data/iam/exc_web",
            "/latest/meta-data/iam/info/x",
            "/latest/user-data",
            "/latest/dynamic/instance-identity/document",
            "/latest/meta-data/instance-id",
            "/v2/credentials/exc_web",
            "/metrics",
        ],
        &[],
        404,
    );
}

#[test]
fn listings_name_only_what_is_served() {
    let sts = Sts::start([Reply::good()]);
    let without_region = Served {
        ec2_role: Start::bare()
            .listen("127.0.0.1:0")
            .keys("AKIA")
            .arguments([crate::support::ROLE, "--endpoint-url", &sts.url()])
            .serving(),
        _sts: sts,
    };
    for (served, meta_data) in [(serve(&[]), "iam/\nplacement/"), (without_region, "iam/")] {
        for (path, body) in [
            ("/latest", "meta-data"),
            ("/latest/", "meta-data"),
            ("/2021-03-23/", "meta-data"),
            ("/latest/meta-data", meta_data),
            ("/latest/meta-data/", meta_data),
            ("/latest/meta-data/iam", "info\nsecurity-credentials/"),
            ("/latest/meta-data/iam/", "info\nsecurity-credentials/"),
        ] {
            let answer = served.get(path);
            assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
            assert_eq!(answer.header("Content-Type"), "text/plain");
        }
        let (list, region) = (
            served.get("/latest/meta-data/placement/"),
            served.get("/latest/meta-data/placement/region"),
        );
        if meta_data.contains("placement") {
            assert_eq!((list.status, list.body.as_str()), (200, "region"));
            assert_eq!((region.status, region.body.as_str()), (200, "eu-west-1"));
        } else {
            // If no region is configured, STS calls are signed for us-east-1, but ec2-role serves no region.
            assert_eq!((list.status, region.status), (404, 404));
        }
    }
}

// Tests of methods, HTTP versions and request bodies.

#[test]
fn head_is_answered_as_get_without_the_body() {
    let served = serve(&[]);
    let token = served.token();
    for path in [
        "/",
        "/latest/meta-data/",
        LIST_PATH,
        DOCUMENT_PATH,
        INFO_PATH,
        "/nowhere",
    ] {
        let get = served.ask("GET", path, &[&token]);
        let head = served.ask("HEAD", path, &[&token]);
        assert_eq!(
            (head.status, head.body.as_str()),
            (get.status, ""),
            "{path}"
        );
        let without_clock = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            headers.retain(|(name, _)| name != "Date" && name != TTL_ANSWER);
            headers
        };
        assert_eq!(without_clock(&head), without_clock(&get), "{path}");
    }
}

#[test]
fn other_methods_on_metadata_are_405_with_allow() {
    let served = serve(&[]);
    let token = served.token();
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "PROPFIND",
    ] {
        for path in ["/", LIST_PATH, DOCUMENT_PATH, "/nowhere"] {
            for body in ["", "Content-Length: 5\r\n"] {
                let answer = served.send(&format!(
                    "{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{token}\r\n{body}\r\n{}",
                    if body.is_empty() { "" } else { "hello" }
                ));
                let response = (answer.status, answer.header("Allow"), answer.body.as_str());
                assert_eq!(response, (405, "GET, HEAD", ""), "{method} {path}");
            }
        }
    }
}

#[test]
fn http_1_0_and_small_bodies_are_answered() {
    let served = serve(&[]);
    for request in [
        format!("GET {LIST_PATH} HTTP/1.0\r\n\r\n"),
        format!(
            "GET {LIST_PATH} HTTP/1.0\r\nHost: 169.254.169.254\r\nConnection: keep-alive\r\n\r\n"
        ),
        format!("GET {LIST_PATH} HTTP/1.1\r\n\r\n"),
        format!("GET {LIST_PATH} HTTP/1.1\r\nHost:\r\n\r\n"),
        format!(
            "GET {LIST_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 5\r\n\r\nhello"
        ),
        format!("GET {LIST_PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n"),
    ] {
        let answer = served.send(&request);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "exc_web"),
            "{request:?}"
        );
    }
}

#[test]
fn a_large_body_or_one_of_unclear_length_is_413() {
    let served = serve(&[]);
    for (method, announced) in [
        ("PUT", "Content-Length: 100000"),
        ("GET", "Transfer-Encoding: gzip"),
        ("PUT", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
    ] {
        let headers = format!("Host: 169.254.169.254\r\n{TTL}: 60\r\n{announced}");
        let request = format!("{method} {TOKEN_PATH} HTTP/1.1\r\n{headers}\r\n\r\nhello");
        let answer = http::exchange(served.ec2_role.address, request.as_bytes()).unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (413, ""),
            "{request:?}"
        );
        let closes = ("Connection".to_owned(), "close".to_owned());
        assert!(answer.headers.contains(&closes), "{answer:?}");
    }
    assert_eq!(served.get(LIST_PATH).body, "exc_web");
}

// Tests of requests from browsers.

#[test]
fn a_host_header_with_a_foreign_name_is_403() {
    let served = serve(&["--allow-host", "metadata.example.com"]);
    let list =
        |host: &str| served.send(&format!("GET {LIST_PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in [
        "169.254.169.254",
        "169.254.169.254:80",
        "127.0.0.1:4567",
        "[fd00:ec2::254]",
        "[::1]:4567",
        "localhost",
        "LOCALHOST:4567",
        "localhost.",
        "metadata.example.com",
        "Metadata.Example.COM:4567",
    ] {
        assert_eq!(list(host).body, "exc_web", "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:4567",
        "169.254.169.254.evil.example",
        "x.metadata.example.com",
        "metadata.example.com.evil.example",
        "169.254.169.254.nip.io",
        "127.0.0.1:80:evil.com",
        "[::1].evil.com",
        "ec2-role:4567",
        "host.docker.internal",
        "[evil.example]",
        "169.254.169.254, evil.example",
    ] {
        let answer = list(host);
        assert_eq!(answer.status, 403, "{host}");
        assert!(answer.body.starts_with("ec2-role: "), "{host}: {answer:?}");
        let put = format!("PUT {TOKEN_PATH} HTTP/1.1\r\nHost: {host}\r\n{TTL}: 60\r\n\r\n");
        assert_eq!(served.send(&put).status, 403, "{host}");
    }
}

#[test]
fn browser_requests_are_403() {
    let served = serve(&[]);
    let token = served.token();
    for header in [
        "Origin: http://169.254.169.254",
        "origin: null",
        "ORIGIN:",
        "Sec-Fetch-Site: none",
        "sec-fetch-mode: cors\r\nsec-fetch-dest: empty",
        "SEC-FETCH-DEST: document",
        // Chromium 147 sends only this mark when it loads a page or a frame from an address other than loopback.
        "Upgrade-Insecure-Requests: 1",
    ] {
        for path in ["/", LIST_PATH, DOCUMENT_PATH] {
            let answer = served.ask("GET", path, &[&token, header]);
            assert_eq!(answer.status, 403, "{header}");
            assert!(
                answer.body.starts_with("ec2-role: "),
                "{header}: {answer:?}"
            );
        }
        let put = served.ask("PUT", TOKEN_PATH, &[&format!("{TTL}: 60"), header]);
        assert_eq!(put.status, 403, "{header}");
    }
    // Node's fetch sends only Sec-Fetch-Mode, and is served. A browser, which is refused, sends Sec-Fetch-Site too.
    let node = served.ask("GET", LIST_PATH, &[&token, "sec-fetch-mode: cors"]);
    assert_eq!(node.status, 200);
}
