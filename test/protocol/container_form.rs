//! Tests the container form: the credential at ECS's path, for clients that have the `AWS_CONTAINER_CREDENTIALS_*` variables.

use serde_json::Value;

use crate::support::http::{Answer, DOCUMENT_PATH, LIST_PATH, TOKEN, TOKEN_PATH, TTL};
use crate::support::sts::{access_key_id, secret_access_key, session_token};
use crate::support::{Directory, Ec2Role, ROLE, Reply, Start, Sts, until};

const PATH: &str = "/v2/credentials/exc_web";
const FIRST: &str = "s3cr3t/token+of=a.file";

struct Served {
    ec2_role: Ec2Role,
    files: Directory,
    sts: Sts,
}

impl Served {
    fn new(token: &str, arguments: &[&str], reply: Reply) -> Self {
        let (sts, files) = (Sts::start([reply]), Directory::new());
        let file = files.write("token", token);
        let ec2_role = Start::with(&sts)
            .arguments(["--container-token-file", &file])
            .arguments(arguments.iter().copied())
            .start();
        Served {
            ec2_role,
            files,
            sts,
        }
    }

    #[track_caller]
    fn serving(token: &str, arguments: &[&str]) -> Self {
        let served = Self::new(token, arguments, Reply::good());
        served.ec2_role.wait_for_line("ec2-role: credential of ");
        served
    }

    #[track_caller]
    fn get(&self, path: &str, token: &str) -> Answer {
        self.ec2_role
            .request("GET", path, &[("Authorization", token)])
    }
}

/// Checks that the error can be parsed by every SDK: Go's SDK takes the lower-case keys, JavaScript's the capitalised ones.
#[track_caller]
fn check_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), "application/json");
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&json["code"], &json["Code"]), (&code.into(), &code.into()));
    let message = json["message"].as_str().unwrap();
    assert!(
        !message.is_empty() && json["Message"] == message,
        "{answer:?}"
    );
    assert_eq!(json.as_object().unwrap().len(), 4, "{answer:?}");
}

#[test]
fn the_right_token_gets_the_document_of_ecs() {
    let served = Served::serving(FIRST, &["--both-forms"]);
    for path in [
        PATH,
        "/v2/credentials/exc_web?id=a/b",
        "/v2/credentials/exc_web/",
        // AWS's SDK for C++ escapes some characters of a role's name, such as `+` and `@`.
        "/v2/credentials/exc%5Fweb",
    ] {
        let answer = served.get(path, FIRST);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (200, "application/json"),
            "{path}"
        );
        for (key, value) in [
            ("RoleArn", ROLE.to_owned()),
            ("AccountId", "123456789012".to_owned()),
            ("AccessKeyId", access_key_id(1)),
            ("SecretAccessKey", secret_access_key(1)),
            ("Token", session_token(1)),
            ("Expiration", served.ec2_role.document().field("Expiration")),
        ] {
            assert_eq!(answer.field(key), value, "{path}");
        }
        assert!(!answer.body.contains("\\/"), "{answer:?}");
    }
    let head = served
        .ec2_role
        .request("HEAD", PATH, &[("authorization", FIRST)]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn a_wrong_or_missing_token_is_401_in_json() {
    let served = Served::serving(FIRST, &["--both-forms"]);
    check_error(&served.ec2_role.get(PATH), 401, "Unauthorized");
    let session = served.ec2_role.token("60");
    let with_session = served.ec2_role.request("GET", PATH, &[(TOKEN, &session)]);
    check_error(&with_session, 401, "Unauthorized");
    let bearer = format!("Bearer {FIRST}");
    for wrong in [
        "",
        "x",
        &FIRST[1..],
        &FIRST[..FIRST.len() - 1],
        &bearer,
        &FIRST.to_uppercase(),
        &session,
    ] {
        check_error(&served.get(PATH, wrong), 401, "Unauthorized");
        // Unknown names get the same response: a client without a token must not learn which names exist.
        check_error(
            &served.get("/v2/credentials/other", wrong),
            401,
            "Unauthorized",
        );
    }
}

#[test]
fn a_scheme_in_the_file_is_part_of_the_token() {
    let served = Served::serving("Bearer one two\n", &[]);
    assert_eq!(served.get(PATH, "Bearer one two").status, 200);
    for wrong in ["one two", "bearer one two", "Bearer  one two", "Bearer one"] {
        check_error(&served.get(PATH, wrong), 401, "Unauthorized");
    }
}

#[test]
fn errors_of_the_container_endpoint_are_json() {
    let served = Served::serving(FIRST, &["--role-name", "temp"]);
    assert_eq!(served.get("/v2/credentials/temp", FIRST).status, 200);
    assert_eq!(served.get("/v2/credentials/", FIRST).body, "temp");
    for name in ["exc_web", "TEMP", "temp/x", "../credentials/temp", "%54EMP"] {
        let path = format!("/v2/credentials/{name}");
        check_error(&served.get(&path, FIRST), 404, "InvalidIdInRequest");
    }
    for method in ["PUT", "POST", "DELETE", "OPTIONS"] {
        let answer =
            served
                .ec2_role
                .request(method, "/v2/credentials/temp", &[("Authorization", FIRST)]);
        check_error(&answer, 405, "MethodNotAllowed");
        assert_eq!(answer.header("Allow"), "GET, HEAD");
    }
    for header in ["X-Forwarded-For", "x-forwarded-for"] {
        let headers = [("Authorization", FIRST), (header, "1.2.3.4")];
        check_error(
            &served
                .ec2_role
                .request("GET", "/v2/credentials/temp", &headers),
            403,
            "Forbidden",
        );
    }
    for headers in [
        [("Authorization", FIRST), ("Origin", "null")],
        [("Authorization", FIRST), ("Host", "evil.example")],
    ] {
        let answer = served
            .ec2_role
            .request("GET", "/v2/credentials/temp", &headers);
        assert_eq!(answer.status, 403);
    }
    // Without a slash after `credentials`, the path is not of the container form. So the response is EC2's 404 page, which is
    // text/html.
    assert_eq!(
        served.get("/v2/credentials", FIRST).header("Content-Type"),
        "text/html"
    );
}

/// EC2's paths need no container token, so a client without a container token could get the credential there. To prevent this,
/// the `iam` paths are 404 unless `--both-forms` is set.
#[test]
fn with_a_container_token_no_other_path_leads_to_the_credential() {
    for arguments in [&[][..], &["--http-tokens", "required"], &["--pass-through"]] {
        let served = Served::serving(FIRST, arguments);
        let ec2_role = &served.ec2_role;
        let is_passed_through = arguments.contains(&"--pass-through");
        let put = ec2_role.request("PUT", TOKEN_PATH, &[(TTL, "60")]);
        assert_eq!(put.status, if is_passed_through { 200 } else { 404 });
        let session = (TOKEN, put.body.as_str());
        let authorization = ("Authorization", FIRST);
        for path in [
            LIST_PATH,
            DOCUMENT_PATH,
            "//latest/meta-data/%69am/security-credentials/exc_web",
            "/2021-03-23/meta-data/iam/security-credentials/exc_web",
            "/latest/meta-data/iam/info",
            "/latest/meta-data/iam/",
        ] {
            for headers in [&[][..], &[authorization]] {
                assert_eq!(ec2_role.request("GET", path, headers).status, 404, "{path}");
            }
            if is_passed_through {
                assert_eq!(
                    ec2_role.request("GET", path, &[session]).status,
                    404,
                    "{path}"
                );
            }
        }
        if !arguments.contains(&"required") {
            assert!(!ec2_role.get("/latest/meta-data/").body.contains("iam"));
            let region = ec2_role.get("/latest/meta-data/placement/region");
            assert_eq!(region.status == 200, !is_passed_through);
        }
        assert_eq!(
            served.get(PATH, FIRST).field("AccessKeyId"),
            access_key_id(1)
        );
    }
}

#[test]
fn check_shows_the_container_token() {
    let served = Served::serving(FIRST, &[]);
    let (address, right) = (
        served.ec2_role.address.to_string(),
        served.files.text("token"),
    );
    served.files.write("wrong", "wrong");
    served.files.write("lines", "two\nlines");
    let check = |file: &str, arguments: &[&str]| {
        Start::bare()
            .listen(&address)
            .variable("EC2_ROLE_CONTAINER_TOKEN_FILE", file)
            .arguments(["--check"])
            .arguments(arguments.iter().copied())
            .run()
    };
    let other = "arn:aws:iam::210987654321:role/exc_web";
    for (file, arguments, status, expected) in [
        (&right, &[][..], 0, "all is well: it serves exc_web until "),
        (&right, &[ROLE], 0, "all is well: it serves exc_web until "),
        (
            &right,
            &[other],
            1,
            "it serves exc_web, and not arn:aws:iam::210987654321",
        ),
        (
            &right,
            &[ROLE, "--role-name", "x"],
            1,
            "give its own --listen and --role-name",
        ),
        (
            &served.files.text("wrong"),
            &[],
            1,
            "it answered 401 to GET /v2/credentials/",
        ),
        (
            &served.files.text("lines"),
            &[],
            1,
            "or give the --listen and --container-token-file",
        ),
        (
            &served.files.text("none"),
            &[],
            1,
            "EC2_ROLE_CONTAINER_TOKEN_FILE ",
        ),
    ] {
        let ended = check(file, arguments);
        let output = format!("{}{}", ended.stdout, ended.lines.join(""));
        assert!(
            ended.status == Some(status) && output.contains(expected),
            "{output}"
        );
    }
}

#[test]
fn without_the_option_the_endpoint_is_404() {
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).serving();
    for headers in [
        &[][..],
        &[("Authorization", "")],
        &[("Authorization", FIRST)],
    ] {
        let answer = ec2_role.request("GET", PATH, headers);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (404, "text/html")
        );
    }
}

#[test]
fn without_a_credential_it_is_500_in_json_and_recovers() {
    let served = Served::new(FIRST, &[], Reply::error(503, "ServiceUnavailable", "later"));
    served
        .ec2_role
        .wait_for_line("no credential, requests are answered 500");
    check_error(&served.get(PATH, FIRST), 500, "CredentialsUninitialized");
    check_error(&served.get(PATH, "wrong"), 401, "Unauthorized");
    served.sts.replies_now(Reply::good());
    let answer = until("the document", || {
        Some(served.get(PATH, FIRST)).filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.field("RoleArn"), ROLE);
}

#[test]
fn required_tokens_are_separate_for_each_endpoint() {
    let served = Served::serving(FIRST, &["--http-tokens", "required", "--both-forms"]);
    let session = served.ec2_role.token("60");
    assert_eq!(served.get(PATH, FIRST).status, 200);
    assert_eq!(served.ec2_role.get(PATH).status, 401);
    assert_eq!(served.get(DOCUMENT_PATH, FIRST).status, 401);
    assert_eq!(
        served
            .ec2_role
            .request("GET", PATH, &[(TOKEN, &session)])
            .status,
        401
    );
    assert_eq!(
        served
            .ec2_role
            .request("GET", DOCUMENT_PATH, &[(TOKEN, &session)])
            .status,
        200
    );
}

#[test]
fn a_changed_container_token_file_is_read_again() {
    let served = Served::serving(FIRST, &[]);
    assert_eq!(served.get(PATH, FIRST).status, 200);
    served.files.write("token", "second");
    until("the second token", || {
        (served.get(PATH, "second").status == 200).then_some(())
    });
    check_error(&served.get(PATH, FIRST), 401, "Unauthorized");
    for content in ["", "two\nlines", "é"] {
        let lines = served.ec2_role.lines().len();
        served.files.write("token", content);
        served
            .ec2_role
            .wait_for_line_after(lines, "the token that was read before stays valid");
        assert_eq!(served.get(PATH, "second").status, 200);
        served.files.write("token", "second");
        std::fs::write(served.files.path("token"), "third\n").unwrap();
        until("the third token", || {
            (served.get(PATH, "third").status == 200).then_some(())
        });
        served.files.write("token", "second");
        until("the second token", || {
            (served.get(PATH, "second").status == 200).then_some(())
        });
    }
}
