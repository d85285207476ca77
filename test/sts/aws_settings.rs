//! Checks where STS's endpoint and region come from, in this order: options, variables, the profile, and the host (region only).

use crate::support::host_metadata::{HostMetadata, REGION, Step, Tokens, Wrong};
use crate::support::loopback::Loopback;
use crate::support::{PortState, ROLE, Reply, Start, Sts, each, until};

/// An endpoint on which no process listens.
const NOWHERE: &str = "http://127.0.0.1:1";
const CHINAS: &str = "arn:aws-cn:iam::123456789012:role/exc_web";

fn bare() -> Start {
    Start::bare().listen("127.0.0.1:0").keys("AKIA")
}

/// The region that the STS call of this start is signed for.
#[track_caller]
fn signed_for(sts: &Sts, start: Start) -> String {
    drop(
        start
            .arguments([ROLE, "--endpoint-url", &sts.url()])
            .serving(),
    );
    let calls = sts.calls();
    let authorization = calls.last().unwrap().request.header("Authorization");
    authorization.split('/').nth(2).unwrap().to_owned()
}

#[test]
fn the_endpoint_is_taken_in_the_documented_order() {
    let sts = Sts::start([Reply::good()]);
    for place in 0..5 {
        // The setting at `place` must win: those of higher precedence are empty, those of lower precedence point nowhere.
        let url = |at: usize| match at.cmp(&place) {
            std::cmp::Ordering::Less => String::new(),
            std::cmp::Ordering::Equal => sts.url(),
            std::cmp::Ordering::Greater => NOWHERE.to_owned(),
        };
        let config = format!(
            "[default]\nregion = eu-west-1\nservices = mine\nendpoint_url = {}\n[services mine]\nsts =\n  endpoint_url = {}\n",
            url(4),
            url(3)
        );
        let start = bare()
            .file(".aws/config", &config)
            .variable("EC2_ROLE_ENDPOINT_URL", &url(0))
            .variable("AWS_ENDPOINT_URL_STS", &url(1))
            .variable("AWS_ENDPOINT_URL", &url(2));
        drop(start.arguments([ROLE]).serving());
        assert_eq!(sts.calls().len(), place + 1);
    }
}

#[test]
fn configured_endpoints_can_be_ignored_but_not_the_option() {
    let sts = Sts::start([Reply::good()]);
    for (variable, key) in [("true", ""), ("", "true")] {
        let ignoring = || {
            bare()
                .variable("AWS_ENDPOINT_URL_STS", NOWHERE)
                .variable("AWS_ENDPOINT_URL", NOWHERE)
                .variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", variable)
                .file(
                    ".aws/config",
                    &format!(
                        "[default]\nendpoint_url = {NOWHERE}\nignore_configured_endpoint_urls = {key}\n"
                    ),
                )
        };
        // `no region` shows that ec2-role ignores the configured endpoint URLs: without a URL it needs a region, because the
        // partition aws-cn has no global endpoint.
        let regionless = ignoring().arguments([CHINAS]).spawn();
        regionless.wait_for_line("no region");
        drop(
            ignoring()
                .arguments([CHINAS, "--endpoint-url", &sts.url()])
                .serving(),
        );
    }
    assert_eq!(sts.calls().len(), 2);
}

#[test]
fn the_region_is_taken_in_the_documented_order() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    let sts = Sts::start([Reply::good()]);
    assert_eq!(signed_for(&sts, bare()), "us-east-1");
    let with_host = || host.known_to(bare());
    assert_eq!(signed_for(&sts, with_host()), REGION);
    let with_profile = || with_host().file(".aws/config", "[default]\nregion = eu-west-2\n");
    assert_eq!(signed_for(&sts, with_profile()), "eu-west-2");
    let with_default = || with_profile().variable("AWS_DEFAULT_REGION", "eu-west-3");
    assert_eq!(signed_for(&sts, with_default()), "eu-west-3");
    let with_variable = || with_default().variable("AWS_REGION", "eu-south-1");
    assert_eq!(signed_for(&sts, with_variable()), "eu-south-1");
    let with_option = with_variable().arguments(["--region", "eu-south-2"]);
    assert_eq!(signed_for(&sts, with_option), "eu-south-2");
}

#[test]
fn the_legacy_endpoint_is_chosen_in_any_letter_case() {
    for value in ["legacy", "Legacy"] {
        // The call goes to this proxy, where nothing listens, so nothing can leave this machine.
        let start = bare()
            .variable("AWS_REGION", "eu-west-1")
            .variable("AWS_STS_REGIONAL_ENDPOINTS", value)
            .variable("HTTPS_PROXY", "http://127.0.0.1:1");
        let ec2_role = start.arguments([ROLE]).spawn();
        ec2_role.wait_for_line(" at https://sts.amazonaws.com/: ");
    }
}

#[test]
fn invalid_region_from_the_host_is_ignored() {
    let sts = Sts::start([Reply::good()]);
    for page in [
        "<html>s3cr3t</html>",
        "Sign in",
        "ok",
        "eu-west-1\neu-west-2",
    ] {
        let host =
            Loopback::start(move |_, connection| connection.answer(200, "", page.as_bytes()));
        let start = bare()
            .without_variable("AWS_EC2_METADATA_DISABLED")
            .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", &host.url());
        assert_eq!(signed_for(&sts, start), "us-east-1", "{page}");
    }
}

#[test]
fn region_request_to_the_host_is_retried() {
    // STS calls go through this proxy, where nothing listens. So each call fails, with a log line whose URL contains the region.
    let proxy = "127.0.0.1:1";
    let rows = [
        (CHINAS, "AWS_USE_FIPS_ENDPOINT", "false"),
        (
            "arn:aws-us-gov:iam::123456789012:role/x",
            "AWS_USE_FIPS_ENDPOINT",
            "false",
        ),
        (ROLE, "AWS_USE_FIPS_ENDPOINT", "true"),
        (ROLE, "AWS_USE_DUALSTACK_ENDPOINT", "true"),
    ];
    let wrong = [
        (None, PortState::Shut),
        (None, PortState::Full),
        (Some((Step::Token, Wrong::Hang)), PortState::Open),
        (Some((Step::Token, Wrong::Status(503))), PortState::Open),
    ];
    let rows = rows.into_iter().zip(wrong);
    each(rows, |((role, switch, value), (wrong, state))| {
        let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
        host.wrong_now(wrong);
        host.set_port_state(state);
        let start = host.known_to(bare()).variable(switch, value);
        let start = start.variable("HTTPS_PROXY", &format!("http://{proxy}"));
        let ec2_role = start.arguments([role]).start();
        let line = ec2_role.wait_for_line("no credential");
        assert!(
            line.contains(&host.url()) && line.contains("give --region"),
            "{line}"
        );
        host.wrong_now(None);
        host.set_port_state(PortState::Open);
        ec2_role.wait_for_line(&format!(".{REGION}."));
    });
}

#[test]
fn unknown_partition_is_the_error_although_the_host_is_away() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    host.set_port_state(PortState::Shut);
    let start = host.known_to(bare());
    let ended = start
        .arguments(["arn:aws-new:iam::123456789012:role/x"])
        .run();
    let line = ended.lines.last().unwrap();
    assert!(
        ended.status == Some(2) && line.contains("give it with --endpoint-url"),
        "{ended:?}"
    );
}

#[test]
fn a_known_region_stays_when_the_host_does_not_answer() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    let sts = Sts::start([Reply::good().valid_for(2)]);
    let start = host.known_to(bare());
    let _ec2_role = start
        .arguments([ROLE, "--endpoint-url", &sts.url()])
        .serving();
    host.set_port_state(PortState::Shut);
    let before = sts.calls().len();
    until("three more calls", || {
        (sts.calls().len() > before + 2).then_some(())
    });
    for call in sts.calls() {
        let authorization = call.request.header("Authorization");
        assert!(
            authorization.contains(&format!("/{REGION}/sts/")),
            "{authorization}"
        );
    }
}

#[test]
fn guessed_region_is_logged_only_before_a_credential() {
    let host = HostMetadata::start(Tokens::Required, "ASIAHOST");
    host.set_port_state(PortState::Shut);
    let sts = Sts::start([Reply::good().valid_for(2)]);
    let start = host.known_to(bare());
    let ec2_role = start
        .arguments([ROLE, "--endpoint-url", &sts.url()])
        .serving();
    let line = ec2_role.wait_for_line("signing for us-east-1");
    assert!(line.contains("Connection refused"), "{line}");
    ec2_role.wait_for_document_of_call(2);
    assert_eq!(ec2_role.count_lines("signing for us-east-1"), 1);
}

#[test]
fn a_pseudo_region_signs_for_the_global_one_and_is_not_served() {
    let sts = Sts::start([Reply::good()]);
    let start = bare().variable("AWS_REGION", "aws-global");
    let ec2_role = start
        .arguments([ROLE, "--endpoint-url", &sts.url()])
        .serving();
    let authorization = sts.calls()[0].request.header("Authorization").to_owned();
    assert!(authorization.contains("/us-east-1/sts/"), "{authorization}");
    assert_eq!(
        ec2_role.get("/latest/meta-data/placement/region").status,
        404
    );
    let regionless = bare()
        .variable("AWS_REGION", "aws-cn-global")
        .arguments([CHINAS])
        .spawn();
    // The fault is transient, because a shared file can name a region later.
    regionless.wait_for_line(
        "no region: partition aws-cn has no global STS endpoint; give --region; no credential",
    );
    let fips = bare()
        .variable("AWS_REGION", "aws-global")
        .variable("AWS_USE_FIPS_ENDPOINT", "true")
        .arguments([ROLE])
        .spawn();
    fips.wait_for_line(
        "no region: partition aws has no global STS endpoint with FIPS or dual stack; give --region; no credential",
    );
}

#[test]
fn an_indented_services_section_gives_the_sts_endpoint() {
    let sts = Sts::start([Reply::good()]);
    let config = format!(
        "  [default]\n  region = eu-west-1\n  services = mine\n  s3 =\n    endpoint_url = {NOWHERE}\n  [services mine]\n  sts =\n\
         \x20   endpoint_url = {}\n",
        sts.url()
    );
    drop(
        bare()
            .file(".aws/config", &config)
            .arguments([ROLE])
            .serving(),
    );
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn role_arn_of_another_sts_is_sent_unchanged() {
    let sts = Sts::start([Reply::good()]);
    for arn in [
        "arn:aws:iam:::role/x",
        "arn:minio:iam:::role/x",
        "urn:ecs:iam::ns1:role/x",
    ] {
        for name in [
            "EC2_ROLE_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_STS",
            "AWS_ENDPOINT_URL",
        ] {
            let start = bare()
                .variable(name, &sts.url())
                .variable("EC2_ROLE_ARN", arn);
            drop(start.serving());
            assert_eq!(sts.calls().last().unwrap().parameter("RoleArn"), arn);
        }
        // The command line is checked before the shared files are read, so the check ignores an endpoint in such a file.
        let config = format!("[default]\nendpoint_url = {}\n", sts.url());
        let start = bare().file(".aws/config", &config).arguments([arn]);
        let ended = start.run();
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(
            ended.lines[0].ends_with("give its --endpoint-url"),
            "{ended:?}"
        );
        // The role of a web identity is validated in the same way.
        let with_identity = || {
            let start = Start::bare()
                .listen("127.0.0.1:0")
                .arguments([ROLE])
                .variable("AWS_ROLE_ARN", arn);
            let file = start.home.write("identity", "token");
            start.variable("AWS_WEB_IDENTITY_TOKEN_FILE", &file)
        };
        drop(
            with_identity()
                .variable("AWS_ENDPOINT_URL_STS", &sts.url())
                .serving(),
        );
        let calls = sts.calls();
        assert_eq!(calls[calls.len() - 2].parameter("RoleArn"), arn);
        // If the ARN were accepted, the call would go to this proxy, so nothing can leave this machine.
        let ended = with_identity()
            .variable("HTTPS_PROXY", "http://127.0.0.1:1")
            .run();
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(
            ended.lines[1].contains(&format!("AWS_ROLE_ARN: {arn:?} is not a role's ARN")),
            "{ended:?}"
        );
    }
    assert_eq!(sts.calls().len(), 15);
}
