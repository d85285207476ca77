//! Resolves host names with musl's getaddrinfo, and adds fallbacks for names that glibc finds and musl does not.
//!
//! musl's getaddrinfo sends queries for IPv4, for IPv6 and with search domains, and fails as soon as one of them gets an
//! error. glibc, which most of the host's programs use, continues with the other queries.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dns_lookup::{AddrFamily, AddrInfoHints, SockType, getaddrinfo};
use ureq::Error;
use ureq::config::{Config, IpFamily};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Fallback lookups start only within this time after the start of the default lookup, because the call to STS needs time too.
/// The last lookup may end later: in musl, a lookup without an answer takes 5 s by default.
const LAST_LOOKUP: Duration = Duration::from_secs(25);
/// Maximum number of addresses that a fallback lookup keeps: the capacity of ureq's `ResolvedSocketAddrs`.
const MAX_ADDRESSES: usize = 16;

/// Resolver with fallbacks. If the default lookup fails, it tries these lookups until one finds an address: IPv4 and IPv6 without
/// the search domains, then IPv4 and IPv6 with them.
#[derive(Clone, Debug, Default)]
pub struct FallbackResolver {
    /// The address family for a retry of the request: the one that the first address does not have. ureq itself tries another
    /// address only if it cannot connect to the first. `None` if the last lookup found addresses of only one family.
    other_family: Arc<Mutex<Option<IpFamily>>>,
}

impl FallbackResolver {
    pub fn other_family(&self) -> Option<IpFamily> {
        self.other_family.lock().ok().and_then(|family| *family)
    }
}

impl Resolver for FallbackResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (begun, ip_family) = (Instant::now(), config.ip_family());
        let mut result = DefaultResolver::default().resolve(uri, config, timeout);
        let host = uri.host().unwrap_or_default();
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        // A dot at the end of the name disables the search domains.
        for name in [format!("{host}."), host.to_owned()] {
            for family in [AddrFamily::Inet, AddrFamily::Inet6] {
                if result.is_err() && begun.elapsed() < LAST_LOOKUP {
                    let mut found = self.empty();
                    let addresses = ip_family.keep_wanted(look_up(&name, family, port));
                    addresses.take(MAX_ADDRESSES).for_each(|it| found.push(it));
                    result = if found.is_empty() { result } else { Ok(found) };
                }
            }
        }
        if let (Ok(addresses), Ok(mut other_family)) = (&result, self.other_family.lock()) {
            let is_other = |it: &&SocketAddr| it.is_ipv4() != addresses[0].is_ipv4();
            *other_family = addresses.iter().find(is_other).map(|it| match it {
                SocketAddr::V4(_) => IpFamily::Ipv4Only,
                SocketAddr::V6(_) => IpFamily::Ipv6Only,
            });
        }
        result
    }
}

fn look_up(name: &str, family: AddrFamily, port: u16) -> impl Iterator<Item = SocketAddr> {
    let hints = AddrInfoHints {
        address: family.into(),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(name), None, Some(hints)).into_iter();
    found.flatten().flatten().map(move |it| SocketAddr::new(it.sockaddr.ip(), port))
}
