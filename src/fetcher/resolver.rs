//! Name resolution that finds what the host's programs find.
//!
//! musl's getaddrinfo asks for IPv4 and IPv6 addresses at once and fails if either answer is an error, and if a search domain fails
//! it does not try the next one. glibc, so the host's programs, goes on in both cases.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use dns_lookup::{AddrFamily, AddrInfoHints, SockType, getaddrinfo};
use ureq::Error;
use ureq::config::{Config, IpFamily};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// No lookup is begun after this time. musl takes 10 s for one that gets no answer, and the fetcher needs time for the call.
const LAST_LOOKUP: Duration = Duration::from_secs(25);

/// The family of the addresses after the first, if it is another one: 4, 6, or 0 if there is none.
#[derive(Clone, Debug, Default)]
pub struct OtherFamily(Arc<AtomicU8>);

impl OtherFamily {
    pub fn get(&self) -> Option<IpFamily> {
        match self.0.load(Ordering::Relaxed) {
            4 => Some(IpFamily::Ipv4Only),
            6 => Some(IpFamily::Ipv6Only),
            _ => None,
        }
    }

    fn set(&self, addresses: &[SocketAddr]) {
        let first = addresses.first().is_some_and(SocketAddr::is_ipv4);
        let other = addresses.iter().find(|it| it.is_ipv4() != first);
        let number = other.map_or(0, |it| if it.is_ipv4() { 4 } else { 6 });
        self.0.store(number, Ordering::Relaxed);
    }
}

/// Tries a name by every family, by IPv4 alone and by IPv6 alone, and without the search domains.
#[derive(Debug)]
pub struct FallbackResolver(pub OtherFamily);

impl Resolver for FallbackResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let begun = Instant::now();
        let first = DefaultResolver::default().resolve(uri, config, timeout);
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        });
        let is_name = host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
        let mut result = first;
        if result.is_err() && is_name {
            // A dot at the end keeps the search domains out.
            let absolute = format!("{}.", host.trim_end_matches('.'));
            for (name, family) in [
                (absolute.as_str(), AddrFamily::Inet),
                (absolute.as_str(), AddrFamily::Inet6),
                (host, AddrFamily::Inet),
                (host, AddrFamily::Inet6),
            ] {
                if begun.elapsed() > LAST_LOOKUP {
                    break;
                }
                let mut found = self.empty();
                let addresses = look_up(name, family, port);
                for address in config
                    .ip_family()
                    .keep_wanted(addresses.into_iter())
                    .take(16)
                {
                    found.push(address);
                }
                if !found.is_empty() {
                    result = Ok(found);
                    break;
                }
            }
        }
        if let Ok(addresses) = &result {
            self.0.set(addresses);
        }
        result
    }
}

fn look_up(name: &str, family: AddrFamily, port: u16) -> Vec<SocketAddr> {
    let hints = AddrInfoHints {
        address: family.into(),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(name), None, Some(hints))
        .into_iter()
        .flatten();
    let addresses = found.flatten().map(|info| info.sockaddr);
    addresses.map(|it| SocketAddr::new(it.ip(), port)).collect()
}
