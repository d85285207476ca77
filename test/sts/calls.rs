//! Checks what ec2-role sends in AssumeRole, and what it does after each reply of STS. Most transient faults are in `faults.rs`.

use std::time::Duration;

use crate::support::http::LIST_PATH;
use crate::support::sts::{Expiration, RetryAfter, access_key_id, request_id};
use crate::support::{Directory, ROLE, Reply, SECRET, Start, Sts, each, until};

const CHAINING: &str = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
const DAY: i64 = 86_400;

#[test]
fn every_form_of_expiration_gives_the_same_lifetime() {
    each([Expiration::Iso, Expiration::Microseconds], |expiration| {
        let sts = Sts::start([Reply::good().expiration(expiration).valid_for(900)]);
        let ec2_role = Start::with(&sts).serving();
        let document = ec2_role.document();
        assert_eq!(
            document.field("AccessKeyId"),
            access_key_id(1),
            "{expiration:?}"
        );
        let time = |name| ec2_role::common::clock::parse_iso8601(&document.field(name)).unwrap();
        let lifetime = time("Expiration")
            .duration_since(time("LastUpdated"))
            .unwrap();
        assert_eq!(lifetime, Duration::from_secs(900), "{expiration:?}");
    });
}

#[test]
fn call_has_exactly_the_parameters_of_the_options() {
    let sts = Sts::start([Reply::good()]);
    let _ec2_role = Start::with(&sts)
        .arguments([
            "--role-session-name",
            "me",
            "--external-id",
            "x:/1",
            "--duration-seconds",
            "900",
        ])
        .arguments([
            "--policy",
            "{\"é\":1}",
            "--policy-arns",
            "arn:aws:iam::aws:policy/A",
            "--tags",
            "a=b=c",
        ])
        .arguments([
            "--tags",
            "Key=k,Value=",
            "--transitive-tag-keys",
            "a",
            "--source-identity",
            "who",
        ])
        .serving();
    let calls = sts.calls();
    let request = &calls[0].request;
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/")
    );
    let body = format!(
        "Action=AssumeRole&Version=2011-06-15&RoleArn={}&RoleSessionName=me&DurationSeconds=900&ExternalId=x%3A%2F1\
         &Policy=%7B%22%C3%A9%22%3A1%7D&PolicyArns.member.1.arn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FA&Tags.member.1.Key=a\
         &Tags.member.1.Value=b%3Dc&Tags.member.2.Key=k&Tags.member.2.Value=&TransitiveTagKeys.member.1=a&SourceIdentity=who",
        ROLE.replace(':', "%3A").replace('/', "%2F")
    );
    assert_eq!(request.body, body);
    let scope = "/eu-west-1/sts/aws4_request, SignedHeaders=";
    assert!(
        request.header("Authorization").contains(scope),
        "{request:?}"
    );
}

#[test]
fn an_error_of_sts_is_logged_with_its_code_and_request_id() {
    let sts = Sts::start([Reply::error(403, "AccessDenied", "No.")]);
    let ec2_role = Start::with(&sts).start();
    let line = ec2_role.wait_for_line("AccessDenied");
    let described = format!("AccessDenied (403): No (request {})", request_id(1));
    assert!(line.contains(&described), "{line}");
}

#[test]
fn an_sts_without_tls_is_one_line_even_with_a_bad_bundle() {
    let sts = Sts::start([Reply::good()]);
    let url = sts.url().replace("http:", "https:");
    let home = Directory::new();
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bundle = home.write("ca.pem", pem);
    for start in [
        Start::bare(),
        Start::bare().variable("AWS_CA_BUNDLE", &bundle),
    ] {
        let ended = start
            .keys("AKIA")
            .arguments([ROLE, "--credential-process", "--endpoint-url", &url])
            .run();
        assert_eq!((ended.status, ended.lines.len()), (Some(1), 1), "{ended:?}");
        assert!(ended.lines[0].contains(&url), "{ended:?}");
    }
}

#[test]
fn a_slow_sts_answer_is_accepted() {
    let sts = Sts::start([Reply::good()
        .drip(Duration::from_millis(1))
        .after(Duration::from_millis(500))]);
    let ec2_role = Start::with(&sts).serving();
    assert_eq!(ec2_role.document().field("AccessKeyId"), access_key_id(1));
}

#[test]
fn a_clock_off_by_a_day_is_corrected_by_stss_date() {
    each([DAY, -DAY], |ahead| {
        let sts = Sts::start([
            Reply::good().clock_ahead(ahead).valid_for(2),
            Reply::good().clock_ahead(ahead).valid_for(2),
            Reply::good().clock_ahead(ahead),
        ]);
        let ec2_role = Start::with(&sts).start();
        let line = ec2_role.wait_for_line("this machine's clock is off by ");
        let offset: i64 = line
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .unwrap();
        assert!((offset - ahead).abs() <= 2, "{line}");
        // If STS's clock is a day behind, the credential has expired by this machine's clock. ec2-role must serve it
        // nevertheless.
        let document = ec2_role.wait_for_document_of_call(2);
        let expiration =
            ec2_role::common::clock::parse_iso8601(&document.field("Expiration")).unwrap();
        let ahead_of_here = ec2_role::common::clock::epoch_seconds(expiration)
            - ec2_role::common::clock::epoch_seconds(std::time::SystemTime::now());
        assert!((ahead_of_here - ahead).abs() < 10, "{document:?}");
        // The next call has the corrected time in its signature.
        ec2_role.wait_for_document_of_call(3);
        assert_eq!(sts.calls().len(), 3);
        assert_eq!(ec2_role.count_lines("clock is off"), 1);
    });
}

#[test]
fn clock_step_between_refreshes_fails_no_refresh() {
    each([DAY, -DAY], |ahead| {
        let sts = Sts::start([
            Reply::good().valid_for(12),
            Reply::good().clock_ahead(ahead).valid_for(12),
            Reply::good().clock_ahead(ahead).valid_for(12),
            Reply::good().clock_ahead(ahead),
        ]);
        let ec2_role = Start::with(&sts).serving();
        ec2_role.wait_for_document_of_call(4);
        let lines = ec2_role.lines();
        let are = |text| ec2_role.count_lines(text);
        // STS's clock steps before the second fetch. STS rejects the first call of that fetch, and ec2-role repeats the call with
        // a corrected signature, so three fetches make four calls.
        assert_eq!(
            (are("clock is off by "), sts.calls().len()),
            (1, 4),
            "{lines:#?}"
        );
        assert_eq!(are("failed") + are("expired"), 0, "{lines:#?}");
    });
}

/// A clock that was set right may still be off by 5 s, which STS tolerates, so the user has nothing to do.
#[test]
fn a_clock_that_was_set_right_is_not_reported() {
    let ahead = |seconds| Reply::good().clock_ahead(seconds);
    let replies = [DAY, DAY, 5, 5].map(|seconds| ahead(seconds).valid_for(2));
    let sts = Sts::start(replies.into_iter().chain([ahead(5)]));
    let ec2_role = Start::with(&sts).serving();
    ec2_role.wait_for_document_of_call(5);
    let lines = ec2_role.lines();
    assert_eq!(ec2_role.count_lines("clock is off"), 1, "{lines:#?}");
    assert_eq!(sts.calls().len(), 5);
}

#[test]
fn small_clock_skew_causes_no_second_call() {
    let sts = Sts::start([Reply::error(400, "RequestExpired", "oh")]);
    let ec2_role = Start::with(&sts).start();
    ec2_role.wait_for_line("RequestExpired (400)");
    // After a second call in the same attempt, the line would have that call's request id.
    assert_eq!(ec2_role.count_lines(&request_id(1)), 1);
}

#[test]
fn role_chaining_keeps_the_fallback_to_an_hour() {
    let refusal = Reply::error(400, "ValidationError", CHAINING);
    let sts = Sts::start([refusal, Reply::good().valid_for(2), Reply::good()]);
    let ec2_role = Start::with(&sts)
        .arguments(["--duration-seconds", "7200"])
        .serving();
    let line = ec2_role.wait_for_line("--duration-seconds 7200: STS allows less");
    assert!(line.ends_with("asking for 3600"), "{line}");
    ec2_role.wait_for_document_of_call(3);
    let durations: Vec<String> = sts
        .calls()
        .iter()
        .map(|call| call.parameter("DurationSeconds"))
        .collect();
    assert_eq!(durations, ["7200", "3600", "3600"]);
}

#[test]
fn lifetime_is_at_most_the_requested_duration() {
    let century = 100 * 365 * DAY;
    let replies = [
        Reply::good().valid_for(900).date_ahead(-3600),
        Reply::good().valid_for(900).date_ahead(3600),
        // A century ago was before 1970, and the test's STS sends no date before 1970: this reply's `Date` header is in 1970.
        Reply::good().valid_for(900).date_ahead(-century),
        Reply::good().valid_for(900).date_ahead(century),
        Reply::good().valid_for(century),
    ];
    each(replies, |reply| {
        let sts = Sts::start([reply.clone()]);
        let start = Start::with(&sts).arguments(["--duration-seconds", "900"]);
        let ec2_role = start.serving();
        let expiration = ec2_role.document().field("Expiration");
        let left = ec2_role::common::clock::parse_iso8601(&expiration).unwrap();
        let left = ec2_role::common::clock::epoch_seconds(left)
            - ec2_role::common::clock::epoch_seconds(std::time::SystemTime::now());
        assert!((870..=901).contains(&left), "{reply:?}: {left} s");
        let line = ec2_role.wait_for_line("credential of ");
        // A credential that is valid for 15 minutes is refreshed within 4 minutes (`schedule::due`).
        let time = line.rsplit(' ').nth(1).unwrap().parse::<u32>().unwrap();
        let most = if line.ends_with(" min") { 4 } else { 119 };
        assert!(time <= most, "{line}");
    });
}

#[test]
fn constantly_wrong_date_header_keeps_signatures_valid() {
    each([DAY, -DAY], |ahead| {
        let good = || Reply::good().clock_ahead(0).date_ahead(ahead).valid_for(2);
        let sts = Sts::start([good()]);
        let ec2_role = Start::with(&sts).serving();
        ec2_role.wait_for_document_of_call(3);
        let lines = ec2_role.lines();
        let is_trouble = |line: &&String| line.contains("clock") || line.contains("failed");
        assert_eq!(lines.iter().find(is_trouble), None, "{lines:#?}");
    });
}

#[test]
fn learnt_clock_offset_is_dropped_once_it_is_wrong() {
    // At first, the clock of STS is a day ahead. After two calls the clock is correct, but the header `Date` of the answers is
    // still a day ahead, as if a proxy had set it. So both the learnt offset and that of `Date` are wrong: ec2-role must try 0.
    let sts = Sts::start([
        Reply::good().clock_ahead(DAY).valid_for(2),
        Reply::good().clock_ahead(DAY).valid_for(2),
        Reply::good().clock_ahead(0).date_ahead(DAY).valid_for(2),
        Reply::good().clock_ahead(0).date_ahead(DAY).valid_for(2),
        Reply::good().clock_ahead(0).date_ahead(DAY),
    ]);
    let ec2_role = Start::with(&sts).serving();
    ec2_role.wait_for_document_of_call(5);
    let lines = ec2_role.lines();
    assert!(
        !lines.iter().any(|line| line.contains("failed")),
        "{lines:#?}"
    );
}

#[test]
fn retry_after_is_obeyed_up_to_a_minute() {
    // The replies' `Date` header is a day ahead of this machine's clock. If Retry-After holds a date, ec2-role waits for the time
    // from `Date` to that date.
    let rows = [
        (RetryAfter::Seconds(30), "30 s"),
        (RetryAfter::Seconds(86_400), "60 s"),
        (RetryAfter::Date(30), "30 s"),
        (RetryAfter::Date(86_400), "60 s"),
        (RetryAfter::Date(-86_400), "ms"),
    ];
    each(rows, |(asked, waits)| {
        let refusal = Reply::error(503, "SlowDown", "oh")
            .date_ahead(DAY)
            .retry_after(asked);
        let sts = Sts::start([refusal]);
        let ec2_role = Start::with(&sts).start();
        let line = ec2_role.wait_for_line("SlowDown");
        assert!(line.ends_with(waits), "{line}");
    });
}

#[test]
fn a_secret_with_a_comment_or_an_element_inside_is_refused() {
    for inside in ["<!-- -->", "<b/>", "<![CDATA[x]]><!-- -->", "<?pi?>"] {
        for name in ["AccessKeyId", "SecretAccessKey", "SessionToken"] {
            let parts = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|part| {
                let inside = if part == name { inside } else { "" };
                format!("<{part}>s3cr3tA{inside}B</{part}>")
            });
            let body = format!(
                "<A>{}<Expiration>2999-01-01T00:00:00Z</Expiration></A>",
                parts.concat()
            );
            let sts = Sts::start([Reply::bytes(200, body)]);
            let ended = Start::with(&sts).arguments(["--credential-process"]).run();
            let expected = format!("XML (<A>) without {name} (request ");
            assert_eq!(ended.status, Some(1), "{ended:?}");
            assert!(ended.lines[0].contains(&expected), "{ended:?}");
        }
    }
}

#[test]
fn an_error_of_sts_repeats_no_secret_of_the_request() {
    let token = format!("{SECRET}/session");
    // STS's own message, which quotes headers of the request. The other messages could come from a service in the place of STS.
    let canonical = format!(
        "The request signature we calculated does not match.\n\nThe Canonical String for this request should have been\n'POST\n/\n\n\
         x-amz-security-token:{token}\n'"
    );
    let rows = [
        (
            canonical,
            "The request signature we calculated does not match (request ",
        ),
        (
            format!("token {token} is bad"),
            "token (secret) is bad (request ",
        ),
        (
            format!("id {SECRET}-id is bad"),
            "id (secret) is bad (request ",
        ),
        (
            format!("policy {{\"{SECRET}\":1}} is bad"),
            "policy (secret) is bad (request ",
        ),
        (
            format!("key {SECRET}/key+of/the/source is bad"),
            "key (secret) is bad",
        ),
        // The secret is replaced before a long message is cut for the log. Here the cut falls within the replacement, `(secret)`.
        (
            format!("{}{token} is bad", "x".repeat(1000 - SECRET.len())),
            "x(secre (request ",
        ),
    ];
    each(rows, |(message, expected)| {
        for code in ["SignatureDoesNotMatch", "AccessDenied", "ValidationError"] {
            let sts = Sts::start([Reply::error(403, code, &message)]);
            let start = Start::with(&sts).variable("AWS_SESSION_TOKEN", &token);
            let (id, policy) = (format!("{SECRET}-id"), format!("{{\"{SECRET}\":1}}"));
            let options = ["--external-id", &id, "--policy", &policy];
            let ended = start
                .arguments(["--credential-process"])
                .arguments(options)
                .run();
            let line = &ended.lines[0];
            assert!(line.contains(expected) && !line.contains(SECRET), "{line}");
        }
    });
    let refused = |code: &str, id: &str| {
        format!("<E><Error><Code>{code}</Code></Error><RequestId>{id}</RequestId></E>")
    };
    for (body, expected) in [
        (refused("Denied", &token), "(request (secret))"),
        (refused(&token, "id"), "(secret) (403): "),
        (format!("<{SECRET}-id/>"), "XML (<(secret)>) without "),
    ] {
        let sts = Sts::start([Reply::bytes(403, body)]);
        let start = Start::with(&sts).variable("AWS_SESSION_TOKEN", &token);
        let id = format!("{SECRET}-id");
        let ended = start
            .arguments(["--credential-process", "--external-id", &id])
            .run();
        assert!(ended.lines[0].contains(expected), "{ended:?}");
    }
    let sts = Sts::start([Reply::error(400, "InvalidIdentityToken", &token)]);
    let start = Start::without_source(&sts).file("token", &token);
    let file = start.home.text("token");
    let start = start.variable("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    let ended = start
        .variable("AWS_ROLE_ARN", ROLE)
        .arguments(["--credential-process"])
        .run();
    assert!(
        ended.lines[0].contains("InvalidIdentityToken (400): (secret)"),
        "{ended:?}"
    );
}

#[test]
fn an_external_id_that_is_part_of_the_arn_garbles_no_error() {
    let message = format!(
        "User: arn:aws:sts::123456789012:assumed-role/exc_web_host/i-0 is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
    );
    for id in ["123456789012", "exc_web"] {
        let sts = Sts::start([Reply::error(403, "AccessDenied", &message)]);
        let start = Start::with(&sts).arguments(["--credential-process", "--external-id", id]);
        let ended = start.run();
        let (line, named) = (
            &ended.lines[0],
            "the role exc_web_host of account 123456789012",
        );
        assert!(line.contains(&message) && line.contains(named), "{line}");
    }
}

/// Errors of STS that are permanent, because their cause is an option. Each has a text that the log line must contain.
fn permanent_errors() -> Vec<(Reply, &'static str)> {
    vec![
        (
            Reply::error(400, "ValidationError", "1 validation error detected"),
            "correct the option that the message names",
        ),
        (
            Reply::error(400, "MalformedPolicyDocument", "oh"),
            "correct --policy, --policy-arns or --tags",
        ),
        (
            Reply::error(400, "PackedPolicyTooLarge", "oh"),
            "correct --policy, --policy-arns or --tags",
        ),
        (
            Reply::error(400, "ValidationError", CHAINING),
            "correct the option that the message names",
        ),
    ]
}

#[test]
fn refused_policy_in_a_file_is_retried_until_it_is_corrected() {
    let sts = Sts::start([Reply::error(400, "MalformedPolicyDocument", "oh")]);
    let start = Start::with(&sts).file("policy", "{}");
    let policy = format!("file://{}", start.home.text("policy"));
    let ec2_role = start.arguments(["--policy", &policy]).start();
    ec2_role.wait_for_line("correct --policy, --policy-arns or --tags; no credential");
    // Some editors of Windows write a byte order mark, which is not sent to STS.
    ec2_role.home.write("policy", "\u{feff}{\"Version\":\"\"}");
    until("the call with the new policy", || {
        let last = sts.calls().pop()?;
        (last.parameter("Policy") == "{\"Version\":\"\"}").then_some(())
    });
    sts.replies_now(Reply::good());
    ec2_role.wait_for_line("credential of ");
}

#[test]
fn permanent_errors_at_the_first_start_exit_2() {
    each(permanent_errors(), |(reply, expected)| {
        let sts = Sts::start([reply.clone()]);
        let ended = Start::with(&sts).run();
        let last = ended.lines.last().unwrap();
        assert_eq!(ended.status, Some(2), "{reply:?}: {ended:?}");
        assert!(
            last.contains(expected) && last.contains(&request_id(1)),
            "{reply:?}: {ended:?}"
        );
        assert_eq!((ended.lines.len(), sts.calls().len()), (2, 1), "{ended:?}");
    });
}

#[test]
fn permanent_errors_with_a_credential_are_only_logged() {
    each(permanent_errors(), |(reply, expected)| {
        let sts = Sts::start([Reply::good().valid_for(8), reply.clone(), Reply::good()]);
        let ec2_role = Start::with(&sts).serving();
        let line = ec2_role.wait_for_line("; serving the credential valid until ");
        assert!(line.contains(expected), "{reply:?}: {line}");
        assert_eq!(ec2_role.get(LIST_PATH).status, 200);
        ec2_role.wait_for_document_of_call(3);
    });
}

#[test]
fn credential_process_exits_1_if_transient_2_if_permanent() {
    let rows = [
        (Reply::error(503, "ServiceUnavailable", "oh"), 1),
        (Reply::error(403, "AccessDenied", "oh"), 1),
        (Reply::bytes(200, "<html>"), 1),
        (Reply::error(400, "PackedPolicyTooLarge", "oh"), 2),
    ];
    each(rows, |(reply, status)| {
        let sts = Sts::start([reply.clone()]);
        let ended = Start::with(&sts).arguments(["--credential-process"]).run();
        assert_eq!(ended.status, Some(status), "{reply:?}: {ended:?}");
        assert_eq!(
            (ended.lines.len(), ended.stdout.as_str(), sts.calls().len()),
            (1, "", 1),
            "{ended:?}"
        );
    });
}
