//! Refuses browsers, against DNS rebinding and cross-site requests: no page that a person looks at needs this server.

use super::http::{Refusal, Request};

/// Headers that only a browser's page sends.
const PAGE_HEADERS: [&str; 4] = [
    "Origin",
    "Sec-Fetch-Site",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Dest",
];

/// Host must be absent, an address, a name without a dot (`localhost`, or a compose service), or one of `allowed_hosts`.
pub fn check(request: &Request, allowed_hosts: &[String]) -> Result<(), Refusal> {
    for (name, value) in request.headers {
        let is = |other: &&str| name.eq_ignore_ascii_case(other);
        if PAGE_HEADERS.iter().any(is) {
            return Err(Refusal::Script);
        }
        if is(&"Host") && !is_allowed(value.trim(), allowed_hosts) {
            return Err(Refusal::Host);
        }
    }
    Ok(())
}

fn is_allowed(host: &str, allowed_hosts: &[String]) -> bool {
    if let Some(in_brackets) = host.strip_prefix('[') {
        let address = in_brackets.split_once(']').map(|(address, _)| address);
        return address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    name.parse::<std::net::Ipv4Addr>().is_ok()
        || !name.contains('.')
        || allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Result<(), Refusal>) {
        let allowed = ["metadata.example.com".to_owned()];
        let request = Request {
            method: "GET",
            target: "/",
            headers,
        };
        assert_eq!(super::check(&request, &allowed), expected, "{headers:?}");
    }

    #[test]
    fn hosts_that_need_no_name_server_are_allowed() {
        check(&[], Ok(()));
        for host in [
            "169.254.169.254",
            "127.0.0.1:4567",
            "[fd00:ec2::254]",
            "[::1]:80",
            "localhost",
            "LOCALHOST:80",
            "ec2-role:4567",
            "",
        ] {
            check(&[("Host", host)], Ok(()));
        }
        check(&[("host", "Metadata.Example.com:4567")], Ok(()));
    }

    #[test]
    fn a_host_with_a_dot_is_refused_unless_it_is_configured() {
        for host in [
            "evil.example",
            "169.254.169.254.evil.example",
            "localhost.",
            "a.b:4567",
            "[evil.example]",
            "[::1",
        ] {
            check(&[("Host", host)], Err(Refusal::Host));
        }
        check(
            &[("Host", "127.0.0.1"), ("HOST", "evil.example")],
            Err(Refusal::Host),
        );
    }

    #[test]
    fn headers_of_a_page_are_refused_in_any_letter_case() {
        for name in ["Origin", "origin", "Sec-Fetch-Site", "sec-FETCH-mode"] {
            check(&[("Host", "127.0.0.1"), (name, "x")], Err(Refusal::Script));
        }
    }
}
