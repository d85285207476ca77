//! Tests `--same-network`: which clients are served at which address.

use crate::support::container::{self, Container};
use crate::support::http::{self, LIST_PATH};
use crate::support::{Reply, Start, Sts, namespace};

/// The host's addresses: NEAR on the container's subnet, FAR on another. BEHIND_ROUTER: a client whose router is the container.
const NEAR: &str = "192.0.2.1";
const FAR: &str = "198.51.100.1";
const BEHIND_ROUTER: &str = "203.0.113.5";

#[test]
fn a_container_is_served_at_its_own_subnets_address_only() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let container = Container::start();
    container::run(&format!(
        "ip address add {FAR}/24 dev lo; ip route add default via 192.0.2.2"
    ));
    let sts = Sts::start([Reply::good()]);
    for (listen, arguments, from_afar) in [
        ("0.0.0.0:0", vec![], "200 OK"),
        ("0.0.0.0:0", vec!["--same-network"], "403 Forbidden"),
        // A dual-stack socket reports IPv4 addresses as IPv4-mapped IPv6 addresses. The result must be the same.
        ("[::]:0", vec!["--same-network"], "403 Forbidden"),
    ] {
        let ec2_role = Start::with(&sts)
            .listen(listen)
            .arguments(arguments)
            .serving();
        let port = ec2_role.address.port();
        for (address, expected) in [(NEAR, "200 OK"), (FAR, from_afar)] {
            let answer = container.get(&format!("{address}:{port}"), LIST_PATH);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {expected}")),
                "{listen} {address}: {answer}"
            );
            assert_eq!(answer.contains("exc_web"), expected == "200 OK", "{answer}");
        }
        // Now the container is a router. A client behind it is not on `NEAR`'s subnet: the host reaches it by the default route.
        let routed = container.get_from(BEHIND_ROUTER, &format!("{NEAR}:{port}"), LIST_PATH);
        assert!(
            routed.starts_with(&format!("HTTP/1.1 {from_afar}")),
            "{listen}: {routed}"
        );
        for address in ["127.0.0.1", NEAR, FAR] {
            let answer = http::get(format!("{address}:{port}").parse().unwrap(), LIST_PATH);
            assert_eq!(answer.unwrap().status, 200, "{address}");
        }
        let line = ec2_role.wait_for_line("192.0.2.2 - - [");
        assert!(line.starts_with("192.0.2.2 "), "{line}");
    }
}
