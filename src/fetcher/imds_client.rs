//! Client of the host's metadata service. It uses IMDSv2, and IMDSv1 only if the service issues no session tokens.

use std::cell::RefCell;
use std::time::Duration;

use crate::common::{Fault, TOKEN_HEADER, TTL_HEADER, permanent, transient};
use crate::fetcher::aws_settings::AwsSettings;
use crate::fetcher::http_client::{
    Answer, HttpClient, NO_RESPONSE, SendError, Timeouts, parse_url,
};
use crate::fetcher::setting::is_key;
use crate::messages::FetchOrders;

/// Lifetime of a session token in seconds, longer than a fetcher lives.
pub const TOKEN_TTL_SECONDS: &str = "300";
/// Default of AWS_METADATA_SERVICE_TIMEOUT (in seconds) and of AWS_METADATA_SERVICE_NUM_ATTEMPTS, as in the SDKs.
const DEFAULT_SETTING: u64 = 1;
/// Maximum of AWS_METADATA_SERVICE_TIMEOUT and AWS_METADATA_SERVICE_NUM_ATTEMPTS. It limits how much of the fetcher's time a slow
/// service can take.
const MAX_SETTING: u64 = 10;

pub struct ImdsClient {
    endpoint: String,
    http_client: HttpClient,
    attempts: u64,
    may_use_version_one: bool,
    token: RefCell<Option<String>>,
}

impl ImdsClient {
    /// Creates a client and requests a session token. Returns an error if the key in `orders` shows that ec2-role itself issued
    /// the token, because ec2-role cannot be its own source. A request fails only after `min_attempts` attempts, even if
    /// AWS_METADATA_SERVICE_NUM_ATTEMPTS is lower.
    pub fn connect(
        settings: &AwsSettings,
        orders: &FetchOrders,
        min_attempts: u64,
    ) -> Result<Self, Fault> {
        if settings.config.environment.is_on("AWS_EC2_METADATA_DISABLED").or_else(permanent)? {
            return permanent(
                "the host's metadata service: AWS_EC2_METADATA_DISABLED is true; unset it, or leave out --pass-through",
            );
        }
        let timeout = Duration::from_secs(number(settings, "AWS_METADATA_SERVICE_TIMEOUT")?);
        let mut client = ImdsClient {
            endpoint: endpoint(settings)?,
            http_client: HttpClient::direct(Timeouts { connect: timeout, answer: timeout }),
            attempts: number(settings, "AWS_METADATA_SERVICE_NUM_ATTEMPTS")?.max(min_attempts),
            may_use_version_one: settings.enabled("AWS_EC2_METADATA_V1_DISABLED")?.is_none(),
            token: RefCell::new(None),
        };
        let token = client.new_token()?;
        if token.as_ref().is_some_and(|token| orders.is_own_token(token)) {
            // This error is transient: the cause may be a firewall rule that redirects to this server, and another program may
            // change the rule.
            return client.wrong(
                "it is this server itself; let ec2-role reach the host's own service \
                 (AWS_EC2_METADATA_SERVICE_ENDPOINT, or the rule that redirects it), or give other credentials",
            );
        }
        client.token = RefCell::new(token);
        Ok(client)
    }

    /// Requests a session token; `None` if the service supports only version 1.
    fn new_token(&self) -> Result<Option<String>, Fault> {
        let answer = self.send("PUT", "/latest/api/token", (TTL_HEADER, TOKEN_TTL_SECONDS))?;
        match (answer.status, answer.text().trim()) {
            (200, token) if is_key(token) => Ok(Some(token.to_owned())),
            (200, _) => self
                .wrong("its session token is malformed; check AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            // These statuses mean that the service does not support tokens, or is configured to issue none.
            (403..=405 | 501, _) if self.may_use_version_one => Ok(None),
            (status, _) => self.wrong(&format!(
                "it answered {status} to a request for a session token; nothing to do if it passes; otherwise check that it is EC2's, \
                 and that it is enabled (modify-instance-metadata-options --http-endpoint enabled)"
            )),
        }
    }

    /// Reads the item or listing at a path below `/latest/`; `None` for 404.
    pub fn get(&self, path: &str) -> Result<Option<Answer>, Fault> {
        let mut answer = self.get_once(path)?;
        if answer.status == 401 {
            // Request a new token, because a service that was restarted may reject tokens that it issued before.
            self.token.replace(self.new_token()?);
            answer = self.get_once(path)?;
        }
        match answer.status {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            status => self.wrong(&format!(
                "it answered {status} to {path}; nothing to do if it passes; otherwise check the instance's metadata options"
            )),
        }
    }

    fn get_once(&self, path: &str) -> Result<Answer, Fault> {
        let token = self.token.borrow();
        let header = token.as_deref().map_or(("Accept", "*/*"), |token| (TOKEN_HEADER, token));
        self.send("GET", &format!("/latest/{path}"), header)
    }

    fn send(&self, method: &str, path: &str, header: (&str, &str)) -> Result<Answer, Fault> {
        let url = format!("{}{path}", self.endpoint);
        let attempt = || self.http_client.request(method, &url, &[header]);
        let mut result = attempt();
        for _ in 1..self.attempts {
            if !result.as_ref().is_ok_and(|answer| answer.status < 500) {
                result = attempt();
            }
        }
        result.or_else(|error| self.unreachable(method, &error))
    }

    fn unreachable<T>(&self, method: &str, error: &SendError) -> Result<T, Fault> {
        let remedy = match method {
            // The likely cause is that ec2-role runs in a container: with hop limit 1, the packet that carries the token does not
            // reach a container. A service that is slow, or drops packets above its rate limit, looks the same.
            "PUT" if error.cause == NO_RESPONSE => {
                "if its hop limit is 1: run ec2-role on the host's network, or raise the limit with \
                 modify-instance-metadata-options --http-put-response-hop-limit 2; if it is slow: raise \
                 AWS_METADATA_SERVICE_TIMEOUT (seconds, default 1)"
            }
            // On EC2 there are three usual causes: ec2-role runs in a container, a firewall rule keeps its user away from the
            // service, or the subnet has IPv6 only and ec2-role asked at the IPv4 address. The error's text does not tell
            // these apart.
            "PUT" => {
                "on EC2 run ec2-role on the host's network, as root or as a user whom no rule keeps away (ec2-role-guard, a hook, \
                 systemd-imdsd), and with AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6 if the subnet has IPv6 only; elsewhere do \
                 without it: give credentials (variables, files, a container's endpoint) and --region, and no --pass-through"
            }
            // The service has just answered the request for a token, so the failure of a GET is probably temporary.
            _ => "nothing to do if it passes",
        };
        self.wrong(&format!("{}; {remedy}", error.cause))
    }

    /// Returns an error about the service; `text` says what is wrong, and the remedy.
    pub fn wrong<T>(&self, text: &str) -> Result<T, Fault> {
        transient(format!("the metadata service at {}: {text}", self.endpoint))
    }
}

fn endpoint(settings: &AwsSettings) -> Result<String, Fault> {
    if let Some(setting) = settings.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        parse_url(setting.value)
            .or_else(|why| setting.wrong(&format!("{why}; write http://ADDRESS[:PORT]")))?;
        return Ok(setting.value.trim_end_matches('/').to_owned());
    }
    let address = match settings.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
        Some(mode) if mode.is_first("IPv6", "IPv4")? => "[fd00:ec2::254]",
        _ => "169.254.169.254",
    };
    Ok(format!("http://{address}"))
}

/// Reads a setting that holds a whole number from 1; larger numbers than [`MAX_SETTING`] count as that maximum.
fn number(settings: &AwsSettings, variable: &str) -> Result<u64, Fault> {
    let Some(setting) = settings.get(variable) else { return Ok(DEFAULT_SETTING) };
    match setting.value.parse() {
        Ok(number) if number > 0 => Ok(MAX_SETTING.min(number)),
        _ => setting.wrong(&format!("it is {:?}; set it to a whole number from 1", setting.value)),
    }
}
