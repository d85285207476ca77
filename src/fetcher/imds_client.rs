//! The host's own metadata service, as a client: version 2, and 1 only where the service refuses tokens.

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use ureq::http::Request;

use crate::common::environment::Environment;
use crate::common::fault::{Fault, permanent, transient};
use crate::common::http_headers::{TOKEN_HEADER, TTL_HEADER};
use crate::common::metadata_snapshot::Item;
use crate::common::session_token::TokenAuthority;
use crate::fetcher::http_client::{Answer, HttpClient, SendError, Timeouts, read_url};

/// An fetcher is over long before.
const TOKEN_TTL_SECONDS: &str = "300";
/// What SDKs allow by default for each attempt, and how often they try.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1;
const DEFAULT_ATTEMPTS: u32 = 1;

/// A session with the host's metadata service.
pub struct ImdsClient {
    endpoint: String,
    http_client: HttpClient,
    attempts: u32,
    may_use_version_one: bool,
    token: RefCell<Option<String>>,
}

impl ImdsClient {
    /// Opens a session: asks for a token. `own` knows a token of this very server, which must not be its own source.
    pub fn open(environment: &Environment, own: Option<&TokenAuthority>) -> Result<Self, Fault> {
        if environment.is_on("AWS_EC2_METADATA_DISABLED")? {
            return permanent(
                "the host's metadata service: AWS_EC2_METADATA_DISABLED is true; unset it, or give other credentials",
            );
        }
        let session = ImdsClient {
            endpoint: endpoint(environment)?,
            http_client: HttpClient::direct(timeouts(environment)?),
            attempts: number(environment, "AWS_METADATA_SERVICE_NUM_ATTEMPTS")?
                .map_or(DEFAULT_ATTEMPTS, |n| n.min(10) as u32),
            may_use_version_one: !environment.is_on("AWS_EC2_METADATA_V1_DISABLED")?,
            token: RefCell::new(None),
        };
        session.ask_for_token()?;
        if is_own(own, session.token.borrow().as_deref()) {
            return permanent(format!(
                "the metadata service at {}: it is this server itself; let ec2-role reach the host's own service \
                 (AWS_EC2_METADATA_SERVICE_ENDPOINT, or the rule that redirects it), or give other credentials",
                session.endpoint
            ));
        }
        Ok(session)
    }

    fn ask_for_token(&self) -> Result<(), Fault> {
        let answer = self.send("PUT", "/latest/api/token", (TTL_HEADER, TOKEN_TTL_SECONDS))?;
        *self.token.borrow_mut() = match answer.status {
            200 => Some(answer.text().trim().to_owned()),
            // The service does not know tokens, or is told not to give them: version 1.
            403..=405 if self.may_use_version_one => None,
            status => {
                return transient(format!(
                    "the metadata service at {}: it answered {status} to a request for a session token; is it EC2's, \
                     and is it enabled (modify-instance-metadata-options --http-endpoint enabled)?",
                    self.endpoint
                ));
            }
        };
        Ok(())
    }

    /// Reads one path below `/latest/`: `None` where there is nothing (404).
    pub fn get(&self, path: &str) -> Result<Option<String>, Fault> {
        Ok(self.read(path)?.map(|answer| answer.text().into_owned()))
    }

    /// Reads one path below `/latest/` as it is.
    pub fn get_item(&self, path: &str) -> Result<Option<Item>, Fault> {
        Ok(self.read(path)?.map(|answer| Item {
            is_binary: answer.is_binary,
            body: answer.body,
        }))
    }

    fn read(&self, path: &str) -> Result<Option<Answer>, Fault> {
        let mut answer = self.read_once(path)?;
        if answer.status == 401 {
            // A service that was replaced does not know its predecessor's tokens.
            self.ask_for_token()?;
            answer = self.read_once(path)?;
        }
        match answer.status {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            status => transient(format!(
                "the metadata service at {}: it answered {status} to {path}; look at the instance's metadata options",
                self.endpoint
            )),
        }
    }

    fn read_once(&self, path: &str) -> Result<Answer, Fault> {
        let token = self.token.borrow();
        let header = token
            .as_deref()
            .map_or(("Accept", "*/*"), |token| (TOKEN_HEADER, token));
        self.send("GET", &format!("/latest/{path}"), header)
    }

    /// Where the service is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn send(&self, method: &str, path: &str, header: (&str, &str)) -> Result<Answer, Fault> {
        let mut left = self.attempts;
        loop {
            left -= 1;
            let request = Request::builder()
                .method(method)
                .uri(format!("{}{path}", self.endpoint))
                .header(header.0, header.1);
            let outcome = match request.body(String::new()) {
                Ok(request) => self.http_client.send(request),
                Err(error) => Err(SendError::Other(error.to_string())),
            };
            match outcome {
                Err(_) if left > 0 => {}
                Ok(answer) if answer.status >= 500 && left > 0 => {}
                outcome => {
                    return outcome
                        .map_err(|error| Fault::Transient(self.unreachable(method, &error)));
                }
            }
        }
    }

    fn unreachable(&self, method: &str, error: &SendError) -> String {
        let remedy = match (method, error) {
            // The packet with the token dies at the bridge that a container is behind.
            ("PUT", SendError::Silent) => {
                "hop limit 1? run ec2-role on the host's network, or raise it with \
                 modify-instance-metadata-options --http-put-response-hop-limit 2"
            }
            ("PUT", _) => {
                "run on an EC2 instance, or give credentials by variables, files or a container's endpoint"
            }
            // It has answered already.
            _ => "nothing to do if it passes",
        };
        format!(
            "the metadata service at {}: {error}; {remedy}",
            self.endpoint
        )
    }
}

/// The host's metadata service, asked for a token at the first use and only then.
pub struct Host<'a> {
    environment: &'a Environment,
    own: Option<&'a TokenAuthority>,
    session: OnceCell<Result<ImdsClient, Fault>>,
}

impl<'a> Host<'a> {
    /// A host that has not been asked yet.
    pub fn new(environment: &'a Environment, own: Option<&'a TokenAuthority>) -> Self {
        Host {
            environment,
            own,
            session: OnceCell::new(),
        }
    }

    /// The one session of this fetcher.
    pub fn session(&self) -> Result<&ImdsClient, Fault> {
        self.session
            .get_or_init(|| ImdsClient::open(self.environment, self.own))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Whether this very server is at `url`, `http://HOST[:PORT]`: it gives a session token of its own.
    pub fn is_this_server(&self, url: &str, http_client: &HttpClient) -> bool {
        let request = Request::put(format!("{url}/latest/api/token"))
            .header(TTL_HEADER, TOKEN_TTL_SECONDS)
            .body(String::new());
        let answer = request
            .ok()
            .and_then(|request| http_client.send(request).ok());
        let token = answer.map(|answer| answer.text().trim().to_owned());
        is_own(self.own, token.as_deref())
    }

    /// A short text, if the service has it and can be reached.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = self.session().ok()?.get(path).ok()??;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

/// Whether a session token is of this very server.
fn is_own(own: Option<&TokenAuthority>, token: Option<&str>) -> bool {
    own.zip(token)
        .is_some_and(|(own, token)| own.open(token).is_some())
}

fn endpoint(environment: &Environment) -> Result<String, Fault> {
    if let Some(endpoint) = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        read_url(endpoint).or_else(|why| {
            permanent(format!(
                "AWS_EC2_METADATA_SERVICE_ENDPOINT: {why}; write http://ADDRESS[:PORT]"
            ))
        })?;
        return Ok(endpoint.trim_end_matches('/').to_owned());
    }
    match environment
        .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("ipv4") => Ok("http://169.254.169.254".to_owned()),
        Some("ipv6") => Ok("http://[fd00:ec2::254]".to_owned()),
        Some(other) => permanent(format!(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is {other:?}: set it to IPv4 or IPv6"
        )),
    }
}

fn timeouts(environment: &Environment) -> Result<Timeouts, Fault> {
    let seconds =
        number(environment, "AWS_METADATA_SERVICE_TIMEOUT")?.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let each = Duration::from_secs(seconds.min(10));
    Ok(Timeouts {
        connect: each,
        answer: each,
    })
}

fn number(environment: &Environment, name: &str) -> Result<Option<u64>, Fault> {
    let Some(text) = environment.get(name) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => permanent(format!(
            "{name} is {text:?}: set it to a whole number from 1"
        )),
    }
}
