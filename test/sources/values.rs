//! Checks that ec2-role trims white space around a value, and that it refuses a value that has quotes around it or a character
//! that no header or URL can carry.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use ec2_role::messages::{FetchOrders, to_frame};

use crate::support::loopback::Loopback;
use crate::support::{ROLE, Reply, SECRET, Start, Sts, each};

/// White space around a value: from a Windows env file, from a secret stored with a newline, or copied from a web page.
const AROUND: [&str; 6] = ["\r", "\n", "\r\n", " ", "\t", "\u{a0}"];
/// Characters that are invalid inside a value, each with the code point that the log line names.
const INSIDE: [(&str, &str); 7] = [
    ("\r", "U+000D"),
    ("\n", "U+000A"),
    ("\u{a0}", "U+00A0"),
    ("\u{200b}", "U+200B"),
    ("\u{feff}", "U+FEFF"),
    ("é", "U+00E9"),
    ("\u{1b}", "U+001B"),
];

fn agent() -> Loopback {
    Loopback::start(|request, connection| {
        let is_known = request.header("Authorization") == "Bearer s3cr3t";
        let body = "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s3cr3t\",\"Token\":\"s3cr3t\"}";
        connection.answer(if is_known { 200 } else { 401 }, "", body.as_bytes());
    })
}

/// A start with valid variables. `text` is added to the value of `name`: after the first character if `is_inside`, otherwise at
/// both ends.
fn with_variable(sts: &Sts, agent: &Loopback, name: &str, text: &str, is_inside: bool) -> Start {
    let secret = format!("{SECRET}/key");
    let url = sts.url();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", secret.as_str()),
        ("AWS_SESSION_TOKEN", "s3cr3t"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let agent = agent.url();
    let container = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer s3cr3t"),
    ];
    let variables = if name.contains("CONTAINER") {
        &container[..]
    } else {
        &keys[..]
    };
    let start = Start::bare().arguments([ROLE, "--credential-process"]);
    variables.iter().fold(start, |start, (variable, value)| {
        let value = match (*variable == name, is_inside) {
            (false, _) => (*value).to_owned(),
            (true, false) => format!("{text}{value}{text}"),
            (true, true) => format!("{}{text}{}", &value[..1], &value[1..]),
        };
        start.variable(variable, &value)
    })
}

const VARIABLES: [&str; 7] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

#[test]
fn white_space_around_a_variable_is_trimmed() {
    let (sts, agent) = (Sts::start([Reply::good()]), agent());
    for name in VARIABLES {
        each(AROUND, |text| {
            let ended = with_variable(&sts, &agent, name, text, false).run();
            assert_eq!(ended.status, Some(0), "{name} {text:?}: {ended:?}");
        });
    }
}

#[test]
fn quotes_that_an_env_file_kept_are_named() {
    let sts = Sts::start([Reply::good()]);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "\"AKIA\""),
        ("AWS_SECRET_ACCESS_KEY", "'s3cr3t'"),
        ("EC2_ROLE_ARN", "\"arn:aws:iam::123456789012:role/x\""),
    ] {
        let start = Start::with(&sts).variable(name, value);
        let start = if name == "EC2_ROLE_ARN" {
            Start::bare().variable(name, value)
        } else {
            start
        };
        let ended = start.run();
        let line = ended.lines.last().unwrap();
        assert!(
            line.contains(name)
                && line.contains("the quotes around it are part of it; remove them"),
            "{ended:?}"
        );
        assert_eq!(ended.status, Some(2), "{ended:?}");
    }
    assert_eq!(sts.calls().len(), 0);
}

#[test]
fn a_variable_with_an_impossible_character_is_named() {
    let (sts, agent) = (Sts::start([Reply::good()]), agent());
    for name in VARIABLES {
        each(INSIDE, |(text, code_point)| {
            let ended = with_variable(&sts, &agent, name, text, true).run();
            let line = &ended.lines[0];
            let is_one = (ended.status, ended.lines.len()) == (Some(2), 1);
            assert!(is_one && line.contains(name), "{name} {text:?}: {ended:?}");
            let is_key = name.contains("KEY") || name.contains("TOKEN");
            assert!(!is_key || line.contains(code_point), "{line}");
            assert!(!line.contains("panic") && !line.contains(SECRET), "{line}");
        });
    }
    assert_eq!(sts.calls().len(), 0);
}

#[test]
fn a_profile_with_an_impossible_character_is_named_by_its_key() {
    let sts = Sts::start([Reply::good()]);
    for key in [
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
    ] {
        each(
            INSIDE
                .into_iter()
                .filter(|(text, _)| !"\r\n".contains(text)),
            |(text, code_point)| {
                let start = Start::without_source(&sts).arguments(["--credential-process"]);
                let keys = [
                    "aws_access_key_id",
                    "aws_secret_access_key",
                    "aws_session_token",
                ];
                let lines =
                    keys.map(|it| format!("{it} = A{}B\n", if it == key { text } else { "" }));
                let ended = start
                    .file(
                        ".aws/credentials",
                        &format!("[default]\n{}", lines.concat()),
                    )
                    .run();
                let line = &ended.lines[0];
                let named = format!("{key} in the credentials file: character 2 is {code_point}");
                assert!(
                    ended.status == Some(1) && line.contains(&named),
                    "{ended:?}"
                );
            },
        );
    }
    assert_eq!(sts.calls().len(), 0);
}

#[test]
fn a_process_that_prints_an_impossible_character_is_one_line() {
    let sts = Sts::start([Reply::good()]);
    for text in ["\\\\r", "\\\\u200b", " ", "é"] {
        let start = Start::without_source(&sts).arguments(["--credential-process"]);
        let printed = format!(
            "printf '{{\"Version\":1,\"AccessKeyId\":\"A{text}B\",\"SecretAccessKey\":\"s3cr3t\"}}'"
        );
        let ended = start.credential_process(&printed).run();
        let expected = "AccessKeyId or SecretAccessKey is missing or malformed";
        assert!(
            ended.lines.len() == 1 && ended.lines[0].contains(expected),
            "{text}: {ended:?}"
        );
    }
}

/// Makes the fetcher panic by an order that no supervisor sends: the clock offset `i64::MIN`. After STS has rejected the
/// signature, the fetcher subtracts this offset from another, and the subtraction overflows.
#[test]
fn a_panic_is_one_line_and_its_step_was_reported() {
    let sts = Sts::start([Reply::error(403, "SignatureDoesNotMatch", "oh")]);
    let orders = FetchOrders {
        clock_offset: i64::MIN,
        ..FetchOrders::default()
    };
    let mut fetcher = Command::new(env!("CARGO_BIN_EXE_ec2-role"))
        .arg0("ec2-role-fetch")
        // The fetcher must lead a process group, as under the supervisor: if its stdin closes, it kills this group.
        .process_group(0)
        .args([ROLE, "--region", "eu-west-1", "--endpoint-url", &sts.url()])
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "AKIA")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = fetcher.stdin.take().unwrap();
    stdin.write_all(&to_frame(&orders)).unwrap();
    let ended = fetcher.wait_with_output().unwrap();
    // Keep the stdin open until here, because a fetcher ends when its stdin closes.
    drop(stdin);
    let reports = String::from_utf8_lossy(&ended.stdout);
    assert!(reports.contains("calling AssumeRole of"), "{reports}");
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(
        log.contains("internal error (at ") && log.lines().count() == 1,
        "{log}"
    );
    assert!(!ended.status.success(), "{ended:?}");
}
