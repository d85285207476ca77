//! Keeps browsers out: no page that a person looks at needs this server, and one that reaches it means harm.

use crate::server::protocol::http::{Refusal, Request};

/// Whether a request may come from a browser. Host must be absent, an address, `localhost`, a name without a dot (as compose calls
/// its services), or one of `allowed`.
pub fn suspect(request: &Request, allowed: &[String]) -> Option<Refusal> {
    for (name, value) in request.headers {
        if name.eq_ignore_ascii_case("origin") || starts_with_ignoring_case(name, "sec-fetch-") {
            return Some(Refusal::Script);
        }
        if name.eq_ignore_ascii_case("host") && !is_known(value.trim(), allowed) {
            return Some(Refusal::Host);
        }
    }
    None
}

fn is_known(host: &str, allowed: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        // An IPv6 address in brackets.
        Some(rest) => {
            return rest
                .split_once(']')
                .is_some_and(|(address, _)| address.parse::<std::net::Ipv6Addr>().is_ok());
        }
        None => host.split_once(':').map_or(host, |(name, _port)| name),
    };
    name.parse::<std::net::Ipv4Addr>().is_ok()
        || !name.contains('.')
        || allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Option<Refusal>) {
        let allowed = ["metadata.example.com".to_owned()];
        let request = Request {
            method: "GET",
            target: "/",
            headers,
        };
        assert_eq!(suspect(&request, &allowed), expected, "{headers:?}");
    }

    #[test]
    fn a_host_that_no_name_server_is_needed_for_is_answered() {
        check(&[], None);
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
            check(&[("Host", host)], None);
        }
        check(&[("host", "Metadata.Example.com:4567")], None);
    }

    #[test]
    fn a_host_with_a_dot_is_refused_unless_it_is_allowed() {
        for host in [
            "evil.example",
            "169.254.169.254.evil.example",
            "localhost.",
            "a.b:4567",
            "[evil.example]",
            "[::1",
        ] {
            check(&[("Host", host)], Some(Refusal::Host));
        }
        check(
            &[("Host", "127.0.0.1"), ("HOST", "evil.example")],
            Some(Refusal::Host),
        );
    }

    #[test]
    fn a_script_in_a_page_is_refused_in_any_letter_case() {
        for name in ["Origin", "origin", "Sec-Fetch-Site", "sec-FETCH-mode"] {
            check(&[("Host", "127.0.0.1"), (name, "x")], Some(Refusal::Script));
        }
    }
}
