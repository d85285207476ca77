//! STS behind TLS: an authority of one's own, and what can be wrong with a certificate or in place of TLS.

use crate::support::certificates::{self, Authority};
use crate::support::{Door, Fault, ROLE, Reply, Start, Sts, When, each};

const HERE: &str = "IP:127.0.0.1";
/// From now on; and over since yesterday.
const VALID: i32 = 2;
const OVER: i32 = -1;

fn url(sts: &Sts) -> String {
    sts.url().replace("http:", "https:")
}

/// An STS by https, whose authority is trusted.
fn start(sts: &Sts, authority: &Authority) -> Start {
    Start::bare()
        .keys("AKIA")
        .listen("127.0.0.1:0")
        .arguments([ROLE, "--endpoint-url", &url(sts)])
        .variable("AWS_CA_BUNDLE", &authority.bundle())
}

fn check_each(when: When) {
    if !certificates::can() {
        return;
    }
    let authority = Authority::new("ours");
    let good = Door::Tls(authority.certify(HERE, VALID));
    let doors = [
        (
            Door::Tls(Authority::new("another").certify(HERE, VALID)),
            "from an authority that is not trusted here; name a file with that authority's certificate in AWS_CA_BUNDLE",
        ),
        // One that was made anew under its old name.
        (
            Door::Tls(Authority::new("ours").certify(HERE, VALID)),
            "its certificate is invalid: BadSignature; check the URL, the certificate and AWS_CA_BUNDLE",
        ),
        (
            Door::Tls(authority.certify(HERE, OVER)),
            "its certificate is not valid now: Expired; renew the certificate, or set this machine's clock",
        ),
        (
            Door::Tls(authority.certify("DNS:elsewhere.test", VALID)),
            "its certificate is invalid: certificate not valid for name \"127.0.0.1\"; certificate is only valid for DnsName(\"elsewhere.test\"); check the URL",
        ),
        (Door::Open, "it does not speak TLS; is it http://?"),
        (Door::Silent, "it took too long (connect and TLS); is "),
    ];
    each(doors, |(door, said)| {
        let sts = Sts::start([Reply::good()]);
        sts.door_now(good.clone());
        Fault {
            what: said.to_owned(),
            sts: &sts,
            start: &|| start(&sts, &authority),
            comes: &|| sts.door_now(door.clone()),
            passes: &|| {
                sts.replies_now(Reply::good());
                sts.door_now(good.clone());
            },
            said: &[said, &url(&sts)],
            calls: 0,
        }
        .check(when);
    });
}

#[test]
fn a_wrong_certificate_or_no_tls_at_the_first_start_is_one_line_and_heals_without_a_restart() {
    check_each(When::AtTheFirstStart);
}

#[test]
fn a_wrong_certificate_or_no_tls_during_a_refresh_takes_no_valid_key_away() {
    check_each(When::DuringARefresh);
}
