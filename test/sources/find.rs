//! Checks from which source ec2-role takes the host's credential: each source alone, the order of all, incomplete sources, and
//! the error if no source has a credential.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::support::directory::set_mode;
use crate::support::ec2_role::SOURCE_KEY;
use crate::support::host_metadata::{HostMetadata, INSTANCE_ID, REGION, Tokens};
use crate::support::loopback::{Loopback, Request};
use crate::support::namespace;
use crate::support::sts::access_key_id;
use crate::support::{Directory, Ended, ROLE, Reply, SECRET, Start, Sts, Watched, each, until};

fn sts() -> Sts {
    Sts::start([Reply::good()])
}

/// Starts ec2-role and returns the access key id that signed the last STS call.
#[track_caller]
fn signed_with(sts: &Sts, start: Start) -> String {
    let _ec2_role = start.serving();
    sts.calls().last().unwrap().access_key_id().to_owned()
}

fn keys(section: &str, access_key_id: &str) -> String {
    format!(
        "[{section}]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {SECRET}/key\n"
    )
}

/// Runs ec2-role with --credential-process, which fetches once, and returns its only log line and its exit status.
#[track_caller]
fn once(start: Start) -> (String, i32) {
    let ended: Ended = start.arguments(["--credential-process"]).run();
    assert_eq!(
        (ended.lines.len(), ended.stdout.as_str()),
        (1, ""),
        "{ended:?}"
    );
    (ended.lines[0].clone(), ended.status.unwrap())
}

#[track_caller]
fn check_once(start: Start, status: i32, parts: &[&str]) {
    let (line, ended) = once(start);
    assert!(
        ended == status && parts.iter().all(|part| line.contains(part)),
        "{parts:?}, {status}: {ended} {line}"
    );
}

fn printing(access_key_id: &str) -> String {
    format!(
        "echo '{{\"Version\":1,\"AccessKeyId\":\"{access_key_id}\",\"SecretAccessKey\":\"{SECRET}/key\"}}'"
    )
}

/// A container credential service: requests with this Authorization header get this status and body, and others get 401.
fn container(authorization: &str, status: u16, body: &str) -> Loopback {
    let (authorization, body) = (authorization.to_owned(), body.to_owned());
    Loopback::start(move |request, connection| {
        let is_known = request.header("Authorization") == authorization;
        connection.answer(if is_known { status } else { 401 }, "", body.as_bytes());
    })
}

fn document(access_key_id: &str) -> String {
    format!(
        "{{\"AccessKeyId\":\"{access_key_id}\",\"SecretAccessKey\":\"{SECRET}/key\",\"Token\":\"{SECRET}/token\"}}"
    )
}

#[test]
fn sources_are_tried_in_the_documented_order() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    let agent = container("", 200, &document("ASIACONTAINER"));
    let sts = sts();
    let with_host = || host.known_to(Start::without_source(&sts));
    assert_eq!(signed_with(&sts, with_host()), "ASIAHOST");
    let with_container =
        || with_host().variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.url());
    assert_eq!(signed_with(&sts, with_container()), "ASIACONTAINER");
    let with_config = || with_container().file(".aws/config", &keys("default", "AKIACONFIG"));
    assert_eq!(signed_with(&sts, with_config()), "AKIACONFIG");
    let with_files = || with_config().file(".aws/credentials", &keys("default", "AKIAFILE"));
    assert_eq!(signed_with(&sts, with_files()), "AKIAFILE");
    let other = "[profile other]\naws_access_key_id=AKIAOTHER\naws_secret_access_key=s3cr3t\n";
    let with_other = || with_files().file(".aws/config", other);
    assert_eq!(
        signed_with(&sts, with_other().variable("AWS_PROFILE", "other")),
        "AKIAOTHER"
    );
    assert_eq!(
        signed_with(
            &sts,
            with_other()
                .variable("AWS_PROFILE", "other")
                .keys(SOURCE_KEY)
        ),
        SOURCE_KEY
    );
    assert_eq!(
        signed_with(
            &sts,
            with_other()
                .arguments(["--profile", "other"])
                .keys(SOURCE_KEY)
        ),
        "AKIAOTHER"
    );
}

#[test]
fn tilde_paths_and_quoted_profile_names_are_read() {
    let sts = sts();
    let start = || {
        Start::without_source(&sts)
            .file("mine/keys", &keys("by file", "AKIAFILE"))
            .file("mine/settings", &keys("profile 'by config'", "AKIACONFIG"))
            .variable("AWS_SHARED_CREDENTIALS_FILE", "~/mine/keys")
            .variable("AWS_CONFIG_FILE", "~/mine/settings")
    };
    for (profile, key) in [("by file", "AKIAFILE"), ("by config", "AKIACONFIG")] {
        let start = start().arguments(["--profile", profile]);
        assert_eq!(signed_with(&sts, start), key);
    }
}

/// In a company with many AWS accounts, tools write one profile for each role in each account.
#[test]
fn a_config_file_with_profiles_of_thousands_of_accounts_is_read() {
    let sts = sts();
    let profiles = (0..10_000).map(|number| {
        format!(
            "[profile account-of-team-{number}.AdministratorAccess]\nsso_session = corp\nsso_account_id = {}\n\
             sso_role_name = AdministratorAccess\nregion = eu-west-1\noutput = json\n\n",
            100_000_000_000u64 + number
        )
    });
    let config = profiles.chain([keys("profile last", "AKIALAST")]);
    let start = Start::without_source(&sts).file(".aws/config", &config.collect::<String>());
    let start = start.arguments(["--profile", "last"]);
    assert_eq!(signed_with(&sts, start), "AKIALAST");
}

#[test]
fn dev_null_is_no_file_and_an_unexpanded_path_is_named() {
    let sts = sts();
    for variable in ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"] {
        let start = || Start::with(&sts).variable(variable, "/dev/null");
        assert_eq!(signed_with(&sts, start()), SOURCE_KEY);
        for path in [
            "$HOME/.aws/mine",
            "~root/.aws/mine",
            "\"/srv/mine\"",
            "'~/.aws/mine'",
            "/srv/mine # keys",
            "%d/mine",
        ] {
            let expected =
                format!("{variable} {path}: only ~/ is expanded, and the path must be UTF-8");
            check_once(start().variable(variable, path), 1, &[&expected]);
        }
        let directory = start().file("a$b/c", "").variable(variable, "~/a$b");
        check_once(
            directory,
            1,
            &["a$b: cannot be read: it is not a regular file"],
        );
    }
    // In HOME a dollar sign is accepted, because the home directories of some service accounts end in one.
    assert_eq!(
        signed_with(&sts, Start::with(&sts).variable("HOME", "/home/service$")),
        SOURCE_KEY
    );
}

/// systemd's ProtectHome= makes home directories inaccessible.
#[test]
fn an_inaccessible_home_fails_only_a_fetch_that_needs_its_files() {
    // Root can enter every directory, so as root this test runs ec2-role without the capabilities for that.
    let before = match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-dac_override,-dac_read_search"][..],
        false => &["env"],
    };
    let (sts, home) = (sts(), Directory::new());
    set_mode(&home.path(""), 0);
    let start = || {
        let start = Start::without_source(&sts).before(before.iter().copied());
        start.variable("HOME", &home.text(""))
    };
    let with_keys = || start().keys(SOURCE_KEY);
    with_keys()
        .serving()
        .wait_for_line("/.aws/config: cannot be read: Permission denied");
    assert_eq!(sts.calls()[0].access_key_id(), SOURCE_KEY);
    // No source after the shared files is used, because files that cannot be read may hold a credential.
    let agent = container("", 200, &document("ASIACONTAINER"));
    let after = || start().variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.url());
    let remedy = ["or set AWS_CONFIG_FILE=/dev/null to do without"];
    check_once(after(), 1, &remedy);
    let without = after().variable("AWS_CONFIG_FILE", "/dev/null");
    let without = without.variable("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    assert_eq!(signed_with(&sts, without), "ASIACONTAINER");
    for start in [
        start(),
        with_keys().variable("AWS_PROFILE", "other"),
        with_keys().variable("AWS_CONFIG_FILE", "~/.aws/config"),
    ] {
        let expected = [
            "AWS_CONFIG_FILE ",
            "/.aws/config: cannot be read: Permission denied",
        ];
        check_once(start, 1, &expected);
    }
    set_mode(&home.path(""), 0o700);
}

#[test]
fn a_home_directory_that_is_not_utf8_is_named() {
    let enter = "HOME=$(printf '%s/jos\\351' \"$HOME\") exec \"$@\"";
    let start = Start::without_source(&sts()).before(["sh", "-c", enter, "sh"]);
    let ec2_role = start.start();
    ec2_role.wait_for_line("the path must be UTF-8; write the whole path");
}

#[test]
fn without_home_the_files_of_root_are_read() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let sts = sts();
    let start = Start::without_source(&sts).without_variable("HOME");
    let start = start.file(".aws/credentials", &keys("default", "AKIAHOME"));
    // Run a copy of the binary: the original may be in /root, which the mount below hides.
    let program = start.home.text("ec2-role");
    std::fs::copy(env!("CARGO_BIN_EXE_ec2-role"), &program).unwrap();
    let mount = Command::new("mount")
        .args(["--bind", &start.home.text(""), "/root"])
        .status();
    assert!(mount.unwrap().success());
    assert_eq!(signed_with(&sts, start.program(program)), "AKIAHOME");
}

#[test]
fn the_sources_session_token_is_sent_and_signed() {
    let sts = sts();
    let start = Start::with(&sts).variable("AWS_SESSION_TOKEN", &format!("{SECRET}/session"));
    signed_with(&sts, start);
    let request = &sts.calls()[0].request;
    assert_eq!(
        request.header("X-Amz-Security-Token"),
        format!("{SECRET}/session")
    );
    assert!(
        request
            .header("Authorization")
            .contains("x-amz-security-token"),
        "{request:?}"
    );
}

#[test]
fn old_name_of_the_session_token_is_accepted() {
    let sts = sts();
    let token = format!("{SECRET}/old");
    signed_with(
        &sts,
        Start::with(&sts).variable("AWS_SECURITY_TOKEN", &token),
    );
    let profile = keys("default", "AKIAFILE") + &format!("aws_security_token = {token}\n");
    signed_with(
        &sts,
        Start::without_source(&sts).file(".aws/credentials", &profile),
    );
    for call in sts.calls() {
        assert_eq!(call.request.header("X-Amz-Security-Token"), token);
    }
}

#[test]
fn aws_default_profile_is_used_without_aws_profile() {
    let sts = sts();
    let both = keys("old", "AKIAOLD") + &keys("new", "AKIANEW");
    let start = || {
        Start::without_source(&sts)
            .file(".aws/credentials", &both)
            .variable("AWS_DEFAULT_PROFILE", "old")
    };
    assert_eq!(signed_with(&sts, start()), "AKIAOLD");
    assert_eq!(
        signed_with(&sts, start().variable("AWS_PROFILE", "new")),
        "AKIANEW"
    );
}

#[test]
fn a_profiles_web_identity_wins_over_its_keys() {
    let sts = sts();
    let first = "arn:aws:iam::123456789012:role/first";
    let start = Start::without_source(&sts).file("token", &format!("{SECRET}.web.identity"));
    let profile = format!(
        "{}role_arn = {first}\nrole_session_name = mine\nweb_identity_token_file = {}\n",
        keys("default", "AKIABESIDE"),
        start.home.text("token")
    );
    assert_eq!(
        signed_with(&sts, start.file(".aws/config", &profile)),
        access_key_id(1)
    );
    let exchange = &sts.calls()[0];
    assert_eq!(
        ["Action", "RoleArn", "RoleSessionName", "WebIdentityToken"]
            .map(|name| exchange.parameter(name)),
        [
            "AssumeRoleWithWebIdentity",
            first,
            "mine",
            &format!("{SECRET}.web.identity")
        ]
    );
}

#[test]
fn a_relative_uri_is_fetched_from_the_ecs_agent() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let added = std::process::Command::new("ip")
        .args(["address", "add", "169.254.170.2/32", "dev", "lo"])
        .status();
    assert!(added.unwrap().success());
    let agent = ([169, 254, 170, 2], 80);
    let _agent = Loopback::at(agent.into(), |request, connection| {
        let is_known = request.target == "/v2/credentials/1?a=b"
            && request.header("Authorization") == "s3cr3t.token";
        let document = document("ASIATASK");
        connection.answer(if is_known { 200 } else { 404 }, "", document.as_bytes());
    });
    let sts = sts();
    let start = Start::without_source(&sts)
        .variable(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/credentials/1?a=b",
        )
        .variable(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "http://127.0.0.1:1/not-this",
        )
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "s3cr3t.token")
        // The ECS agent's address is link-local, so requests to it never use the proxy.
        .variable("http_proxy", "http://127.0.0.1:1");
    assert_eq!(signed_with(&sts, start), "ASIATASK");
}

#[test]
fn a_web_identity_is_exchanged_for_a_role_that_assumes_ours() {
    let sts = sts();
    let first = "arn:aws:iam::123456789012:role/first";
    let start = Start::without_source(&sts).file("token", &format!("{SECRET}.web.identity\n"));
    let file = start.home.text("token");
    let start = start
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", &file)
        .variable("AWS_ROLE_ARN", first);
    let ec2_role = start.serving();
    let calls = sts.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].parameter("Action"), "AssumeRoleWithWebIdentity");
    assert_eq!(calls[0].parameter("RoleArn"), first);
    assert_eq!(
        calls[0].parameter("WebIdentityToken"),
        format!("{SECRET}.web.identity")
    );
    assert_eq!(calls[0].request.header("Authorization"), "");
    assert_eq!(
        (calls[1].parameter("Action"), calls[1].parameter("RoleArn")),
        ("AssumeRole".into(), ROLE.into())
    );
    assert_eq!(calls[1].access_key_id(), access_key_id(1));
    assert_eq!(ec2_role.document().field("AccessKeyId"), access_key_id(2));
}

#[test]
fn a_denied_web_identity_points_to_the_trust_policy() {
    let denied = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
    let sts = Sts::start([Reply::error(403, "AccessDenied", denied)]);
    let start = Start::without_source(&sts).file("token", &format!("{SECRET}.web.identity\n"));
    let file = start.home.text("token");
    let start = start
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", &file)
        .variable("AWS_ROLE_ARN", ROLE);
    let remedy = "must name the token's issuer, audience and subject";
    check_once(start, 1, &["AssumeRoleWithWebIdentity of ", remedy]);
}

#[test]
fn an_incomplete_source_is_an_error_and_not_skipped() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    let sts = sts();
    let start = || host.known_to(Start::without_source(&sts));
    check_once(
        start().variable("AWS_ACCESS_KEY_ID", "AKIA"),
        2,
        &["AWS_SECRET_ACCESS_KEY is not", "both or neither"],
    );
    check_once(
        start().variable("AWS_SECRET_ACCESS_KEY", SECRET),
        2,
        &["AWS_ACCESS_KEY_ID is not", "both or neither"],
    );
    for name in ["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"] {
        check_once(
            start().variable(name, SECRET),
            2,
            &[name, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not"],
        );
    }
    for (half, expected) in [
        (
            "aws_access_key_id = AKIA",
            "aws_secret_access_key is not; set both",
        ),
        (
            "aws_secret_access_key = s3cr3t",
            "aws_access_key_id is not; set both",
        ),
        (
            "aws_session_token = s3cr3t",
            "are not; set all three or none",
        ),
        ("web_identity_token_file = /nowhere", "role_arn is not"),
    ] {
        let half = format!("[default]\n{half}\n");
        for file in [".aws/config", ".aws/credentials"] {
            let start = start().file(file, &half);
            check_once(start, 1, &["profile \"default\": ", expected]);
        }
    }
    let (id, secret) = (
        "[default]\naws_access_key_id = AKIA\n",
        "[default]\naws_secret_access_key = s3cr3t\n",
    );
    let torn = start()
        .file(".aws/config", secret)
        .file(".aws/credentials", id);
    check_once(
        torn,
        1,
        &[
            "aws_access_key_id in the credentials file: it is set",
            "both or neither",
        ],
    );
    check_once(
        start().variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere"),
        2,
        &["AWS_ROLE_ARN is not"],
    );
    let role = "arn:aws:iam::123456789012:role/first";
    let with_role = start()
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere")
        .variable("AWS_ROLE_ARN", role);
    check_once(
        with_role,
        1,
        &["AWS_WEB_IDENTITY_TOKEN_FILE /nowhere", "cannot be read"],
    );
    let with_user = start()
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere")
        .variable("AWS_ROLE_ARN", "me");
    check_once(
        with_user,
        2,
        &["AWS_ROLE_ARN", "\"me\" is not a role's ARN"],
    );
    assert_eq!((sts.calls().len(), host.requests().len()), (0, 0));
}

#[test]
fn unsupported_profile_keys_are_refused() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    let sts = sts();
    let beside = [
        String::new(),
        keys("default", "AKIABESIDE"),
        "[default]\ncredential_process = false\n".to_owned(),
    ];
    let rows = [
        "role_arn = arn:aws:iam::123456789012:role/x",
        "source_profile = x",
        "credential_source = Environment",
        "sso_session = x",
        "sso_start_url = x",
        "sso_account_id = 123456789012",
        "sso_role_name = x",
        "login_session = x",
    ];
    for (key, beside) in rows
        .iter()
        .flat_map(|key| beside.iter().map(move |beside| (key, beside)))
    {
        let start = host
            .known_to(Start::without_source(&sts))
            .file(".aws/config", &format!("[default]\n{key}\n"))
            .file(".aws/credentials", beside);
        let name = key.split(' ').next().unwrap();
        let is_sign_in = name.starts_with("sso") || name == "login_session";
        if is_sign_in && beside.contains("credential_process") {
            // Sign-in settings are no error if the profile has a credential_process too: users add it for programs that do not
            // support the sign-in. So ec2-role runs the command, here `false`, which fails.
            check_once(start, 1, &["credential_process: it failed"]);
            continue;
        }
        // Keys in the credentials file take precedence over a login, as in botocore, so there is no error to check.
        if name == "login_session" && beside.contains("AKIABESIDE") {
            continue;
        }
        let place = if is_sign_in {
            "this one"
        } else {
            "another profile"
        };
        let remedy = format!(
            "credential_process = aws configure export-credentials --profile default to {place}"
        );
        check_once(
            start,
            1,
            &[&format!("profile \"default\": {name}: "), &remedy],
        );
    }
    assert_eq!((sts.calls().len(), host.requests().len()), (0, 0));
}

#[test]
fn a_process_ranks_between_credentials_and_config_file() {
    let sts = sts();
    let start = || {
        let start = Start::without_source(&sts);
        let program = start.home.program("print", &printing("AKIAPROCESS"));
        let config = keys("default", "AKIACONFIG") + &format!("credential_process = {program}\n");
        start.file(".aws/config", &config)
    };
    assert_eq!(signed_with(&sts, start()), "AKIAPROCESS");
    let file = keys("default", "AKIAFILE");
    assert_eq!(
        signed_with(&sts, start().file(".aws/credentials", &file)),
        "AKIAFILE"
    );
    // A session token in .aws/config does not belong to keys in .aws/credentials, so ec2-role must not send it with these keys.
    let config = "[default]\naws_session_token = s3cr3t\n";
    let start = Start::without_source(&sts).file(".aws/config", config);
    signed_with(&sts, start.file(".aws/credentials", &file));
    let calls = sts.calls();
    assert_eq!(
        calls.last().unwrap().request.header("X-Amz-Security-Token"),
        ""
    );
}

#[test]
fn missing_source_is_reported_with_a_remedy() {
    let sts = sts();
    check_once(
        Start::without_source(&sts),
        1,
        &[
            "AWS_EC2_METADATA_DISABLED is true",
            "give keys in variables or a profile",
        ],
    );
    let nobody = ["profile \"nobody\"", ".aws/config"];
    let start = || Start::without_source(&sts);
    check_once(start().variable("AWS_PROFILE", "nobody"), 1, &nobody);
    check_once(start().arguments(["--profile", "nobody"]), 1, &nobody);
    // A profile's section is [profile nobody] in the config file and [nobody] in the credentials file.
    let section = start().file(".aws/config", &keys("nobody", "AKIA"));
    let remedy = ["write [profile nobody] for [nobody]"];
    check_once(section.variable("AWS_PROFILE", "nobody"), 1, &remedy);
    let section = start().file(".aws/credentials", &keys("profile nobody", "AKIA"));
    let remedy = ["write [nobody] for [profile nobody] in the second"];
    check_once(section.variable("AWS_PROFILE", "nobody"), 1, &remedy);
}

#[test]
fn a_credential_process_runs_without_a_shell_each_refresh() {
    let sts = Sts::start([Reply::good().valid_for(2)]);
    let start = Start::without_source(&sts);
    let count = "n=$(($(cat \"$2\" 2>/dev/null || echo 0) + 1)); echo $n > \"$2\"";
    let script = format!(
        "test \"$1\" = 'a b' || exit 1\n{count}\n{}",
        printing("AKIA'$n'")
    );
    let (program, file) = (
        start.home.program("print", &script),
        start.home.text("count"),
    );
    let config = format!("[default]\ncredential_process = {program} 'a b' \"{file}\" # said\n");
    let _ec2_role = start.file(".aws/config", &config).serving();
    let calls = sts.wait_for_calls(3);
    let keys: Vec<&str> = calls.iter().map(|call| call.access_key_id()).collect();
    assert_eq!(keys, ["AKIA1", "AKIA2", "AKIA3"]);
}

#[test]
fn lines_of_a_credential_process_are_json_if_configured() {
    let sts = sts();
    // Three hard cases: the script opens /dev/stderr by name, which would truncate it if it were a file; `sleep` keeps stderr
    // open after the script's end; and the last line is longer than a pipe's capacity.
    let script = "set -e; echo 'not signed in' >/dev/stderr; sleep 3 >/dev/null & echo now >&2; printf %099999d >&2; exit 7";
    let ended = Start::without_source(&sts)
        .credential_process(script)
        .arguments(["--credential-process", "--log-format", "json"])
        .run();
    let message = |line: &String| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        json["message"].as_str().unwrap().to_owned()
    };
    let messages: Vec<String> = ended.lines.iter().map(message).collect();
    let prefix = "profile \"default\": credential_process";
    let expected = [
        " said: not signed in",
        " said: now",
        " said: 0000",
        ": it failed (exit status: 7)",
    ];
    assert_eq!(messages.len(), expected.len(), "{messages:?}");
    for (message, expected) in messages.iter().zip(expected) {
        let is_it = message.starts_with(&format!("{prefix}{expected}"));
        assert!(is_it, "{expected:?} is not in {message}");
    }
}

/// Under systemd, ec2-role's stderr is a socket, which nobody can open as `/dev/stderr`. So a credential_process gets a pipe.
#[test]
fn a_credential_process_can_open_dev_stderr_in_a_unit() {
    let sts = sts();
    let script = format!("set -e; echo asking >/dev/stderr; {}", printing("AKIA"));
    let start = Start::without_source(&sts).credential_process(&script);
    let (mut journal, stderr) = UnixStream::pair().unwrap();
    let start = start.stderr(OwnedFd::from(stderr));
    let ended = start.arguments(["--credential-process"]).run();
    let mut log = String::new();
    journal.read_to_string(&mut log).unwrap();
    assert_eq!(ended.status, Some(0), "{log}");
    assert!(log.contains("credential_process said: asking\n"), "{log}");
}

/// The reader of the log may hang, as a container engine's log driver can.
#[test]
fn a_full_stderr_pipe_blocks_no_credential_process() {
    let sts = sts();
    let script = format!("echo asking >&2; {}", printing("AKIA"));
    let start = Start::without_source(&sts).credential_process(&script);
    let (_reader, mut writer) = std::io::pipe().unwrap();
    let room = rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    writer.write_all(&vec![b'x'; room]).unwrap();
    let ended = start
        .arguments(["--credential-process"])
        .stderr(writer)
        .run();
    assert_eq!(ended.status, Some(0));
}

/// A profile whose credential_process runs ec2-role for this role.
fn as_process(profile: &str, sts: &Sts, source: &str, role: &str) -> String {
    format!(
        "[profile {profile}]\ncredential_process = {} --credential-process --profile {source} --region eu-west-1 --endpoint-url {} {role}\n",
        env!("CARGO_BIN_EXE_ec2-role"),
        sts.url()
    )
}

#[test]
fn a_nested_ec2_role_inherits_no_options() {
    let sts = sts();
    let hub = "arn:aws:iam::123456789012:role/hub";
    let config = as_process("hub", &sts, "user", hub) + &keys("profile user", "AKIAUSER");
    let start = Start::bare()
        .listen("127.0.0.1:0")
        .file(".aws/config", &config);
    let outer = [
        ("EC2_ROLE_ARN", ROLE),
        ("EC2_ROLE_ENDPOINT_URL", &sts.url()),
        ("EC2_ROLE_REGION", "eu-north-1"),
        ("EC2_ROLE_PROFILE", "hub"),
        ("EC2_ROLE_EXTERNAL_ID", "outer"),
        ("EC2_ROLE_POLICY", "{}"),
        ("EC2_ROLE_TAGS", "outer=1"),
    ];
    let start = outer
        .iter()
        .fold(start, |start, (name, value)| start.variable(name, value));
    drop(start.serving());
    let calls = sts.calls();
    let sent = |name| [calls[0].parameter(name), calls[1].parameter(name)];
    assert_eq!(sent("RoleArn"), [hub, ROLE]);
    assert_eq!(sent("ExternalId"), ["", "outer"]);
    assert_eq!(sent("Policy"), ["", "{}"]);
    assert_eq!(sent("Tags.member.1.Key"), ["", "outer"]);
    assert_eq!(
        (calls[0].access_key_id(), calls[1].access_key_id()),
        ("AKIAUSER", access_key_id(1).as_str())
    );
}

#[test]
fn a_credential_process_loop_is_refused() {
    let sts = sts();
    let there = as_process("there", &sts, "back", ROLE);
    let config = there + &as_process("back", &sts, "there", ROLE);
    let start = Start::without_source(&sts).file(".aws/config", &config);
    let ended = start
        .arguments(["--profile", "there", "--credential-process"])
        .run();
    assert!(
        ended.lines[0].contains("profile \"there\": credential_process: it runs itself"),
        "{ended:?}"
    );
    // Three processes: the innermost refuses, and each of the two outer ones logs that its credential_process failed.
    assert_eq!((ended.lines.len(), sts.calls().len()), (3, 0), "{ended:?}");
}

#[test]
fn expiration_of_a_credential_process_is_ignored() {
    // The host's clock may be wrong, so ec2-role uses even a credential that has expired by this clock.
    for expiration in ["2999-01-01T00:00:00+0000", "2020-01-01T00:00:00Z", "soon"] {
        let sts = sts();
        let end = format!(",\"Expiration\":\"{expiration}\"}}'");
        let printed = printing("AKIA").replace("}'", &end);
        let start = Start::without_source(&sts).credential_process(&printed);
        assert_eq!(signed_with(&sts, start), "AKIA", "{expiration}");
    }
}

#[test]
fn a_failing_credential_process_is_one_line_without_output() {
    let long = format!("yes {SECRET} | head -c 200000");
    let rows = [
        (
            "true",
            "it printed no JSON; run it by hand to see why; SIGKILL may come from a memory limit (MemoryMax=), SIGTRAP from MemoryDenyWriteExecute= (Node.js); a pipe or a variable in it needs sh -c",
        ),
        ("echo 's3cr3t hello'", "it printed no JSON"),
        (
            "echo '{\"Version\":1,\"SecretAccessKey\":\"s3cr3t\"}'",
            "AccessKeyId or SecretAccessKey is missing or malformed",
        ),
        (
            long.as_str(),
            "it printed more than 65536 bytes and was ended",
        ),
    ];
    let sts = sts();
    each(rows, |(script, expected)| {
        check_once(
            Start::without_source(&sts).credential_process(script),
            1,
            &["profile \"default\": credential_process: ", expected],
        );
    });
    for (command, expected) in [
        ("/nowhere/at/all", "install it where ec2-role runs"),
        (
            "~/bin/at/all",
            "write its whole path, because no shell expands it",
        ),
        (
            "$HOME/at/all",
            "write its whole path, because no shell expands it",
        ),
        ("/etc/passwd", "let ec2-role's user execute it"),
    ] {
        let config = format!("[default]\ncredential_process = {command}\n");
        check_once(
            Start::without_source(&sts).file(".aws/config", &config),
            1,
            &["credential_process", expected],
        );
    }
    assert_eq!(sts.calls().len(), 0);
}

#[test]
fn the_container_token_file_is_read_at_each_refresh() {
    let sts = Sts::start([Reply::good().valid_for(2)]);
    let shown = std::sync::Arc::new(Watched::<Vec<String>>::default());
    let seen = std::sync::Arc::clone(&shown);
    let agent = Loopback::start(move |request, connection| {
        seen.change(|seen| seen.push(request.header("Authorization").to_owned()));
        connection.answer(200, "", document("ASIACONTAINER").as_bytes());
    });
    let start =
        Start::without_source(&sts).variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.url());
    let file = start.home.write("token", "Bearer s3cr3t.1");
    let start = start.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file);
    let ec2_role = start
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "s3cr3t.not.this")
        .serving();
    ec2_role.home.write("token", "Bearer s3cr3t.2");
    let seen = shown.wait("the second token", |seen| {
        seen.contains(&"Bearer s3cr3t.2".to_owned())
            .then(|| seen.clone())
    });
    assert_eq!(seen[0], "Bearer s3cr3t.1");
    assert!(!seen.contains(&"s3cr3t.not.this".to_owned()));
    let start =
        Start::without_source(&sts).variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.url());
    drop(
        start
            .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "s3cr3t.3")
            .serving(),
    );
    shown.wait("the variable's token", |seen| {
        seen.contains(&"s3cr3t.3".to_owned()).then_some(())
    });
}

#[test]
fn container_service_faults_are_one_line_without_a_path() {
    let sts = sts();
    let rows = [
        ("x", 200, "", "it answered 401"),
        ("", 500, "", "it answered 500"),
        ("", 200, "{}", "the answer holds no credential"),
        ("", 200, "<", "holds no credential"),
        (
            "",
            200,
            "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s3cr3t\"}",
            "holds no credential",
        ),
    ];
    for (authorization, status, body, expected) in rows {
        let agent = container(authorization, status, body);
        let start = Start::without_source(&sts)
            .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.url());
        check_once(
            start,
            1,
            &[
                "the container's credential endpoint at ",
                &agent.address.to_string(),
                expected,
            ],
        );
    }
    for url in [
        "http://192.0.2.1/s3cr3t",
        "ftp://127.0.0.1/s3cr3t",
        "s3cr3t",
        "http://",
        "http://example.com/",
        "http://169.254.170.3/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
    ] {
        let start = Start::without_source(&sts).variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
        // The URL must not be logged, because on ECS its path gives access to the credential.
        let (line, status) = once(start);
        assert!(
            line.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI: ") && !line.contains("s3cr3t"),
            "{line}"
        );
        assert_eq!(status, 2, "{line}");
    }
    let agent = container("", 200, &document("A"));
    for (url, expected) in [
        (
            "http://127.0.0.1:1/",
            "Connection refused; check that the agent that serves it runs",
        ),
        (
            "https://agent.test/",
            "Connection refused; check that variable and the proxy",
        ),
        (
            &agent.url().replace("http", "https"),
            "it does not speak TLS; check whether the URL is http://",
        ),
    ] {
        let start = Start::without_source(&sts).variable("https_proxy", "http://127.0.0.1:1");
        check_once(
            start.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
            1,
            &[expected],
        );
    }
    let relative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    check_once(
        Start::without_source(&sts).variable(relative, ".example.com/"),
        2,
        &[relative, "does not begin with /"],
    );
    let start =
        || Start::without_source(&sts).variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.url());
    check_once(
        start().variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\nb"),
        2,
        &["AWS_CONTAINER_AUTHORIZATION_TOKEN: character 2 is U+000A"],
    );
    let nowhere = start().variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nowhere");
    check_once(
        nowhere,
        1,
        &[
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE /nowhere",
            "cannot be read",
        ],
    );
}

#[test]
fn the_instance_gives_keys_region_and_session_name() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST1");
    let sts = Sts::start([Reply::good().valid_for(2)]);
    // The start has no region option, so that the host's region is used.
    let start = Start::bare()
        .listen("127.0.0.1:0")
        .arguments([ROLE, "--endpoint-url", &sts.url()]);
    let _ec2_role = host.known_to(start).serving();
    host.rotate("ASIAHOST2");
    let calls = until("the new key", || {
        Some(sts.calls()).filter(|calls| calls.last().unwrap().access_key_id() == "ASIAHOST2")
    });
    assert_eq!(calls[0].access_key_id(), "ASIAHOST1");
    assert_eq!(
        calls[0].parameter("RoleSessionName"),
        format!("ec2-role-{INSTANCE_ID}")
    );
    assert!(
        calls[0]
            .request
            .header("Authorization")
            .contains(&format!("/{REGION}/sts/")),
        "{calls:?}"
    );
    let requests = host.requests();
    assert_eq!(
        (requests[0].method.as_str(), requests[0].target.as_str()),
        ("PUT", "/latest/api/token")
    );
    assert!(
        requests
            .iter()
            .all(|request| request.header("X-Forwarded-For").is_empty())
    );
}

#[test]
fn imdsv1_is_used_only_where_tokens_are_refused() {
    for status in [403, 404, 405, 501] {
        let host = HostMetadata::start(Tokens::Refused(status), "ASIAHOST");
        let sts = sts();
        assert_eq!(
            signed_with(&sts, host.known_to(Start::without_source(&sts))),
            "ASIAHOST"
        );
        let start = host
            .known_to(Start::without_source(&sts))
            .variable("AWS_EC2_METADATA_V1_DISABLED", "true");
        check_once(
            start,
            1,
            &[
                &host.url(),
                &format!("it answered {status} to a request for a session token"),
            ],
        );
    }
    for status in [400, 401, 500, 503] {
        let host = HostMetadata::start(Tokens::Refused(status), "ASIAHOST");
        let sts = sts();
        check_once(
            host.known_to(Start::without_source(&sts)),
            1,
            &[&format!("it answered {status}")],
        );
        assert!(
            host.requests()
                .iter()
                .all(|request| request.method == "PUT")
        );
    }
}

/// This test needs a network namespace: if ec2-role ignored the profile's settings, it would send requests to the machine's real
/// metadata service, at the default address.
#[test]
fn the_profile_configures_the_metadata_service_too() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let sts = sts();
    let with_key = |key: &str, host: &HostMetadata| {
        let url = host.url();
        Start::without_source(&sts)
            .without_variable("AWS_EC2_METADATA_DISABLED")
            .file(
                ".aws/config",
                &format!("[default]\nec2_metadata_service_endpoint = {url}\n{key}\n"),
            )
    };
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    assert_eq!(signed_with(&sts, with_key("", &host)), "ASIAHOST");
    // The refresh of the metadata that is passed through uses the same service.
    let _ec2_role = with_key("", &host).arguments(["--pass-through"]).start();
    until("a request for a listing", || {
        let is_listing = |request: &Request| request.target == "/latest/meta-data/";
        host.requests().iter().any(is_listing).then_some(())
    });

    let host = HostMetadata::start(Tokens::Refused(403), "ASIAHOST");
    assert_eq!(signed_with(&sts, with_key("", &host)), "ASIAHOST");
    let key = "ec2_metadata_v1_disabled = true";
    check_once(with_key(key, &host), 1, &["it answered 403"]);

    let host = HostMetadata::start(Tokens::Refused(503), "ASIAHOST");
    let key = "metadata_service_num_attempts = 3";
    check_once(with_key(key, &host), 1, &["it answered 503"]);
    assert_eq!(host.requests().len(), 3);

    for key in [
        "ec2_metadata_v1_disabled = 1",
        "ec2_metadata_service_endpoint_mode = IPv5\nec2_metadata_service_endpoint =",
        "metadata_service_timeout = soon",
    ] {
        let name = key.split(" =").next().unwrap();
        check_once(
            with_key(key, &host),
            1,
            &[&format!("profile \"default\": {name}")],
        );
    }
}

#[test]
fn an_unanswered_token_request_suggests_the_hop_limit() {
    let host = HostMetadata::start(Tokens::Silent, "ASIAHOST");
    let sts = sts();
    let ec2_role = host.known_to(Start::without_source(&sts)).start();
    let line = ec2_role.wait_for_line("no credential");
    assert!(
        line.contains("if its hop limit is 1") && line.contains("--http-put-response-hop-limit 2"),
        "{line}"
    );
    assert!(line.contains(&host.url()), "{line}");
    assert!(
        host.requests()
            .iter()
            .all(|request| request.method == "PUT")
    );
    assert_eq!(sts.calls().len(), 0);
}

#[test]
fn an_instance_without_a_credential_is_one_line() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    let sts = sts();
    for (document, expected) in [
        (
            "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"EC2 cannot assume it\"}",
            "AssumeRoleUnauthorizedAccess: EC2 cannot assume it",
        ),
        (
            "{\"Code\":\"Success\",\"AccessKeyId\":\"A\"}",
            "holds no credential",
        ),
        (
            "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s3cr3t\"}",
            "holds no credential",
        ),
        ("<html>s3cr3t", "holds no credential"),
        ("", "holds no credential"),
    ] {
        host.document_now(document);
        check_once(
            host.known_to(Start::without_source(&sts)),
            1,
            &["host-role", expected],
        );
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let start = Start::without_source(&sts).without_variable("AWS_EC2_METADATA_DISABLED");
    let nobody = start.variable(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        &format!("http://{port}"),
    );
    check_once(
        nobody,
        1,
        &[
            "Connection refused",
            "on EC2 run ec2-role on the host's network, as root or as a user whom no rule keeps away",
            "elsewhere do without it: give credentials (variables, files, a container's endpoint) and --region, and no --pass-through",
        ],
    );
    for (name, value, right) in [
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "169.254.169.254",
            "http://ADDRESS[:PORT]",
        ),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "http://",
            "http://ADDRESS[:PORT]",
        ),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
            "IPv5",
            "IPv6 or IPv4",
        ),
        (
            "AWS_METADATA_SERVICE_TIMEOUT",
            "soon",
            "a whole number from 1",
        ),
        ("AWS_EC2_METADATA_DISABLED", "yes", "true or false"),
        ("AWS_EC2_METADATA_V1_DISABLED", "1", "true or false"),
    ] {
        let start = host.known_to(Start::without_source(&sts));
        let start = if name.ends_with("_MODE") {
            start.without_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        } else {
            start
        };
        check_once(start.variable(name, value), 2, &[name, right]);
    }
}

#[test]
fn a_source_that_is_this_server_itself_is_refused() {
    let sts = Sts::start([Reply::good().valid_for(4)]);
    // Choose the address before the start, because ec2-role also gets it as the endpoint of the metadata service.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = Start::without_source(&sts).without_variable("AWS_EC2_METADATA_DISABLED");
    let start = start.variable(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        &format!("http://{address}"),
    );
    let ec2_role = start
        .listen("-")
        .stdin(std::os::fd::OwnedFd::from(listener))
        .spawn();
    let line = ec2_role.wait_for_line("it is this server itself");
    assert!(
        line.contains("let ec2-role reach the host's own service"),
        "{line}"
    );
    // The fault is transient: an operator can remove the firewall rule that redirects ec2-role's requests to ec2-role itself.
    assert!(line.contains("; next try in "), "{line}");
    drop(ec2_role);
    assert_eq!(sts.calls().len(), 0);

    // A variable names ec2-role's own container endpoint as its source. Only a changed variable corrects this fault, so it is
    // permanent (exit status 2).
    for form in ["/v2/credentials/exc_web", "/v2/credentials/", "/x"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}{form}", listener.local_addr().unwrap());
        let start = Start::without_source(&sts).file("token", "s3cr3t.token");
        let file = start.home.text("token");
        let mut ec2_role = start
            .variable("EC2_ROLE_CONTAINER_TOKEN_FILE", &file)
            .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file)
            .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)
            .listen("-")
            .stdin(std::os::fd::OwnedFd::from(listener))
            .spawn();
        let line = ec2_role.wait_for_line("it is this server itself");
        assert!(
            line.contains("unset AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            "{line}"
        );
        assert_eq!(ec2_role.wait_for_end().code(), Some(2));
    }
    assert_eq!(sts.calls().len(), 0);

    // The source is a credentials file with the access key that the server serves.
    let ec2_role = Start::without_source(&sts)
        .file(".aws/credentials", &keys("default", "AKIAHOST"))
        .serving();
    ec2_role
        .home
        .write(".aws/credentials", &keys("default", &access_key_id(1)));
    let line = ec2_role.wait_for_line("this is the credential that this server serves");
    assert!(
        line.contains("profile \"default\"")
            && line.contains("; serving the credential valid until "),
        "{line}"
    );
    ec2_role
        .home
        .write(".aws/credentials", &keys("default", "AKIAHOST2"));
    until("the new key", || {
        sts.calls()
            .iter()
            .any(|call| call.access_key_id() == "AKIAHOST2")
            .then_some(())
    });
}

#[test]
fn without_an_ipv4_route_the_setting_for_ipv6_is_named() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let start = Start::without_source(&sts()).without_variable("AWS_EC2_METADATA_DISABLED");
    let remedy = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6 if the subnet has IPv6 only";
    check_once(start, 1, &["Network is unreachable", remedy]);
}

#[test]
fn a_rule_that_prohibits_the_metadata_service_is_named() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let route = |words: &[&str]| {
        let status = std::process::Command::new("ip").args(words).status();
        assert!(status.unwrap().success());
    };
    for kind in ["prohibit", "unreachable"] {
        for words in [
            &["route", "replace", kind, "169.254.169.254"] as &[&str],
            &["rule", "add", "pref", "0", kind, "to", "169.254.169.254"],
        ] {
            route(words);
            let start = Start::without_source(&sts()).without_variable("AWS_EC2_METADATA_DISABLED");
            let remedy = "as root or as a user whom no rule keeps away (ec2-role-guard";
            check_once(start, 1, &[remedy]);
        }
        route(&["rule", "del", "pref", "0"]);
    }
}

#[test]
fn invalid_setting_of_a_profile_is_named() {
    for (config, expected) in [
        (
            "region = EU West",
            "profile \"default\": region: \"EU West\" is not a region",
        ),
        (
            "use_fips_endpoint = on",
            "profile \"default\": use_fips_endpoint: it is \"on\"",
        ),
        (
            "use_fips_endpoint = True\nendpoint_url = http://127.0.0.1:1",
            "profile \"default\": endpoint_url: it cannot be combined with profile \"default\": use_fips_endpoint; unset one of them",
        ),
        (
            "sts_regional_endpoints = legcy",
            "profile \"default\": sts_regional_endpoints: it is \"legcy\"; set it to legacy or regional",
        ),
        (
            "services = locale\n[services local]\nsts =\n  endpoint_url = http://127.0.0.1:1",
            "profile \"default\": services: the config file has no section [services locale]",
        ),
    ] {
        // If the setting were accepted, the call would go to this proxy, so nothing can leave this machine.
        let start = Start::bare()
            .keys("AKIA")
            .listen("127.0.0.1:0")
            .variable("HTTPS_PROXY", "http://127.0.0.1:1");
        let start = start.file(".aws/config", &format!("[default]\n{config}\n"));
        check_once(start.arguments([ROLE]), 1, &[expected]);
    }
}

#[test]
fn an_expired_source_is_read_again_at_once() {
    let sts = Sts::start([Reply::error(403, "ExpiredToken", "oh"), Reply::good()]);
    let start = Start::without_source(&sts);
    let (count, script) = (
        start.home.text("count"),
        "echo x >> \"$1\"; n=$(wc -l < \"$1\")",
    );
    let program = start
        .home
        .program("print", &format!("{script}\n{}", printing("AKIA'$n'")));
    let config = format!("[default]\ncredential_process = {program} {count}\n");
    let ec2_role = start.file(".aws/config", &config).serving();
    let calls = sts.calls();
    assert_eq!(
        (calls[0].access_key_id(), calls[1].access_key_id()),
        ("AKIA1", "AKIA2")
    );
    assert!(
        !ec2_role
            .lines()
            .iter()
            .any(|line| line.contains("no credential"))
    );
}
