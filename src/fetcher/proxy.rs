//! The proxy that stands before a host, by the environment's variables: read as Python (so botocore) and curl read them.

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::common::environment::Environment;
use crate::common::fault::{Fault, permanent};

/// A proxy, and how it is called in a line of the log.
pub struct NamedProxy {
    /// For ureq.
    pub proxy: Proxy,
    /// `the proxy HOST:PORT of VARIABLE`: never its user and password.
    pub name: String,
}

/// The proxy for a URL's host, if a variable names one and none excepts the host. Where both spellings are set the small letters
/// count.
pub fn find(uri: &Uri, environment: &Environment) -> Result<Option<NamedProxy>, Fault> {
    let host = uri.host().unwrap_or_default();
    let set = |name: &'static str| Some((name, environment.get(name)?));
    let except = set("no_proxy").or(set("NO_PROXY"));
    if except.is_some_and(|(_, list)| is_in(list, host)) {
        return Ok(None);
    }
    let of_scheme = match uri.scheme_str() {
        Some("https") => set("https_proxy").or(set("HTTPS_PROXY")),
        _ => set("http_proxy").or(set("HTTP_PROXY")),
    };
    let Some((variable, value)) = of_scheme.or(set("all_proxy")).or(set("ALL_PROXY")) else {
        return Ok(None);
    };
    match Proxy::new(value) {
        Ok(proxy) if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) => {
            let name = format!("the proxy {}:{} of {variable}", proxy.host(), proxy.port());
            Ok(Some(NamedProxy { proxy, name }))
        }
        // Its value may hold a password.
        _ => permanent(format!(
            "{variable}: it is not the URL of a proxy that speaks HTTP; write http://HOST:PORT, or unset it"
        )),
    }
}

/// Whether a list as in NO_PROXY holds a host, or a domain that it is in. Ports are not compared: an entry excepts its host.
fn is_in(list: &str, host: &str) -> bool {
    let host = without_port(host).to_ascii_lowercase();
    let excepts = |entry: &str| {
        let domain = without_port(entry).to_ascii_lowercase();
        let domain = domain.trim_start_matches('*').trim_start_matches('.');
        let is_below = |above: &str| above.ends_with('.');
        entry == "*"
            || (!domain.is_empty()
                && host
                    .strip_suffix(domain)
                    .is_some_and(|above| above.is_empty() || is_below(above)))
    };
    list.split([',', ' ', '\t'])
        .filter(|entry| !entry.is_empty())
        .any(excepts)
}

/// The host of `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT` or `IPV6`.
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
    fn no_proxy_excepts_a_host_and_what_is_below_it() {
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
            assert!(is_in(list, host), "{list:?} {host}");
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
            assert!(!is_in(list, host), "{list:?} {host}");
        }
    }

    #[test]
    fn small_letters_go_before_capitals_and_the_schemes_own_before_all_proxy() {
        let named = |url: &str, environment: Environment| {
            find(&url.parse().unwrap(), &environment)
                .unwrap()
                .map(|found| found.name)
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
        assert_eq!(
            named("https://x/", all()).unwrap(),
            "the proxy b:2 of https_proxy"
        );
        assert_eq!(
            named("http://x/", all()).unwrap(),
            "the proxy d:80 of HTTP_PROXY"
        );
        let one = Environment::from([("ALL_PROXY", "a:1")]);
        assert_eq!(
            named("https://x/", one).unwrap(),
            "the proxy a:1 of ALL_PROXY"
        );
        assert_eq!(named("https://x/", Environment::default()), None);
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_without_repeating_it() {
        for value in [
            "http://user:s3cr3t@[x",
            "socks5://user:s3cr3t@h:1",
            "ftp://s3cr3t",
            "s3cr3t h",
        ] {
            let environment = Environment::from([("HTTPS_PROXY", value)]);
            let Err(Fault::Permanent(text)) = find(&"https://x/".parse().unwrap(), &environment)
            else {
                panic!("{value}");
            };
            assert!(
                text.starts_with("HTTPS_PROXY: ") && !text.contains("s3cr3t"),
                "{text}"
            );
        }
    }
}
