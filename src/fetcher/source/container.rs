//! A container's credential endpoint: ECS task roles, EKS Pod Identity
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::context::Context;
use crate::common::{Fault, TTL_HEADER, permanent, transient};
use crate::fetcher::aws_settings::AwsSettings;
use crate::fetcher::http_client::{HttpClient, Timeouts, ip_address, parse_url};
use crate::fetcher::imds_client::TOKEN_TTL_SECONDS;
use crate::fetcher::source_credential::{Found, SourceCredential};

/// Time limits for this endpoint. It is usually on this host, so they are shorter than those for STS.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(2), answer: Duration::from_secs(5) };

/// Addresses of the agents that serve the endpoint: ECS, EKS by IPv4, EKS by IPv6. Plain http is allowed only to these and to
/// loopback.
const AGENTS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

pub fn find(context: &Context) -> Found {
    let settings = context.settings;
    let path = settings.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let url = settings.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let (url, setting) = match (path, url) {
        // Reject a path without a leading slash, because it would extend the host's name in the URL.
        (Some(path), _) if !path.value.starts_with('/') => {
            return path
                .wrong("it does not begin with /; write it as ECS does, /v2/credentials/ID");
        }
        (Some(path), _) => (format!("http://{}{}", AGENTS[0], path.value), path),
        (None, Some(url)) => (url.value.to_owned(), url),
        (None, None) => return Ok(None),
    };
    // Log lines and errors omit the URL's path: on ECS, knowing the path is enough to get the credential.
    let uri = parse_url(&url).or_else(|_| {
        setting.wrong("it is not the URL of a host, or it holds a user or a password; write https://HOST[:PORT]/PATH, or http to this host")
    })?;
    let (name, authority) = (&setting.origin, uri.authority().map_or("", |it| it.as_str()));
    let endpoint = format!("the container's credential endpoint at {authority} ({name})");
    // https is allowed to any host, through a proxy if one is set. Plain http is allowed only to loopback and `AGENTS`, because
    // it shows the token to the network.
    let host = uri.host().unwrap_or_default();
    let is_allowed = |ip: IpAddr| ip.is_loopback() || AGENTS.contains(&ip);
    let is_here =
        host.eq_ignore_ascii_case("localhost") || ip_address(host).is_some_and(is_allowed);
    if !is_here && uri.scheme_str() != Some("https") {
        return setting.wrong(&format!(
            "{host} is not this host, and the URL is not https; plain http goes only to loopback, 169.254.170.2, 169.254.170.23 \
             and fd00:ec2::23"
        ));
    }
    let environment = &settings.config.environment;
    let http_client = HttpClient::for_url(&url, environment, settings.roots()?, TIMEOUTS)?;
    context.step(&format!("requesting a credential from {endpoint}"));
    let token = token(settings)?;
    let mut headers = vec![("Accept", "application/json")];
    headers.extend(token.iter().map(|token| ("Authorization", token.as_str())));
    let answer = http_client.request("GET", &url, &headers).or_else(|error| {
        let remedy = error.remedy.unwrap_or("check that the agent that serves it runs");
        transient(format!("{endpoint}: {}; {remedy}", error.cause))
    })?;
    if answer.status != 200 {
        // Check whether the endpoint is this server itself, whose session tokens are sealed with this server's key. The
        // request keeps the Authorization header, without which the server may issue no token.
        headers.push((TTL_HEADER, TOKEN_TTL_SECONDS));
        let scheme = uri.scheme_str().unwrap_or("https");
        let url = format!("{scheme}://{authority}/latest/api/token");
        let issued = http_client.request("PUT", &url, &headers);
        if issued.is_ok_and(|answer| context.orders.is_own_token(answer.text().trim())) {
            return permanent(format!(
                "{endpoint}: it is this server itself; unset {name}, or give other credentials"
            ));
        }
        return transient(format!(
            "{endpoint}: it answered {}; check the token and the agent",
            answer.status
        ));
    }
    let document = serde_json::from_slice(&answer.body).unwrap_or_default();
    match SourceCredential::parse_role(&document, "the container's credential") {
        Some(found) => Ok(Some(found)),
        None => transient(format!("{endpoint}: the answer holds no credential; check the agent")),
    }
}

fn token(settings: &AwsSettings) -> Result<Option<String>, Fault> {
    if let Some(file) = settings.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        return file.read_token().map(Some);
    }
    let token = settings.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    token.map(|token| token.header_value().map(str::to_owned)).transpose()
}
