//! Checks that an invalid argument or variable ends ec2-role with exit status 2 and with one log line, which names the argument
//! or variable, the fault and the remedy. Also checks `--help` and `--version`.

use std::os::fd::OwnedFd;

use crate::support::{Directory, ROLE, Reply, SECRET, Start, Sts, each};

/// Checks that ec2-role ends with exit status 2 and logs exactly one line besides `listening on`. This line must contain each of
/// `parts` and no secret.
#[track_caller]
fn check(start: Start, parts: &[&str]) {
    let ended = start.run();
    let lines: Vec<&String> = ended
        .lines
        .iter()
        .filter(|line| !line.contains("listening on"))
        .collect();
    assert_eq!(
        (ended.status, lines.len()),
        (Some(2), 1),
        "{parts:?}: {ended:?}"
    );
    assert!(
        parts.iter().all(|part| lines[0].contains(part)),
        "{parts:?}: {ended:?}"
    );
    assert!(
        lines[0].contains("ec2-role: ") && !lines[0].contains("panicked"),
        "{ended:?}"
    );
    assert!(!lines[0].contains(SECRET), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

/// Tests a few faults of the argument list, of the ARN and of option values. The unit tests of `cli` and `role` test many more.
#[test]
fn each_invalid_argument_is_named_with_the_valid_form() {
    let sts = Sts::start([Reply::good()]);
    let start = || Start::bare().keys("AKIA").listen("127.0.0.1:0");
    check(Start::bare(), &["no role", "EC2_ROLE_ARN"]);
    check(
        Start::with(&sts).arguments([ROLE]),
        &["one argument too many"],
    );
    check(
        Start::with(&sts).arguments(["--nonsense"]),
        &["nonsense", "--help"],
    );
    for arn in ["exc_web", "arn:aws:iam::123456789012:role/a\nb"] {
        let right = "arn:aws:iam::ACCOUNT:role/NAME";
        check(start().arguments([arn]), &[right]);
        check(
            start().variable("EC2_ROLE_ARN", arn),
            &["EC2_ROLE_ARN", right],
        );
    }
    check(
        Start::with(&sts).listen("[fe80::1]:0"),
        &["--listen [fe80::1]:0: ", "the index of its interface"],
    );
    for (name, value, right) in [
        ("tags", "team", "KEY=VALUE"),
        // The supervisor checks `tags`; the fetcher checks the options below. A fault of any option must have the same effect.
        ("region", "EU West", "eu-west-1"),
        ("region", "x/../y", "eu-west-1"),
        ("endpoint-url", "sts.example", "https://"),
        ("endpoint-url", "http://", "http"),
        ("endpoint-url", "http://a b/", "http"),
        ("endpoint-url", "http://127.0.0.1:99999/", "HOST[:PORT]"),
        ("endpoint-url", "http://[::1]:0", "HOST[:PORT]"),
        ("endpoint-url", "http://127.0.0.1:", "HOST[:PORT]"),
        ("endpoint-url", "http://x/?a", "has a query"),
        ("endpoint-url", "http://user:s3cr3t@x/", "a password"),
    ] {
        let option = format!("--{name}");
        let variable = format!("EC2_ROLE_{}", name.replace('-', "_").to_uppercase());
        let start = || start().arguments([ROLE]);
        check(start().arguments([&option, value]), &[&option, right]);
        check(start().variable(&variable, value), &[&variable, right]);
    }
    assert_eq!(sts.calls().len(), 0);
}

#[test]
fn stdin_that_is_no_listening_socket_is_named() {
    let sts = Sts::start([Reply::good()]);
    check(
        Start::with(&sts).listen("-"),
        &["--listen -", "not a listening TCP socket"],
    );
    let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    check(
        Start::with(&sts).listen("-").stdin(OwnedFd::from(unix)),
        &["--listen -", "not a listening TCP socket"],
    );
    let files = Directory::new();
    let unix = std::os::unix::net::UnixListener::bind(files.path("socket")).unwrap();
    check(
        Start::with(&sts).listen("-").stdin(OwnedFd::from(unix)),
        &["--listen -", "not a listening TCP socket"],
    );
}

#[test]
fn invalid_sdk_variable_or_file_is_named() {
    let sts = Sts::start([Reply::good()]);
    let rows = [
        (
            "AWS_REGION",
            "EU West",
            "AWS_REGION: \"EU West\" is not a region",
        ),
        ("AWS_DEFAULT_REGION", "x.example/", "AWS_DEFAULT_REGION: "),
        (
            "AWS_USE_FIPS_ENDPOINT",
            "true",
            "--endpoint-url: it cannot be combined with AWS_USE_FIPS_ENDPOINT",
        ),
        (
            "AWS_USE_DUALSTACK_ENDPOINT",
            "True",
            "--endpoint-url: it cannot be combined with AWS_USE_DUALSTACK_ENDPOINT",
        ),
        ("AWS_USE_FIPS_ENDPOINT", "yes", "true or false"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "1", "true or false"),
    ];
    each(rows, |(name, value, right)| {
        // Leave out `--region`, which takes precedence over AWS_REGION and AWS_DEFAULT_REGION.
        let start = Start::bare().keys("AKIA").listen("127.0.0.1:0");
        check(
            start
                .arguments([ROLE, "--endpoint-url", &sts.url()])
                .variable(name, value),
            &[right],
        );
    });
    let start =
        Start::bare()
            .keys("AKIA")
            .listen("127.0.0.1:0")
            .arguments([ROLE, "--region", "eu-west-1"]);
    check(
        start.variable("HTTPS_PROXY", "http://user:s3cr3t@[x"),
        &["HTTPS_PROXY", "http://HOST:PORT"],
    );
    assert_eq!(sts.calls().len(), 0);
}

#[test]
fn a_url_with_credentials_is_refused_and_not_logged() {
    let rows = [
        "AWS_ENDPOINT_URL_STS",
        "AWS_ENDPOINT_URL",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let urls = [
        "http://user:s3cr3t@127.0.0.1/",
        "https://s3cr3t@127.0.0.1/",
        "http://user:s3cr3t@a b/",
        "user:s3cr3t@127.0.0.1",
    ];
    each(rows, |name| {
        for url in urls {
            let start = Start::bare().listen("127.0.0.1:0").variable(name, url);
            let start = start.arguments([ROLE, "--region", "eu-west-1"]);
            let start = if name.contains("METADATA") {
                start.without_variable("AWS_EC2_METADATA_DISABLED")
            } else {
                start
            };
            check(start, &["it holds a user or a password", "write http"]);
        }
    });
}

#[test]
fn arguments_that_are_not_utf_8_are_refused_in_one_line() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"arn:aws:iam::123456789012:role/\xff\x1b[2J");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ec2-role"))
        .arg(odd)
        .env_clear()
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), stderr.lines().count()),
        (Some(2), 1),
        "{stderr}"
    );
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn help_and_version_go_to_stdout_with_status_0_and_need_no_role() {
    for (argument, text) in [
        ("--help", "EC2_ROLE_"),
        ("--version", concat!("ec2-role ", env!("CARGO_PKG_VERSION"))),
        ("-V", concat!("ec2-role ", env!("CARGO_PKG_VERSION"))),
    ] {
        let ended = Start::bare().arguments([argument]).run();
        assert_eq!((ended.status, ended.lines.len()), (Some(0), 0));
        assert!(ended.stdout.contains(text), "{ended:?}");
    }
}
