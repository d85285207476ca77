//! A container's credential endpoint: ECS task roles, EKS Pod Identity
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::RootCerts;

use super::context::Context;
use super::document;
use crate::common::{Environment, Fault, TTL_HEADER, permanent, transient};
use crate::fetcher::http_client::{HttpClient, Timeouts, ip_address, parse_url};
use crate::fetcher::imds_client::TOKEN_TTL_SECONDS;
use crate::fetcher::source_credential::SourceCredential;

/// Time limits that SDKs use for this endpoint.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(2), answer: Duration::from_secs(5) };

const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Addresses of the agents that serve the endpoint: ECS, EKS by IPv4, EKS by IPv6. Plain http is allowed only to these and to
/// loopback.
const AGENTS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let environment = &context.settings.config.environment;
    let (name, url) = match (environment.get(RELATIVE_URI), environment.get(FULL_URI)) {
        // Reject a path without a leading slash, because it would extend the host's name in the URL.
        (Some(path), _) if !path.starts_with('/') => {
            return permanent(format!(
                "{RELATIVE_URI}: it does not begin with /; write it as ECS does, /v2/credentials/ID"
            ));
        }
        (Some(path), _) => (RELATIVE_URI, format!("http://{}{path}", AGENTS[0])),
        (None, Some(url)) => (FULL_URI, url.to_owned()),
        (None, None) => return Ok(None),
    };
    // Log lines and errors omit the URL's path: on ECS, knowing the path is enough to get the credential.
    let uri = parse_url(&url).or_else(|_| {
        permanent(format!(
            "{name}: it is not the URL of a host, or it holds a user or a password; write https://HOST[:PORT]/PATH, or http to this host"
        ))
    })?;
    let authority = uri.authority().map_or("", |it| it.as_str());
    let endpoint = format!("the container's credential endpoint at {authority} ({name})");
    let http_client = http_client(environment, name, &uri)?;
    context.step(&format!("requesting a credential from {endpoint}"));
    let token = token(context)?;
    let mut headers = vec![("Accept", "application/json")];
    headers.extend(token.iter().map(|token| ("Authorization", token.as_str())));
    let answer = http_client.request("GET", &url, &headers).or_else(|error| {
        transient(format!("{endpoint}: {}; check that the agent that serves it runs", error.cause))
    })?;
    if answer.status != 200 {
        // Detect an endpoint that is this server itself: it would wait for itself, because it has no credential before its first
        // fetch. The proof is that the endpoint issues a session token of this server. The request for that token sends the
        // Authorization header too, because without it a server with a container token may respond 404.
        headers.push((TTL_HEADER, TOKEN_TTL_SECONDS));
        let url = format!("http://{authority}/latest/api/token");
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
    let document = serde_json::from_slice(&answer.body).ok();
    match document.and_then(|json| document::parse_role(&json, "the container's credential")) {
        Some(found) => Ok(Some(found)),
        None => transient(format!("{endpoint}: the answer holds no credential; check the agent")),
    }
}

/// Creates the client. https is allowed to any host, through a proxy if one is set. Plain http is allowed only to loopback and
/// `AGENTS`, because it shows the token to the network.
fn http_client(environment: &Environment, name: &str, uri: &Uri) -> Result<HttpClient, Fault> {
    let host = uri.host().unwrap_or_default();
    let is_here = host.eq_ignore_ascii_case("localhost")
        || ip_address(host)
            .is_some_and(|address| address.is_loopback() || AGENTS.contains(&address));
    if !is_here && uri.scheme_str() != Some("https") {
        return permanent(format!(
            "{name}: {host} is not this host, and the URL is not https; plain http goes only to loopback, 169.254.170.2, 169.254.170.23 \
             and fd00:ec2::23"
        ));
    }
    HttpClient::for_url(&uri.to_string(), environment, RootCerts::WebPki, TIMEOUTS)
}

fn token(context: &Context) -> Result<Option<String>, Fault> {
    match (context.settings.variable(TOKEN_FILE), context.settings.variable(TOKEN)) {
        (Some(file), _) => file.read_token().map(Some),
        (None, Some(token)) => token.header_value().map(|token| Some(token.to_owned())),
        (None, None) => Ok(None),
    }
}
