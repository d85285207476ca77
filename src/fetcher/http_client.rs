//! HTTP client over ureq: sends one request and reads the complete answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ureq::config::{Config, IpFamily};
use ureq::http::{self, Uri};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Error, Proxy, Timeout};

use crate::common::{Environment, Fault};
use crate::fetcher::proxy;
use crate::fetcher::resolver::FallbackResolver;

/// Maximum size of a body. Answers of STS and of a metadata service are far smaller.
const MAX_BODY_BYTES: u64 = 256 * 1024;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Size of the input buffer and of the output buffer, as in ureq by default. The input buffer must hold the whole head of an
/// answer, and the output buffer the longest header line of a request (`X-Amz-Security-Token`).
const BUFFER_BYTES: usize = 2 * MAX_HEADER_BYTES;

/// Maximum size of a peer's text in an error. A log line has at most 4 KiB, and a longer text would leave too little room for the
/// rest of the error.
const MAX_QUOTED_BYTES: usize = 1000;

/// Text by which errors of name resolution are recognized: the standard library puts it before the resolver's own text.
const NAME_ERROR: &str = "failed to lookup address information: ";
/// The cause of a [`SendError`] if the peer accepted the connection and sent no head before the timeout.
pub const NO_RESPONSE: &str = "it accepted the connection and did not answer in time";

pub struct HttpClient {
    agent: Agent,
    resolver: FallbackResolver,
    /// The proxy's name in error messages.
    proxy: Option<String>,
}

/// An HTTP response with any status.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// Whether the content type is `application/octet-stream`.
    pub is_binary: bool,
    /// The `Date` header, if it is well-formed.
    pub date: Option<SystemTime>,
    /// The `x-amzn-RequestId` header; AWS's support finds a call by it.
    pub request_id: Option<String>,
    /// The `Retry-After` header in seconds. If the header holds a date, the seconds count from the answer's `Date`, because this
    /// machine's clock may be wrong.
    pub retry_after: Option<u32>,
}

impl Answer {
    /// The body as text, with U+FFFD for bytes that are not UTF-8.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// The failure of a request that got no complete answer.
#[derive(Debug, PartialEq, Eq)]
pub struct SendError {
    pub cause: String,
    /// What the user can do, if that is known from the cause.
    pub remedy: Option<&'static str>,
}

impl SendError {
    pub fn new(cause: impl Into<String>, remedy: impl Into<Option<&'static str>>) -> Self {
        SendError { cause: cause.into(), remedy: remedy.into() }
    }

    /// Classifies an error of name resolution or of TLS by its text. std has no type for resolver errors, and the types of rustls
    /// would need a direct dependency.
    fn from_text(text: String) -> Self {
        if let Some((_, why)) = text.split_once(NAME_ERROR) {
            return SendError::new(
                format!("its name is not found: {why}"),
                "check the name, and that each name server in /etc/resolv.conf answers and knows it",
            );
        }
        match text.split_once("invalid peer certificate: ") {
            Some((_, "UnknownIssuer")) => SendError::new(
                "its certificate is from an authority that is not trusted here",
                "name a file with that authority's certificate in AWS_CA_BUNDLE",
            ),
            Some((_, why)) if why.contains("CaUsedAsEndEntity") => SendError::new(
                "its certificate is an authority's (CA:TRUE), not a server's",
                "give that server one with basicConstraints=CA:FALSE",
            ),
            Some((_, why)) => SendError::new(
                format!("its certificate is invalid: {why}"),
                "check the URL, the certificate, AWS_CA_BUNDLE and this machine's clock",
            ),
            None if text.contains("InvalidContentType") => {
                SendError::new("it does not speak TLS", "check whether the URL is http://")
            }
            None if text.contains("HandshakeFailure") || text.contains("ProtocolVersion") => {
                SendError::new(text, "let it offer TLS 1.2 with ECDHE and AES-GCM, or TLS 1.3")
            }
            None => SendError::new(text, None),
        }
    }
}

/// Time limits for the phases of a request. The resolution of the URL's host has no limit, because ureq would start a thread to
/// enforce it; the supervisor's deadline limits the whole fetch.
#[derive(Clone, Copy)]
pub struct Timeouts {
    /// Limit for connect and TLS handshake together; with a proxy, also for the lookup of its name and for CONNECT.
    pub connect: Duration,
    /// Limit for each of the four later phases: the request's head, the request's body, the answer's head, the answer's body.
    pub answer: Duration,
}

impl HttpClient {
    /// Creates a client that never uses a proxy, for the host's metadata service and for `--check`.
    pub fn direct(timeouts: Timeouts) -> Self {
        Self::new(timeouts, None, RootCerts::WebPki)
    }

    /// Creates a client for `url`. It uses the proxy that the environment's variables set for that URL, and no proxy if the URL's
    /// host is local (`is_local`).
    pub fn for_url(
        url: &str,
        environment: &Environment,
        roots: RootCerts,
        timeouts: Timeouts,
    ) -> Result<Self, Fault> {
        let proxy = match url.parse::<Uri>() {
            Ok(uri) if !uri.host().is_some_and(is_local) => proxy::find(&uri, environment)?,
            _ => None,
        };
        Ok(Self::new(timeouts, proxy, roots))
    }

    fn new(timeouts: Timeouts, proxy: Option<(Proxy, String)>, roots: RootCerts) -> Self {
        let (proxy, name) = proxy.unzip();
        let resolver = FallbackResolver::default();
        let config = config(timeouts, proxy, roots);
        HttpClient {
            agent: Agent::with_parts(config, DefaultConnector::default(), resolver.clone()),
            resolver,
            proxy: name,
        }
    }

    /// Sends a request without a body.
    pub fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, SendError> {
        let request = http::Request::builder().method(method).uri(url);
        let request = (headers.iter()).fold(request, |it, (name, value)| it.header(*name, *value));
        let request = request.body(String::new());
        self.send(request.map_err(|error| SendError::new(error.to_string(), None))?)
    }

    pub fn send(&self, request: http::Request<String>) -> Result<Answer, SendError> {
        let is_tls = request.uri().scheme_str() == Some("https");
        let mut result = self.try_send(request.clone(), IpFamily::Any);
        // After a timeout or a socket's error, retry with the other address family, because a network may drop large packets of
        // one family only, or prohibit that family (EACCES). If the retry fails too, return the first error.
        if let Err(Error::Timeout(_) | Error::Io(_)) = result
            && let Some(family) = self.resolver.other_family()
        {
            result = self.try_send(request, family).or(result);
        }
        result.map_err(|error| self.classify(&error, is_tls))
    }

    fn try_send(&self, request: http::Request<String>, family: IpFamily) -> Result<Answer, Error> {
        let request = self.agent.configure_request(request);
        let mut response = self.agent.run(request.ip_family(family).build())?;
        let header = |name| response.headers().get(name)?.to_str().ok();
        let http_date = |text: &str| httpdate::parse_http_date(text).ok();
        let date = header("date").and_then(http_date);
        let request_id = header("x-amzn-requestid").map(str::to_owned);
        let seconds_until = |at: SystemTime| {
            let wait = at.duration_since(date.unwrap_or_else(SystemTime::now)).unwrap_or_default();
            u32::try_from(wait.as_secs()).unwrap_or(u32::MAX)
        };
        let retry_after = header("retry-after")
            .and_then(|text| text.parse().ok().or_else(|| http_date(text).map(seconds_until)));
        let is_binary = header("content-type")
            .is_some_and(|value| value.starts_with("application/octet-stream"));
        let body = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec()?;
        Ok(Answer {
            status: response.status().as_u16(),
            body,
            is_binary,
            date,
            request_id,
            retry_after,
        })
    }

    fn classify(&self, error: &Error, is_tls: bool) -> SendError {
        let text = match error {
            Error::Timeout(Timeout::RecvResponse) => NO_RESPONSE.to_owned(),
            Error::Timeout(Timeout::Connect) if is_tls => {
                "it took too long (connect and TLS)".to_owned()
            }
            Error::Timeout(phase) => format!("it took too long ({phase})"),
            Error::BodyExceedsLimit(_) => {
                let cause = format!("its answer is longer than {} KiB", MAX_BODY_BYTES / 1024);
                return SendError::new(cause, "check the URL");
            }
            // std writes `Connection refused (os error 111)`. Leave out the number.
            Error::Io(error) => {
                error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
            }
            Error::ConnectProxyFailed(why) => why.clone(),
            other => other.to_string(),
        };
        match &self.proxy {
            Some(proxy) if is_of_proxy(error) => SendError::new(
                format!("{proxy}: {text}"),
                "check that variable and the proxy; NO_PROXY excepts a host from it",
            ),
            _ => SendError::from_text(text),
        }
    }
}

/// Returns whether the proxy, and not the target behind it, counts as the cause of an error. The client itself connects only
/// to the proxy, so errors of name resolution, of connect and of the socket (with an errno) are the proxy's. An I/O error
/// without an errno usually comes from TLS with the target.
fn is_of_proxy(error: &Error) -> bool {
    match error {
        Error::ConnectProxyFailed(_) | Error::HostNotFound | Error::Timeout(Timeout::Connect) => {
            true
        }
        Error::Io(error) => {
            error.raw_os_error().is_some() || error.to_string().contains(NAME_ERROR)
        }
        _ => false,
    }
}

fn config(timeouts: Timeouts, proxy: Option<Proxy>, roots: RootCerts) -> Config {
    Agent::config_builder()
        // A response with an error status is returned as an answer, because its body says what is wrong.
        .http_status_as_error(false)
        // STS and metadata services send no redirects; if one arrives, the error reports its status.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .tls_config(TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots).build())
        .user_agent(concat!("ec2-role/", env!("CARGO_PKG_VERSION")))
        .accept("")
        .accept_encoding("")
        // The limits are per phase: a per-read limit would restart with each chunk, so a slow peer would never reach it.
        .timeout_connect(Some(timeouts.connect))
        .timeout_send_request(Some(timeouts.answer))
        .timeout_await_100(None)
        .timeout_send_body(Some(timeouts.answer))
        .timeout_recv_response(Some(timeouts.answer))
        .timeout_recv_body(Some(timeouts.answer))
        .max_response_header_size(MAX_HEADER_BYTES)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        // Keep no idle connections: EC2's metadata service closes each connection itself, and other services get few requests.
        .max_idle_connections(0)
        .build()
}

/// Parses the http or https URL of a host; the error says what is wrong. A URL with an `@` in its host part is rejected, because
/// URLs are logged and the text before the `@` may be a password. No error repeats a text that contains an `@`.
pub fn parse_url(text: &str) -> Result<Uri, String> {
    let is_ascii = text.bytes().all(|b| b.is_ascii_graphic());
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        is_ascii
            && matches!(uri.scheme_str(), Some("https" | "http"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && proxy::has_valid_port(uri)
    });
    match uri {
        Some(uri) if !uri.authority().is_some_and(|it| it.as_str().contains('@')) => Ok(uri),
        None if !text.contains('@') => Err(format!("{text:?} is not the URL of a host")),
        _ => Err("it holds a user or a password, which a URL here cannot have".to_owned()),
    }
}

/// Returns the part of a peer's text that an error may quote: its first line, up to `MAX_QUOTED_BYTES`.
pub fn quoted(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    &line[..line.floor_char_boundary(MAX_QUOTED_BYTES)]
}

/// Parses a URL's host as an IP address; `None` if the host is a name.
pub fn ip_address(host: &str) -> Option<IpAddr> {
    let text = host.trim_start_matches('[').trim_end_matches(']');
    text.parse().ok()
}

/// Returns whether a host is this machine or on its link: `localhost`, a loopback or link-local address, or EC2's fd00:ec2::/32.
fn is_local(host: &str) -> bool {
    match ip_address(host) {
        Some(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Some(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
        None => host.eq_ignore_ascii_case("localhost"),
    }
}
