//! Finds the proxy for a URL in the environment: https_proxy or http_proxy, by the URL's scheme, or else all_proxy, as in curl.
//! The names may also be in capitals. This includes HTTP_PROXY, which botocore reads and curl ignores.

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::common::{Environment, Fault};
use crate::fetcher::setting::Setting;

/// Returns the proxy for a URL and its name in errors, `the proxy HOST:PORT of VARIABLE`, which omits user and password. `None`
/// if NO_PROXY lists the host or no variable names a proxy. A variable in lower case wins over the same variable in capitals.
pub fn find(uri: &Uri, environment: &Environment) -> Result<Option<(Proxy, String)>, Fault> {
    let variable = |lower_case: &str| {
        let named = |name: &str| Setting::variable(environment, name);
        named(lower_case).or_else(|| named(&lower_case.to_ascii_uppercase()))
    };
    let host = uri.host().unwrap_or_default();
    if variable("no_proxy").is_some_and(|list| is_excepted(list.value, host)) {
        return Ok(None);
    }
    let of_scheme = if uri.scheme_str() == Some("https") { "https_proxy" } else { "http_proxy" };
    let Some(setting) = variable(of_scheme).or_else(|| variable("all_proxy")) else {
        return Ok(None);
    };
    let is_http = |proxy: &Proxy| {
        matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
            && has_valid_port(proxy.uri())
    };
    let Some(proxy) = Proxy::new(setting.value).ok().filter(is_http) else {
        // The error omits the value, because it may hold a password.
        return setting
            .wrong("it is not the URL of an HTTP proxy; write http://HOST:PORT, or unset it");
    };
    let name = format!("the proxy {}:{} of {}", proxy.host(), proxy.port(), setting.origin);
    Ok(Some((proxy, name)))
}

/// Returns whether a URL's port, if it has one, is from 1 to 65535. For a larger number, which `Uri` accepts, ureq would connect
/// to the scheme's default port.
pub fn has_valid_port(uri: &Uri) -> bool {
    let is_bare = uri.authority().is_some_and(|it| it.as_str().ends_with(it.host()));
    is_bare || uri.port_u16().is_some_and(|port| port > 0)
}

/// Returns whether the NO_PROXY list names a host or one of its parent domains. Commas and white space separate entries, and `*`
/// matches every host. Ports, and `.` or `*.` at the start of an entry, are ignored.
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
