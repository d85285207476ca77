//! Which STS is called, for which region: options, variables, the profile, the host, in that order.

use crate::support::host_metadata::{ImdsClient, REGION, Tokens};
use crate::support::loopback::Loopback;
use crate::support::{ROLE, Reply, Start, Sts};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";
const CHINAS: &str = "arn:aws-cn:iam::123456789012:role/exc_web";

fn bare() -> Start {
    Start::bare().listen("127.0.0.1:0").keys("AKIA")
}

/// The region that the one call of this start is signed for.
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
fn an_endpoint_is_the_options_else_the_variables_else_the_services_else_the_profiles() {
    let sts = Sts::start([Reply::good()]);
    for place in 0..5 {
        // What goes before is not set, what comes after leads nowhere.
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
    let ignoring = || {
        bare()
            .variable("AWS_ENDPOINT_URL_STS", NOWHERE)
            .variable("AWS_ENDPOINT_URL", NOWHERE)
            .variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
            .file(
                ".aws/config",
                &format!("[default]\nendpoint_url = {NOWHERE}\n"),
            )
    };
    // Without a URL a region is needed, so it does not come to a call.
    let ended = ignoring().arguments([CHINAS]).run();
    assert!(
        ended.lines.last().unwrap().contains("no region"),
        "{ended:?}"
    );
    drop(
        ignoring()
            .arguments([CHINAS, "--endpoint-url", &sts.url()])
            .serving(),
    );
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn a_region_is_the_options_else_a_variables_else_the_profiles_else_the_hosts_else_the_global_one() {
    let host = ImdsClient::start(Tokens::Required, "ASIAHOST");
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
fn a_page_in_place_of_the_hosts_region_is_no_region() {
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
