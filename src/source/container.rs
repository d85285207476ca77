//! A container's own credentials: ECS task roles, EKS Pod Identity
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).

use std::time::Duration;

use ureq::http::{Request, Uri};

use super::{Context, read_file, role_from_document};
use crate::credential::SourceCredential;
use crate::fault::{Fault, lasting, passing};
use crate::outbound::{Outbound, Patience, is_near};

/// What SDKs allow for each.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(5),
};

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name| context.environment.get(name);
    let (name, url) = match (
        variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) {
        (Some(path), _) => (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            format!("http://169.254.170.2{path}"),
        ),
        (None, Some(url)) => ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.to_owned()),
        (None, None) => return Ok(None),
    };
    let uri = url.parse::<Uri>().ok();
    let is_allowed = uri.as_ref().is_some_and(|uri| {
        uri.scheme_str() == Some("https")
            || (uri.scheme_str() == Some("http") && uri.host().is_some_and(is_near))
    });
    if !is_allowed {
        return lasting(format!(
            "{name}: {url} is neither https nor on this host; plain http goes only to loopback, 169.254.170.2 and 169.254.170.23"
        ));
    }
    let token = match (
        variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    ) {
        (Some(file), _) => Some(read_file("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file)?),
        (None, token) => token.map(str::to_owned),
    };
    if token
        .as_ref()
        .is_some_and(|token| token.contains(['\r', '\n']))
    {
        return lasting(
            "the container authorization token: it holds an end of line; write it without one",
        );
    }
    (context.progress)(&format!("asking {url} for the container's credentials"));
    let mut request = Request::get(&url).header("Accept", "application/json");
    if let Some(token) = token {
        request = request.header("Authorization", token);
    }
    let Ok(request) = request.body(String::new()) else {
        return lasting(format!(
            "{name}: {url} or the authorization token cannot be sent as a request; correct it"
        ));
    };
    let outbound = if uri
        .as_ref()
        .is_some_and(|uri| uri.host().is_some_and(is_near))
    {
        Outbound::direct(PATIENCE)
    } else {
        Outbound::for_url(&url, context.environment, None, PATIENCE)?
    };
    let answer = match outbound.send(request) {
        Ok(answer) => answer,
        Err(error) => {
            return passing(format!(
                "the container's credentials at {url}: {error}; is the agent that serves them running?"
            ));
        }
    };
    if answer.status != 200 && is_this_server(context, &uri, &outbound) {
        return lasting(format!(
            "the container's credentials at {url}: it is this server itself; unset {name}, or give other credentials"
        ));
    }
    if answer.status != 200 {
        return passing(format!(
            "the container's credentials at {url}: it answered {}; look at the token and the agent that serves them",
            answer.status
        ));
    }
    let document = serde_json::from_slice(&answer.body).ok();
    match document.and_then(|json| role_from_document(&json, "the container's credentials")) {
        Some(found) => Ok(Some(found)),
        None => passing(format!(
            "the container's credentials at {url}: the answer holds none; look at the agent that serves them"
        )),
    }
}

/// Asked only of what gives no credentials: this server has none before its first, and would wait for itself without end.
fn is_this_server(context: &Context, uri: &Option<Uri>, outbound: &Outbound) -> bool {
    let authority = uri.as_ref().and_then(Uri::authority);
    authority.is_some_and(|authority| {
        (context.host).is_this_server(&format!("http://{authority}"), outbound)
    })
}
