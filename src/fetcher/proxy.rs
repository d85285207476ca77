//! Finds the proxy for a URL in the environment's variables, by the rules of curl and of Python (which botocore uses).

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::common::{Environment, Fault, permanent};

/// Returns the proxy that a variable names for a URL, with its name for errors (`the proxy HOST:PORT of VARIABLE`, without user
/// and password). `None` if NO_PROXY lists the host or no variable is set. The lower-case spelling of a variable wins.
pub fn find(uri: &Uri, environment: &Environment) -> Result<Option<(Proxy, String)>, Fault> {
    let host = uri.host().unwrap_or_default();
    let variable = |name: &'static str| Some((name, environment.get(name)?));
    let exceptions = variable("no_proxy").or(variable("NO_PROXY"));
    if exceptions.is_some_and(|(_, list)| is_excepted(list, host)) {
        return Ok(None);
    }
    let for_scheme = match uri.scheme_str() {
        Some("https") => variable("https_proxy").or(variable("HTTPS_PROXY")),
        _ => variable("http_proxy").or(variable("HTTP_PROXY")),
    };
    let for_all = || variable("all_proxy").or(variable("ALL_PROXY"));
    let Some((variable, value)) = for_scheme.or_else(for_all) else {
        return Ok(None);
    };
    match Proxy::new(value) {
        Ok(proxy)
            if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
                && has_valid_port(proxy.uri()) =>
        {
            let name = format!("the proxy {}:{} of {variable}", proxy.host(), proxy.port());
            Ok(Some((proxy, name)))
        }
        // The error omits the value, because it may hold a password.
        _ => permanent(format!(
            "{variable}: it is not the URL of an HTTP proxy; write http://HOST:PORT, or unset it"
        )),
    }
}

/// Returns whether a URL has no port or one from 1 to 65535. `Uri` accepts larger numbers, for which ureq would connect to the
/// scheme's default port.
pub fn has_valid_port(uri: &Uri) -> bool {
    let is_bare = uri.authority().is_some_and(|it| it.as_str().ends_with(it.host()));
    is_bare || uri.port_u16().is_some_and(|port| port > 0)
}

/// Returns whether the NO_PROXY list names a host or one of its parent domains. Ports in the list are ignored.
fn is_excepted(list: &str, host: &str) -> bool {
    let host = without_port(host).to_ascii_lowercase();
    let covers = |entry: &str| {
        let domain = without_port(entry).to_ascii_lowercase();
        let domain = domain.trim_start_matches('*').trim_start_matches('.');
        let rest = host.strip_suffix(domain).filter(|_| !domain.is_empty());
        entry == "*" || rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).any(covers)
}

/// Returns the host part of `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT` or `IPV6`.
fn without_port(text: &str) -> &str {
    if let Some(inside) = text.strip_prefix('[') {
        return inside.split(']').next().unwrap_or_default();
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_excepts_a_host_and_its_subdomains() {
        for (list, host) in [
            ("sts.example", "sts.example"),
            ("STS.example", "sts.EXAMPLE"),
            ("example", "sts.example"),
            (".example", "sts.example"),
            ("*.example", "sts.example"),
            (".sts.example", "sts.example"),
            ("other, sts.example", "sts.example"),
            ("other sts.example", "sts.example"),
            ("sts.example:443", "sts.example"),
            ("*", "sts.example"),
            ("a,*", "sts.example"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
        ] {
            assert!(is_excepted(list, host), "{list:?} {host}");
        }
        for (list, host) in [
            ("", "sts.example"),
            (" ,, ", "sts.example"),
            (".", "sts.example"),
            ("ts.example", "sts.example"),
            ("sts.example", "example"),
            ("sts.example.org", "sts.example"),
            ("192.0.2.1", "192.0.2.11"),
        ] {
            assert!(!is_excepted(list, host), "{list:?} {host}");
        }
    }

    #[test]
    fn lower_case_variable_wins_and_all_proxy_is_last() {
        let named = |url: &str, environment: Environment| {
            find(&url.parse().unwrap(), &environment).unwrap().map(|(_, name)| name)
        };
        let all = || {
            Environment::from([
                ("ALL_PROXY", "a:1"),
                ("https_proxy", "http://b:2"),
                ("HTTPS_PROXY", "c:3"),
                ("HTTP_PROXY", "http://user:s3cr3t@d"),
                ("no_proxy", "none"),
                ("NO_PROXY", "*"),
            ])
        };
        assert_eq!(named("https://x/", all()).unwrap(), "the proxy b:2 of https_proxy");
        assert_eq!(named("http://x/", all()).unwrap(), "the proxy d:80 of HTTP_PROXY");
        let one = Environment::from([("ALL_PROXY", "a:1")]);
        assert_eq!(named("https://x/", one).unwrap(), "the proxy a:1 of ALL_PROXY");
        assert_eq!(named("https://x/", Environment::default()), None);
    }

    #[test]
    fn a_bad_proxy_is_refused_without_repeating_its_url() {
        for value in [
            "http://user:s3cr3t@[x", "http://user:s3cr3t@h:99999", "s3cr3t:0",
            "socks5://user:s3cr3t@h:1", "ftp://s3cr3t", "s3cr3t h",
        ] {
            let environment = Environment::from([("HTTPS_PROXY", value)]);
            let Err(Fault::Permanent(text)) = find(&"https://x/".parse().unwrap(), &environment)
            else {
                panic!("{value}");
            };
            assert!(text.starts_with("HTTPS_PROXY: ") && !text.contains("s3cr3t"), "{text}");
        }
    }
}
