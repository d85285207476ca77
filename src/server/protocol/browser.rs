//! Refuses requests of browsers, to prevent DNS rebinding and cross-site requests. No web page needs this server.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::http::{Refusal, Request};

/// Whether a header of this name marks a browser's request. To loopback, each request has `Sec-Fetch-Site`. To other addresses,
/// the request for a page or a frame has `Upgrade-Insecure-Requests`, and a request whose response a script may read has
/// `Origin`; the request for an image, a script or (in Firefox) an `object` has no mark, and is refused only if session tokens
/// are required. `Sec-Fetch-Mode` is no mark, because Node's `fetch` sends it too.
pub fn is_mark(name: &str) -> bool {
    const FETCH: &str = "Sec-Fetch-";
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let is_fetch = name.get(..FETCH.len()).is_some_and(|start| start.eq_ignore_ascii_case(FETCH));
    is("Origin") || is("Upgrade-Insecure-Requests") || (is_fetch && !is("Sec-Fetch-Mode"))
}

/// Refuses headers that mark a browser's request, and a Host header with a name that an attacker could register for DNS
/// rebinding. Allowed are an absent or empty Host, IP addresses, `localhost` and names below it (RFC 6761), and `allowed_hosts`;
/// for a request to an address other than loopback, also names without a dot and names below `internal` (reserved by ICANN).
pub fn check(request: &Request, allowed_hosts: &[String]) -> Result<(), Refusal> {
    for (name, value) in request.headers {
        if is_mark(name) {
            return Err(Refusal::Script);
        }
        let is_host = name.eq_ignore_ascii_case("host");
        if is_host && !is_allowed(value.trim(), request.is_to_loopback, allowed_hosts) {
            return Err(Refusal::Host);
        }
    }
    Ok(())
}

fn is_allowed(host: &str, is_to_loopback: bool, allowed_hosts: &[String]) -> bool {
    // Split off the port, which follows the last colon. A colon before a closing bracket does not count: it is part of an IPv6
    // address.
    let (name, port) = match host.rfind([':', ']']).map(|at| host.split_at(at)) {
        Some((name, port)) if port.starts_with(':') => (name, &port[1..]),
        _ => (host, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if let Some(address) = in_brackets {
        // Cut off the zone, as in `[fe80::1%2]`: clients such as `--check` send it with a link-local address.
        return address.split('%').next().is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.bytes().all(is_of_name) {
        return false;
    }
    // An IPv4 address comes here only in an unusual form, such as `127.0.0.1.`, because `request_head::is_relevant` ignores a
    // Host header that is a plain IPv4 address, with or without a port.
    if name.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let name = name.to_ascii_lowercase();
    // On a bridge, the container engine or compose names the server, so allow dotless names and `.internal` there. On loopback,
    // where browsers run, `localhost` is enough.
    let is_of_loopback = name.is_empty() || name == "localhost" || name.ends_with(".localhost");
    let is_of_network = !name.contains('.') || name.ends_with(".internal");
    is_of_loopback
        || (is_of_network && !is_to_loopback)
        || allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: bool = true;

    #[track_caller]
    fn check(is_to_loopback: bool, headers: &[(&str, &str)], expected: Result<(), Refusal>) {
        let allowed = ["metadata.example.com".to_owned()];
        let request = Request { method: "GET", target: "/", headers, is_to_loopback };
        assert_eq!(super::check(&request, &allowed), expected, "{headers:?}");
    }

    #[test]
    fn hosts_that_nobody_can_register_are_allowed() {
        check(LOOPBACK, &[], Ok(()));
        for host in [
            "169.254.169.254", "127.0.0.1:4567", "127.0.0.1:", "[fd00:ec2::254]", "[::1]:80",
            "[fe80::1%2]:4567", "localhost", "LOCALHOST:80", "localhost.", "role.localhost:80",
            "metadata.example.com.", "",
        ] {
            check(LOOPBACK, &[("Host", host)], Ok(()));
            check(!LOOPBACK, &[("Host", host)], Ok(()));
        }
        check(LOOPBACK, &[("host", "Metadata.Example.com:4567")], Ok(()));
    }

    #[test]
    fn names_of_the_network_are_allowed_except_on_loopback() {
        for host in [
            "ec2-role:4567", "ec2-role.", "host.docker.internal", "HOST.containers.Internal:4567",
            "instance-data.ec2.internal.",
        ] {
            check(!LOOPBACK, &[("Host", host)], Ok(()));
            check(LOOPBACK, &[("Host", host)], Err(Refusal::Host));
        }
    }

    #[test]
    fn rebinding_names_are_refused() {
        for host in [
            "evil.example", "169.254.169.254.evil.example", "169.254.169.254.nip.io",
            "169-254-169-254.sslip.io", "localhost.evil.example", "localtest.me",
            "internal.example", "internal.", "evil.internal.example", "evilinternal.example",
            "evil.example.", "evil.example..", "localhost..", "a.b:4567", "127.0.0.1:80:evil.com",
            "127.0.0.1:evil.com", "127.0.0.1:80.evil.com", "127.0.0.1@evil.com",
            "evil.com:80@127.0.0.1", "[::1].evil.com", "[::1]evil.com:80", "[::1]:80:evil.com",
            "[::1]:evil.com", "[evil.example]", "[evil.example%2]", "[::1", "::1",
            "169.254.169.254, evil.example", "metadata.example.com.evil.example",
        ] {
            check(LOOPBACK, &[("Host", host)], Err(Refusal::Host));
        }
        let two = [("Host", "127.0.0.1"), ("HOST", "evil.example")];
        check(LOOPBACK, &two, Err(Refusal::Host));
    }

    #[test]
    fn headers_of_a_page_are_refused_in_any_letter_case() {
        for name in [
            "Origin", "origin", "Sec-Fetch-Site", "sec-FETCH-dest", "Sec-Fetch-User",
            "upgrade-Insecure-Requests",
        ] {
            let headers = [("Host", "127.0.0.1"), ("Sec-Fetch-Mode", "cors"), (name, "x")];
            check(LOOPBACK, &headers, Err(Refusal::Script));
            check(LOOPBACK, &headers[..2], Ok(()));
        }
    }
}
