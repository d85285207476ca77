//! Name resolution that finds what the host's programs find.
//!
//! musl's getaddrinfo asks for IPv4 and IPv6 addresses at once and fails if either answer is an error, and if a search domain fails
//! it does not try the next one. glibc, so the host's programs, goes on in both cases.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dns_lookup::{AddrFamily, AddrInfoHints, SockType, getaddrinfo};
use ureq::Error;
use ureq::config::{Config, IpFamily};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// No lookup is begun after this time. musl takes 10 s for one that gets no answer, and the fetcher needs time for the call.
const LAST_LOOKUP: Duration = Duration::from_secs(25);
/// Capacity of `ResolvedSocketAddrs`.
const MAX_ADDRESSES: usize = 16;

/// Looks a name up as usual, then without the search domains and with them by IPv4 alone and by IPv6 alone.
#[derive(Clone, Debug, Default)]
pub struct FallbackResolver {
    /// The family of the last name's other addresses, if not all are of the first one's family.
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
        // A dot at the end keeps the search domains out.
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
