//! Serves the instance metadata protocol (IMDS).
//!
//! EC2's responses are documented in AWS's guide
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>) and in published dumps. If a case is
//! in neither of them, the response is one that breaks no client, and a comment says that EC2's is not published.

use super::directory;
use super::http::{Outcome, Refusal, Request, Response, StatusCode};
use super::state::ResponseState;
use crate::common::{
    BootTime, Credential, Secret, TOKEN_HEADER, TTL_HEADER, TokenAuthority, Ttl, clock, ec2_form,
};
use crate::messages::ServerState;

/// [`TTL_HEADER`] as EC2 spells it in responses.
const TTL_RESPONSE_HEADER: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/// Responds to one request. `HEAD` is treated as `GET`; the caller leaves the body out.
pub fn respond<'a>(request: &Request, state: &'a ResponseState, now: BootTime) -> Response<'a> {
    // Refuse X-Forwarded-For, even an empty one: it shows that a proxy forwarded the request, which may come from anyone whom the
    // proxy serves.
    if request.header("X-Forwarded-For").is_some() {
        return Response::empty(StatusCode::FORBIDDEN).refused(Refusal::Forwarded);
    }
    let path = request.path();
    // Drop empty segments, because clients differ in their slashes: JavaScript's SDK always sends `//latest/…`, fluent-bit
    // ends the paths of items with a slash, and aws-sdk-cpp and .NET request the list without one. Only `issue_token` refuses
    // a slash at the end.
    let segments = path.as_deref().unwrap_or_default().split('/');
    let segments: Vec<&str> = segments.filter(|segment| !segment.is_empty()).collect();
    if is_withheld(request, &segments, &state.server) {
        return not_found();
    }
    if let (Some(path), [_, "api", "token"]) = (&path, &segments[..]) {
        return issue_token(request, path, &state.tokens, now);
    }
    if !matches!(request.method, "GET" | "HEAD") {
        // EC2's 405 is published for the token path only. Other paths get the same 405 here. It breaks no SDK, because SDKs send
        // only GET to these paths.
        return method_not_allowed("GET, HEAD");
    }
    // An empty header counts as absent: aws-sdk-cpp sends one after it has fallen back to version 1.
    let token = request.header(TOKEN_HEADER).filter(|token| !token.is_empty());
    let ttl = token.and_then(|token| state.tokens.check(token, now));
    if token.is_none() && state.server.config.requires_session_token {
        return Response::empty(StatusCode::UNAUTHORIZED).refused(Refusal::NoToken);
    }
    if token.is_some() && ttl.is_none() {
        return Response::empty(StatusCode::UNAUTHORIZED).refused(Refusal::BadToken);
    }
    // Refuse an invalid path only after the token check, so that a request with a wrong token gets 401 for such a path too.
    let mut response = if path.is_some() { get(&segments, state, now) } else { not_found() };
    match ttl {
        None => response.outcome = Some(Outcome::VersionOne),
        Some(seconds) if response.status == StatusCode::OK => {
            response = response.header(TTL_RESPONSE_HEADER, seconds);
        }
        Some(_) => {}
    }
    response
}

/// Whether a path is hidden (404). If only the container form serves the credential, all paths of the role are hidden. The
/// session token path is hidden too, except in two cases:
/// - With `--pass-through`, clients need session tokens for the host's metadata.
/// - The request has the container token: it may come from ec2-role's own fetcher, which needs a session token to tell whether
///   it is asking ec2-role itself for the source credential.
fn is_withheld(request: &Request, segments: &[&str], state: &ServerState) -> bool {
    let shows_container_token = || {
        let sent = request.header("Authorization");
        let token = state.container_token.as_ref().zip(sent);
        token.is_some_and(|(token, sent)| token.equals(sent))
    };
    let needs_session_token = || state.config.pass_through.is_some() || shows_container_token();
    let is_of_role = matches!(segments, [_, "meta-data", "iam", ..]);
    let is_token = matches!(segments, [_, "api", "token"]);
    !serves_role(state) && (is_of_role || (is_token && !needs_session_token()))
}

fn serves_role(state: &ServerState) -> bool {
    state.container_token.is_none() || state.config.both_forms
}

fn method_not_allowed(allowed: &str) -> Response<'static> {
    Response::empty(StatusCode::METHOD_NOT_ALLOWED)
        .header("Allow", allowed)
        .refused(Refusal::Method)
}

fn issue_token(
    request: &Request,
    path: &str,
    tokens: &TokenAuthority,
    now: BootTime,
) -> Response<'static> {
    const ALLOWED: &str = "OPTIONS, PUT";
    // EC2's response to OPTIONS is not published. Respond 200, because the Allow header of EC2's 405 lists OPTIONS.
    if request.method == "OPTIONS" {
        return Response::empty(StatusCode::OK).header("Allow", ALLOWED);
    }
    if request.method != "PUT" {
        return method_not_allowed(ALLOWED);
    }
    // As EC2 does, respond 403 to a dated version or a trailing slash.
    if !path.trim_start_matches('/').starts_with("latest/") || path.ends_with('/') {
        return Response::empty(StatusCode::FORBIDDEN);
    }
    let ttl = request.header(TTL_HEADER);
    match ttl.and_then(|text| Ttl::parse(text.trim())) {
        Some(ttl) => {
            Response::text(tokens.issue(ttl, now)).header(TTL_RESPONSE_HEADER, ttl.seconds())
        }
        None => Response::empty(StatusCode::BAD_REQUEST).refused(Refusal::BadTtl),
    }
}

/// The versions that `GET /` lists.
const VERSIONS: &str = "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\n\
    2011-01-01\n2011-05-01\n2012-01-12\n2014-02-25\n2014-11-05\n2015-10-20\n2016-04-19\n2016-06-30\n2016-09-02\n2018-03-28\n\
    2018-08-17\n2018-09-24\n2019-10-01\n2020-08-24\n2020-10-27\n2021-01-03\n2021-03-23\n2021-07-15\n2022-07-09\n2022-09-24\n\
    2024-04-11\nlatest";
/// The earliest date that [`is_version`] accepts.
const FIRST_DATE: &str = "2007-01-19";
const FIRST_WITH_ROLES: &str = "2012-01-12";

fn get<'a>(segments: &[&str], state: &'a ResponseState, now: BootTime) -> Response<'a> {
    let Some((version, segments)) = segments.split_first() else {
        return Response::text(VERSIONS);
    };
    if !is_version(version) {
        return not_found();
    }
    let has_roles = *version >= FIRST_WITH_ROLES && serves_role(&state.server);
    let server = &state.server;
    let name = server.config.role_name.as_str();
    // Without a valid credential, the list gets 500 as the document does: programs on the AWS C runtime abort if the list
    // succeeds and the document fails. PHP's SDK keeps its previous credentials at 500, but not at 503.
    let valid = server.valid_credential(now);
    let valid = valid.ok_or(Response::empty(StatusCode::INTERNAL_SERVER_ERROR));
    let item = match segments {
        ["meta-data", "iam", ..] if !has_roles => Err(not_found()),
        ["meta-data", "iam", "info"] => valid.map(|it| Response::text(info(it, server))),
        ["meta-data", "iam", "security-credentials"] => valid.map(|_| Response::text(name)),
        ["meta-data", "iam", "security-credentials", requested] if *requested == name => {
            let document = state.document.as_ref().map(Secret::expose);
            valid.map(|_| Response::text(document.unwrap_or_default()))
        }
        // `identity-credentials` and the rest of `iam` hold the host's own credentials, so they are never served or listed.
        ["meta-data", "iam", _, ..] | ["meta-data", "identity-credentials", ..] => Err(not_found()),
        other => host_metadata(&other.join("/"), has_roles, state, now),
    };
    match item {
        Ok(item) => Response { headers: state.item_headers.as_str().into(), ..item },
        Err(response) => response,
    }
}

/// Returns the document `iam/info` for the served role. The InstanceProfileId is invented: only its form is that of a real id.
fn info(credential: &Credential, state: &ServerState) -> String {
    ec2_form(&[
        ("Code", "Success"),
        ("LastUpdated", &clock::iso8601(credential.last_updated)),
        ("InstanceProfileArn", &state.role.instance_profile(&state.config.role_name)),
        ("InstanceProfileId", "AIPAEC2ROLEEC2ROLEEC2"),
    ])
}

/// Responds with the region, a listing, or an item of the host's metadata that `--pass-through` serves.
fn host_metadata<'a>(
    path: &str,
    has_roles: bool,
    state: &'a ResponseState,
    now: BootTime,
) -> Result<Response<'a>, Response<'a>> {
    const ROLE: [&str; 2] = ["meta-data/iam/info", "meta-data/iam/security-credentials/"];
    const REGION: &str = "meta-data/placement/region";
    let (snapshot, region) = (state.snapshot.as_ref(), state.server.region.as_ref());
    // Check the age first, even if the snapshot lacks the item. A 404 from an outdated snapshot could wrongly say that no spot
    // interruption is coming.
    if snapshot.is_some_and(|snapshot| snapshot.is_too_old_for(path, now)) {
        return Err(Response::empty(StatusCode::SERVICE_UNAVAILABLE));
    }
    if let Some(item) = snapshot.and_then(|snapshot| snapshot.items.get(path)) {
        let content_type = if item.is_binary { "application/octet-stream" } else { "text/plain" };
        let body = item.body.as_slice().into();
        return Ok(Response { content_type, body, ..Response::empty(StatusCode::OK) });
    }
    if path == REGION
        && let Some(region) = region
    {
        return Ok(Response::text(region.as_str()));
    }
    let own = ROLE.into_iter().filter(|_| has_roles);
    let own = own.chain(region.map(|_| REGION));
    let passed_through = snapshot.into_iter().flat_map(|snapshot| snapshot.items.keys());
    let leaves = own.chain(passed_through.map(String::as_str));
    let names = match path {
        "" => directory::roots(leaves),
        _ => directory::entries(leaves, path),
    };
    if path.is_empty() || !names.is_empty() {
        return Ok(Response::text(names.into_iter().collect::<Vec<_>>().join("\n")));
    }
    // Before the first snapshot it is unknown whether the host has the item, so the status is 503 instead of 404.
    let may_exist = state.server.config.pass_through.is_some_and(|what| what.may_hold(path));
    Err(if may_exist && snapshot.is_none() {
        Response::empty(StatusCode::SERVICE_UNAVAILABLE)
    } else {
        not_found()
    })
}

/// Returns EC2's 404 page. Its current Content-Type is not published; no client checks the page or its type.
fn not_found() -> Response<'static> {
    const PAGE: &str = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
        \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n\
        \x20<head>\n  <title>404 - Not Found</title>\n </head>\n <body>\n  <h1>404 - Not Found</h1>\n </body>\n</html>\n";
    Response::text(PAGE).status(StatusCode::NOT_FOUND).content_type("text/html")
}

/// Whether a path's version is valid: `1.0`, `latest`, or any date since the first dated version. Dates that [`VERSIONS`] lacks
/// are accepted too, because EC2's list grows. Dates in this form compare correctly as text.
fn is_version(version: &str) -> bool {
    let is_date = version.len() == FIRST_DATE.len()
        && version.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    matches!(version, "1.0" | "latest") || (is_date && version >= FIRST_DATE)
}
