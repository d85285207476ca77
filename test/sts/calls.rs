//! What is made of each answer of STS: good ones in every form, and what is more than a fault that passes (faults.rs).

use std::time::Duration;

use crate::support::http::LIST_PATH;
use crate::support::sts::{Expiration, access_key_id, request_id};
use crate::support::{Directory, ROLE, Reply, Start, Sts, each};

const CHAINING: &str = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
const DAY: i64 = 86_400;

#[test]
fn every_form_of_expiration_gives_the_same_document() {
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
fn the_call_asks_for_exactly_what_the_options_say() {
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
fn an_sts_that_cannot_do_tls_and_a_bundle_without_a_good_certificate_are_one_line() {
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
fn an_answer_that_comes_slowly_but_in_time_is_taken() {
    let sts = Sts::start([Reply::good()
        .drip(Duration::from_millis(1))
        .after(Duration::from_millis(500))]);
    let ec2_role = Start::with(&sts).serving();
    assert_eq!(ec2_role.document().field("AccessKeyId"), access_key_id(1));
}

#[test]
fn a_clock_that_is_off_by_a_day_either_way_is_corrected_by_stss_date_at_once_and_for_good() {
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
        // Served, though by this machine's clock it may have expired a day ago.
        let document = ec2_role.wait_for_document_of_call(2);
        let expiration =
            ec2_role::common::clock::parse_iso8601(&document.field("Expiration")).unwrap();
        let ahead_of_here = ec2_role::common::clock::epoch_seconds(expiration)
            - ec2_role::common::clock::epoch_seconds(std::time::SystemTime::now());
        assert!((ahead_of_here - ahead).abs() < 10, "{document:?}");
        // The next one is signed right at the first attempt.
        ec2_role.wait_for_document_of_call(3);
        assert_eq!(sts.calls().len(), 3);
        let notices = ec2_role
            .lines()
            .iter()
            .filter(|line| line.contains("clock is off"))
            .count();
        assert_eq!(notices, 1);
    });
}

#[test]
fn a_clock_that_is_set_wrong_between_two_refreshes_fails_neither() {
    each([DAY, -DAY], |ahead| {
        let sts = Sts::start([
            Reply::good().valid_for(4),
            Reply::good().clock_ahead(ahead).valid_for(4),
            Reply::good().clock_ahead(ahead).valid_for(4),
            Reply::good().clock_ahead(ahead),
        ]);
        let ec2_role = Start::with(&sts).serving();
        ec2_role.wait_for_document_of_call(4);
        let lines = ec2_role.lines();
        let are = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        // One call more than refreshes: the first after the step is signed twice.
        assert_eq!(
            (are("clock is off by "), sts.calls().len()),
            (1, 4),
            "{lines:#?}"
        );
        assert_eq!(are("failed") + are("expired"), 0, "{lines:#?}");
    });
}

#[test]
fn a_small_skew_is_not_a_reason_to_try_twice() {
    let sts = Sts::start([Reply::error(400, "RequestExpired", "oh")]);
    let ec2_role = Start::with(&sts).start();
    ec2_role.wait_for_line("RequestExpired (400)");
    assert_eq!(
        sts.wait_for_calls(2).len(),
        2,
        "the second is the next attempt's"
    );
    assert_eq!(
        ec2_role
            .lines()
            .iter()
            .filter(|line| line.contains(&request_id(1)))
            .count(),
        1
    );
}

#[test]
fn a_duration_that_role_chaining_forbids_falls_back_to_an_hour_and_is_remembered() {
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

/// What only the user can mend.
fn lasting_faults() -> Vec<(Reply, &'static str)> {
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
            Reply::error(403, "RegionDisabledException", "oh"),
            "activate STS for this region",
        ),
        (
            Reply::error(400, "ValidationError", CHAINING),
            "correct the option that the message names",
        ),
    ]
}

#[test]
fn what_only_the_user_can_mend_ends_it_with_status_2_at_the_first_start() {
    each(lasting_faults(), |(reply, said)| {
        let sts = Sts::start([reply.clone()]);
        let ended = Start::with(&sts).run();
        let last = ended.lines.last().unwrap();
        assert_eq!(ended.status, Some(2), "{reply:?}: {ended:?}");
        assert!(
            last.contains(said) && last.contains(&request_id(1)),
            "{reply:?}: {ended:?}"
        );
        assert_eq!((ended.lines.len(), sts.calls().len()), (2, 1), "{ended:?}");
    });
}

#[test]
fn what_only_the_user_can_mend_is_only_logged_while_there_is_a_credential() {
    each(lasting_faults(), |(reply, said)| {
        let sts = Sts::start([Reply::good().valid_for(4), reply.clone(), Reply::good()]);
        let ec2_role = Start::with(&sts).serving();
        let line = ec2_role.wait_for_line("; serving the credential valid until ");
        assert!(line.contains(said), "{reply:?}: {line}");
        assert_eq!(ec2_role.get(LIST_PATH).status, 200);
        ec2_role.wait_for_document_of_call(3);
    });
}

#[test]
fn as_a_credential_process_it_fails_at_once_with_1_for_what_may_pass_and_2_for_what_lasts() {
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
