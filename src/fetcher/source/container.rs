//! A container's own credentials: ECS task roles, EKS Pod Identity
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ureq::http::{Request, Uri};

use super::context::Context;
use super::document;
use crate::common::credential::SourceCredential;
use crate::common::fault::{Fault, permanent, transient};
use crate::common::file::NamedFile;
use crate::fetcher::http_client::{HttpClient, Timeouts, address, read_url};

/// What SDKs allow for each.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(5),
};

const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Where ECS's agent is, EKS's by IPv4 and by IPv6: beside loopback the only ones that plain http goes to.
const AGENTS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name| context.environment.get(name);
    let (name, url) = match (variable(RELATIVE_URI), variable(FULL_URI)) {
        (Some(path), _) => (RELATIVE_URI, of_ecs(path)?),
        (None, Some(url)) => (FULL_URI, url.to_owned()),
        (None, None) => return Ok(None),
    };
    let uri = read_url(&url).or_else(|why| {
        permanent(format!(
            "{name}: {why}; write https://HOST[:PORT]/PATH, or http to this host"
        ))
    })?;
    let http_client = http_client(context, name, &uri)?;
    (context.progress)(&format!("asking {url} for the container's credentials"));
    let mut request = Request::get(&uri).header("Accept", "application/json");
    if let Some(token) = token(context)? {
        request = request.header("Authorization", token);
    }
    let Ok(request) = request.body(String::new()) else {
        return permanent(
            "the container authorization token: it cannot be sent as a header; correct it",
        );
    };
    let called = format!("the container's credentials at {url}");
    let answer = http_client.send(request).or_else(|error| {
        transient(format!(
            "{called}: {error}; is the agent that serves them running?"
        ))
    })?;
    if answer.status != 200 {
        if is_this_server(context, &uri, &http_client) {
            return permanent(format!(
                "{called}: it is this server itself; unset {name}, or give other credentials"
            ));
        }
        return transient(format!(
            "{called}: it answered {}; look at the token and the agent that serves them",
            answer.status
        ));
    }
    let document = serde_json::from_slice(&answer.body).ok();
    match document.and_then(|json| document::read_role(&json, "the container's credentials")) {
        Some(found) => Ok(Some(found)),
        None => transient(format!(
            "{called}: the answer holds none; look at the agent that serves them"
        )),
    }
}

fn of_ecs(path: &str) -> Result<String, Fault> {
    if !path.starts_with('/') {
        // It would be the rest of a host's name.
        return permanent(format!(
            "{RELATIVE_URI}: {path:?} does not begin with /; write it as ECS does, /v2/credentials/ID"
        ));
    }
    Ok(format!("http://{}{path}", AGENTS[0]))
}

/// The way to it: https anywhere, through a proxy if one is set; plain http, which shows the token to the network, only on this host.
fn http_client(context: &Context, name: &str, uri: &Uri) -> Result<HttpClient, Fault> {
    let host = uri.host().unwrap_or_default();
    let is_here = host.eq_ignore_ascii_case("localhost")
        || address(host).is_some_and(|address| address.is_loopback() || AGENTS.contains(&address));
    match uri.scheme_str() {
        _ if is_here => Ok(HttpClient::direct(TIMEOUTS)),
        Some("https") => HttpClient::for_url(&uri.to_string(), context.environment, None, TIMEOUTS),
        _ => permanent(format!(
            "{name}: {uri} is neither https nor on this host; plain http goes only to loopback, 169.254.170.2, 169.254.170.23 \
             and fd00:ec2::23"
        )),
    }
}

fn token(context: &Context) -> Result<Option<String>, Fault> {
    let variable = |name| context.environment.get(name);
    let token = match variable(TOKEN_FILE) {
        Some(file) => Some(
            NamedFile::new(TOKEN_FILE, file)
                .read_text()
                .or_else(|error| permanent(error.text))?,
        ),
        None => variable(TOKEN).map(str::to_owned),
    };
    match token {
        Some(token) if token.contains(['\r', '\n']) => permanent(
            "the container authorization token: it holds an end of line; write it without one",
        ),
        token => Ok(token),
    }
}

/// RequestHead only of what gives no credentials: this server has none before its first, and would wait for itself without end.
fn is_this_server(context: &Context, uri: &Uri, http_client: &HttpClient) -> bool {
    uri.authority().is_some_and(|authority| {
        (context.host).is_this_server(&format!("http://{authority}"), http_client)
    })
}
