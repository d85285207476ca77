//! One request to the outside, over ureq with every default set that we rely on.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ureq::config::{IpFamily, RedirectAuthHeaders};
use ureq::http::{self, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy, Timeout};

use crate::common::environment::Environment;
use crate::common::fault::{Fault, permanent};
use crate::fetcher::proxy;

/// More than any answer that we want; less than what could trouble an fetcher.
const MAX_BODY_BYTES: u64 = 256 * 1024;
/// More than any header that AWS sends.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// A whole head must find room, of an answer or of a request with a long session token.
const BUFFER_BYTES: usize = 2 * MAX_HEADER_BYTES;

/// How std begins what the resolver says.
const NOT_FOUND: &str = "failed to lookup address information: ";

/// A client for one kind of destination.
pub struct HttpClient {
    agent: Agent,
    /// What the proxy before it is called, if there is one.
    proxy: Option<String>,
}

/// An answer of whatever status.
#[derive(Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, at most 256 KiB.
    pub body: Vec<u8>,
    /// Whether it is of a type that is not text.
    pub is_binary: bool,
    /// The `Date` header, if there is a good one.
    pub date: Option<SystemTime>,
    /// The `x-amzn-RequestId` header, by which AWS's support finds a call.
    pub request_id: Option<String>,
}

impl Answer {
    /// The body as text; what is not UTF-8 in it is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError {
    /// The peer accepted the connection, and then said nothing in time.
    Silent,
    /// It is known what is wrong: what, and what to do about it.
    Wrong(String, &'static str),
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Silent => {
                formatter.write_str("it took the connection and did not answer in time")
            }
            SendError::Wrong(text, _) | SendError::Other(text) => formatter.write_str(text),
        }
    }
}

impl SendError {
    /// What rustls and the resolver say, which they say in words alone; anything else as it is.
    fn from_words(text: String) -> Self {
        if let Some((_, why)) = text.split_once(NOT_FOUND) {
            return SendError::Wrong(
                format!("its name is not found: {why}"),
                "look at the name, and at the name servers in /etc/resolv.conf",
            );
        }
        let (why, remedy) = match text.split_once("invalid peer certificate: ") {
            Some((_, "UnknownIssuer")) => (
                "its certificate is of an authority that is not trusted here".to_owned(),
                "name a file with the authority's own in AWS_CA_BUNDLE",
            ),
            Some((_, why)) if is_of_time(why) => (
                format!("its certificate is not valid now: {why}"),
                "let it be renewed, or set this machine's clock",
            ),
            Some((_, why)) => (
                format!("its certificate is not good: {why}"),
                "look at the URL, the certificate and AWS_CA_BUNDLE",
            ),
            None if text.contains("InvalidContentType") => {
                ("it does not speak TLS".to_owned(), "is it http://?")
            }
            None => return SendError::Other(text),
        };
        SendError::Wrong(why, remedy)
    }
}

/// `Expired` and `NotValidYet`, or a sentence about either.
fn is_of_time(why: &str) -> bool {
    let letters = why.to_lowercase().replace(' ', "");
    letters.contains("expired") || letters.contains("notvalidyet")
}

/// How long each phase of a request may take. Name resolution has no limit here, as ureq would start a thread for it: the
/// supervisor's deadline for the whole fetcher is its limit.
#[derive(Clone, Copy)]
pub struct Timeouts {
    /// For the connection, TLS included.
    pub connect: Duration,
    /// For sending, for the head of the answer and for its body, each.
    pub answer: Duration,
}

impl HttpClient {
    /// For link-local and loopback services: never through a proxy.
    pub fn direct(timeouts: Timeouts) -> Self {
        HttpClient {
            agent: agent(timeouts, None, RootCerts::WebPki),
            proxy: None,
        }
    }

    /// For `url`, through the proxy that the environment names for it (never for this machine or its link), trusting `ca_bundle`
    /// (the text and the name of a PEM file) in place of the public authorities if it is given.
    pub fn for_url(
        url: &str,
        environment: &Environment,
        ca_bundle: Option<(&str, &[u8])>,
        timeouts: Timeouts,
    ) -> Result<Self, Fault> {
        let roots = match ca_bundle {
            None => RootCerts::WebPki,
            Some((name, pem)) => roots(name, pem)?,
        };
        let proxy = match url.parse::<Uri>() {
            Ok(uri) if !uri.host().is_some_and(is_near) => proxy::find(&uri, environment)?,
            _ => None,
        };
        let (proxy, name) = proxy.map(|found| (found.proxy, found.name)).unzip();
        Ok(HttpClient {
            agent: agent(timeouts, proxy, roots),
            proxy: name,
        })
    }

    /// Sends one request and reads the whole answer.
    pub fn send(&self, request: http::Request<String>) -> Result<Answer, SendError> {
        let is_tls = request.uri().scheme_str() == Some("https");
        let read = || {
            let mut response = self.agent.run(request)?;
            let header = |name| response.headers().get(name)?.to_str().ok();
            let date = header("date").and_then(|date| httpdate::parse_http_date(date).ok());
            let request_id = header("x-amzn-requestid").map(str::to_owned);
            let is_binary = header("content-type")
                .is_some_and(|value| value.starts_with("application/octet-stream"));
            let body = response
                .body_mut()
                .with_config()
                .limit(MAX_BODY_BYTES)
                .read_to_vec()?;
            Ok(Answer {
                status: response.status().as_u16(),
                body,
                is_binary,
                date,
                request_id,
            })
        };
        read().map_err(|error| self.why(error, is_tls))
    }

    fn why(&self, error: ureq::Error, is_tls: bool) -> SendError {
        let text = match &error {
            ureq::Error::Timeout(Timeout::RecvResponse) => return SendError::Silent,
            ureq::Error::Timeout(Timeout::Connect) if is_tls => {
                "it took too long (connect and TLS)".to_owned()
            }
            ureq::Error::Timeout(phase) => format!("it took too long ({phase})"),
            ureq::Error::BodyExceedsLimit(_) => {
                return SendError::Wrong(
                    format!("its answer is longer than {} KiB", MAX_BODY_BYTES / 1024),
                    "is its URL the one that was meant?",
                );
            }
            ureq::Error::Io(error) => without_number(error),
            ureq::Error::ConnectProxyFailed(why) => why.clone(),
            other => other.to_string(),
        };
        match &self.proxy {
            Some(name) if is_at_proxy(&error) => SendError::Wrong(
                format!("{name}: {text}"),
                "look at that variable and the proxy; NO_PROXY excepts a host from it",
            ),
            _ => SendError::from_words(text),
        }
    }
}

/// Whether it is the proxy that fails, where there is one: its name is the only one that is looked up, and it alone is connected
/// to. What the system did not say comes out of the tunnel, as from TLS.
fn is_at_proxy(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::HostNotFound
        | ureq::Error::Timeout(Timeout::Connect) => true,
        ureq::Error::Io(error) => {
            error.raw_os_error().is_some() || error.to_string().contains(NOT_FOUND)
        }
        _ => false,
    }
}

/// `Connection refused`, without `(os error 111)`.
fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn agent(timeouts: Timeouts, proxy: Option<Proxy>, roots: RootCerts) -> Agent {
    Agent::config_builder()
        // An error's body says what is wrong.
        .http_status_as_error(false)
        // Neither STS nor a metadata service redirects; what does is something else, and its answer says what.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::Never)
        .save_redirect_history(false)
        // Metadata services speak plain http.
        .https_only(false)
        .allow_non_standard_methods(false)
        // A private subnet may have either.
        .ip_family(IpFamily::Any)
        // A request is one write, and its answer is waited for.
        .no_delay(true)
        .proxy(proxy)
        .tls_config(tls(roots))
        .user_agent(concat!("ec2-role/", env!("CARGO_PKG_VERSION")))
        .accept("")
        .accept_encoding("")
        .timeout_global(None)
        .timeout_per_call(None)
        .timeout_resolve(None)
        // It would start anew with each piece; the phases below have limits.
        .timeout_per_read(None)
        .timeout_per_write(None)
        .timeout_connect(Some(timeouts.connect))
        .timeout_send_request(Some(timeouts.answer))
        // Nothing here sends Expect.
        .timeout_await_100(None)
        .timeout_send_body(Some(timeouts.answer))
        .timeout_recv_response(Some(timeouts.answer))
        .timeout_recv_body(Some(timeouts.answer))
        .max_response_header_size(MAX_HEADER_BYTES)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        // An fetcher is over before a connection could be of use again.
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .build()
        .into()
}

fn tls(roots: RootCerts) -> TlsConfig {
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(roots)
        // By signature and by token it is known who calls.
        .client_cert(None)
        // AWS has many hosts on one address.
        .use_sni(true)
        .disable_verification(false)
        .build()
}

fn roots(name: &str, pem: &[u8]) -> Result<RootCerts, Fault> {
    let certificates: Vec<Certificate> = ureq::tls::parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return permanent(format!(
            "CA bundle {name}: it holds no certificate; give a file with PEM certificates"
        ));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// A text as the URL of a host, for http or https; or why it is none. What stands before an `@` may be a password: such a URL would
/// be shown in the log, so it is refused, and not repeated.
pub fn read_url(text: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    match uri {
        Some(uri) if !uri.authority().is_some_and(|it| it.as_str().contains('@')) => Ok(uri),
        None if !text.contains('@') => Err(format!("{text:?} is not the URL of a host")),
        _ => Err("it holds a user or a password, which a URL here cannot have".to_owned()),
    }
}

/// The address that a URL's host is, if it is one.
pub fn address(host: &str) -> Option<IpAddr> {
    let text = host.trim_start_matches('[').trim_end_matches(']');
    text.parse().ok()
}

/// Whether a host is this machine or on its link: `localhost`, a loopback or link-local address, or EC2's own IPv6 ones.
pub fn is_near(host: &str) -> bool {
    match address(host) {
        Some(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Some(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
        None => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_valid_yet_tells_of_the_clock() {
        for why in ["NotValidYet", "certificate not valid yet: verified at 1"] {
            let error = SendError::from_words(format!("invalid peer certificate: {why}"));
            let expected = SendError::Wrong(
                format!("its certificate is not valid now: {why}"),
                "let it be renewed, or set this machine's clock",
            );
            assert_eq!(error, expected);
        }
    }
}
