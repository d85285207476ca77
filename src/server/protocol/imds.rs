//! The instance metadata protocol: Request → Response. Pure: no clock, socket, environment or log.
//!
//! What the real service answers stands in AWS's guide
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>) and in published dumps; where
//! neither tells, the answer is the one that breaks no client, and a comment says so.

use std::borrow::Cow;

use crate::common::clock::{self, BootTime};
use crate::common::config::HttpTokens;
use crate::common::credential::{Credential, ec2_form};
use crate::common::http_headers::{TOKEN_HEADER, TTL_HEADER};
use crate::common::metadata_snapshot;
use crate::common::secret::Secret;
use crate::common::session_token::{TokenAuthority, Ttl};
use crate::messages::server_state::ServerState;
use crate::server::protocol::http::{Outcome, Refusal, Request, Response, Status};
use crate::server::protocol::state::Served;

/// [`TTL_HEADER`] in the letters in which EC2 answers.
const TTL_ANSWER_HEADER: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/// The answer to one request. `HEAD` is answered as `GET`; leaving the body out is for whoever writes the answer.
pub fn answer(request: &Request, served: &Served, now: BootTime) -> Response {
    // In any letter case, also when empty: a proxy stands between, and the client may be whoever talks to that proxy.
    if request.header("X-Forwarded-For").is_some() {
        return Response::empty(Status::Forbidden).refused(Refusal::Forwarded);
    }
    let path = Path::parse(request.target);
    if let Some(path) = path.as_ref().filter(|path| path.is_token()) {
        return answer_token(request, path, &served.tokens, now);
    }
    if !matches!(request.method, "GET" | "HEAD") {
        // What EC2 says to these is not published; it says this of its token path. No SDK sends them.
        return method_not_allowed("GET, HEAD");
    }
    let ttl = match request.header(TOKEN_HEADER) {
        // aws-sdk-cpp sends the header empty once it has fallen back to version 1.
        None | Some("") => match served.state.http_tokens {
            HttpTokens::Optional => None,
            HttpTokens::Required => {
                return Response::empty(Status::Unauthorized).refused(Refusal::NoToken);
            }
        },
        Some(token) => match served.tokens.check(token, now) {
            Some(seconds) => Some(seconds),
            None => return Response::empty(Status::Unauthorized).refused(Refusal::BadToken),
        },
    };
    // Only now: a wrong token is 401 also on what is no path.
    let mut response = path.map_or_else(not_found, |path| answer_path(&path, served, now));
    match ttl {
        Some(seconds) if response.status == Status::Ok => {
            response.with(TTL_ANSWER_HEADER, seconds.to_string())
        }
        Some(_) => response,
        None => {
            response.outcome = Some(Outcome::VersionOne);
            response
        }
    }
}

fn method_not_allowed(allowed: &'static str) -> Response {
    Response::empty(Status::MethodNotAllowed)
        .with("Allow", allowed)
        .refused(Refusal::Method)
}

fn answer_token(
    request: &Request,
    path: &Path,
    tokens: &TokenAuthority,
    now: BootTime,
) -> Response {
    const ALLOWED: &str = "OPTIONS, PUT";
    // Not published, but the Allow of EC2's 405 names it.
    if request.method == "OPTIONS" {
        return Response::empty(Status::Ok).with("Allow", ALLOWED);
    }
    if request.method != "PUT" {
        return method_not_allowed(ALLOWED);
    }
    // A dated version, or a slash at the end: forbidden, says the real service.
    if path.segments[0] != "latest" || path.has_slash {
        return Response::empty(Status::Forbidden);
    }
    let Some(ttl) = request
        .header(TTL_HEADER)
        .and_then(|text| Ttl::parse(text.trim()))
    else {
        return Response::empty(Status::BadRequest).refused(Refusal::BadTtl);
    };
    Response::text(tokens.issue(ttl, now)).with(TTL_ANSWER_HEADER, ttl.seconds().to_string())
}

/// The versions that `GET /` lists: those that know roles, from the first of them on.
const VERSIONS: [&str; 20] = [
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-08-24",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-07-09",
    "2022-09-24",
    "2024-04-11",
    "latest",
];

fn answer_path(path: &Path, served: &Served, now: BootTime) -> Response {
    let segments: Vec<&str> = path.segments.iter().map(AsRef::as_ref).collect();
    let Some((version, segments)) = segments.split_first() else {
        return Response::text(VERSIONS.join("\n"));
    };
    if !serves_roles(version) {
        return not_found();
    }
    let state = &served.state;
    let name = state.role_name.as_str();
    let answered = match segments {
        ["meta-data", "iam", "info"] => {
            valid(state, now).map(|credential| Response::text(info(credential, state)))
        }
        ["meta-data", "iam", "security-credentials"] => {
            valid(state, now).map(|_| Response::text(name.to_owned()))
        }
        ["meta-data", "iam", "security-credentials", asked] if *asked == name => {
            let document = served.document.as_ref().map(Secret::expose);
            valid(state, now).map(|_| Response::text(document.unwrap_or_default().to_owned()))
        }
        // Whatever else begins so is a right of the host's, and no item or listing of ours.
        ["meta-data", "iam", _, ..] | ["meta-data", "identity-credentials", ..] => Err(not_found()),
        other => other_metadata(&other.join("/"), state, now),
    };
    answered
        .map(|response| {
            // EC2 says both of every item.
            let response = response.with("Accept-Ranges", "none");
            match &served.last_modified {
                Some(date) => response.with("Last-Modified", date.clone()),
                None => response,
            }
        })
        .unwrap_or_else(|refusal| refusal)
}

/// What a container may know beside its role, and the listings of all there is.
fn other_metadata(path: &str, served: &ServerState, now: BootTime) -> Result<Response, Response> {
    const REGION: &str = "meta-data/placement/region";
    let snapshot = served.snapshot.as_ref();
    // Also where the snapshot has nothing: an old 404 would say that no interruption is coming.
    if snapshot.is_some_and(|snapshot| snapshot.is_too_old_for(path, now)) {
        return Err(Response::empty(Status::ServiceUnavailable));
    }
    if let Some(item) = snapshot.and_then(|snapshot| snapshot.items.get(path)) {
        let response = Response {
            body: Cow::Owned(item.body.clone()),
            ..Response::text("")
        };
        return Ok(if item.is_binary {
            response.typed("application/octet-stream")
        } else {
            response
        });
    }
    if path == REGION
        && let Some(region) = &served.region
    {
        return Ok(Response::text(region.clone()));
    }
    let own = ["meta-data/iam/info", "meta-data/iam/security-credentials/"].into_iter();
    let own = own.chain(served.region.as_ref().map(|_| REGION));
    let leaves = own.chain(
        snapshot
            .into_iter()
            .flat_map(|snapshot| snapshot.items.keys().map(String::as_str)),
    );
    let listing = if path.is_empty() {
        Some(metadata_snapshot::roots(leaves))
    } else {
        metadata_snapshot::entries(leaves, path)
    };
    if let Some(entries) = listing {
        return Ok(Response::text(entries.join("\n")));
    }
    // It may be there: nobody has been able to look yet.
    let may_be_there = served.pass_through.is_some_and(|what| what.may_hold(path));
    if may_be_there && snapshot.is_none() {
        Err(Response::empty(Status::ServiceUnavailable))
    } else {
        Err(not_found())
    }
}

/// With nothing valid, 500 on the list and on the document alike: after a good list a failing document aborts every program on
/// the AWS C runtime, and PHP's SDK keeps its previous credentials at 500, not at 503.
fn valid(served: &ServerState, now: BootTime) -> Result<&Credential, Response> {
    let valid = served.valid_credential(now);
    valid.ok_or(Response::empty(Status::InternalServerError))
}

/// `iam/info` for the role that is served. Its id has the form of an instance profile's.
fn info(credential: &Credential, served: &ServerState) -> String {
    ec2_form(&[
        ("Code", "Success"),
        ("LastUpdated", &clock::iso8601(credential.last_updated)),
        (
            "InstanceProfileArn",
            &served.role.instance_profile(&served.role_name),
        ),
        ("InstanceProfileId", "AIPAEC2ROLEEC2ROLEEC2"),
    ])
}

/// EC2's page, also for a name that is not the role's. Its type today is not published; no client reads either.
fn not_found() -> Response {
    const PAGE: &str = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
        \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n\
        \x20<head>\n  <title>404 - Not Found</title>\n </head>\n <body>\n  <h1>404 - Not Found</h1>\n </body>\n</html>\n";
    Response::text(PAGE)
        .status(Status::NotFound)
        .typed("text/html")
}

/// `latest`, or a date from 2012-01-12 on, when roles came in: also one that is not listed, for EC2's list grows. What EC2 says of
/// roles under an earlier version is not published; no client asks for them there.
fn serves_roles(version: &str) -> bool {
    let is_date = version.len() == 10
        && version.bytes().enumerate().all(|(at, byte)| {
            if at == 4 || at == 7 {
                byte == b'-'
            } else {
                byte.is_ascii_digit()
            }
        });
    version == "latest" || (is_date && version >= "2012-01-12")
}

/// A request's path: decoded once, empty segments dropped (JavaScript's client always sends `//latest/…`). With or without a slash
/// at its end it is the same: aws-sdk-cpp and .NET ask for the list without, fluent-bit for items with, and a redirect is not sent.
struct Path<'a> {
    segments: Vec<Cow<'a, str>>,
    has_slash: bool,
}

impl<'a> Path<'a> {
    /// `None` for what no metadata path is: not absolute, `.` or `..`, an escape that is none, a character beyond ASCII.
    fn parse(target: &'a str) -> Option<Self> {
        let path = target.split_once('?').map_or(target, |(path, _query)| path);
        if !path.starts_with('/') {
            return None;
        }
        let mut segments = Vec::new();
        for raw in path.split('/').filter(|raw| !raw.is_empty()) {
            let segment = decode(raw)?;
            if segment == "."
                || segment == ".."
                || !segment.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            {
                return None;
            }
            segments.push(segment);
        }
        Some(Path {
            segments,
            has_slash: path.ends_with('/'),
        })
    }

    fn is_token(&self) -> bool {
        self.segments.len() == 3 && self.segments[1] == "api" && self.segments[2] == "token"
    }
}

fn decode(raw: &str) -> Option<Cow<'_, str>> {
    // A lone % is no escape; the crate would leave it as it is.
    let escapes_are_whole = raw
        .split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    if !escapes_are_whole {
        return None;
    }
    percent_encoding::percent_decode_str(raw).decode_utf8().ok()
}
