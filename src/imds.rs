//! The instance metadata protocol: Request → Response. Pure: no clock, socket, environment or log.
//!
//! What the real service answers stands in AWS's guide
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>) and in published dumps; where
//! neither tells, the answer is the one that breaks no client, and a comment says so.

use std::borrow::Cow;

use crate::clock::{self, Boot};
use crate::credential::{Credential, ec2_form};
use crate::http::{Request, Response, Status};
use crate::role::{RoleArn, RoleName};
use crate::token::{TokenAuthority, Ttl};

/// The header that a client shows its session token in.
pub const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// The header that asks for a token's life, and (in EC2's letters, below) tells it.
pub const TTL_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TTL_ANSWER_HEADER: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";

/// Whether version 1 of the protocol, without tokens, is answered: the names of `modify-instance-metadata-options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpTokens {
    /// Versions 1 and 2.
    Optional,
    /// Version 2 only: no token, 401.
    Required,
}

/// What there is to serve.
pub struct Instance<'a> {
    /// The role.
    pub role: &'a RoleArn,
    /// The name that the list shows.
    pub role_name: &'a RoleName,
    /// Whether requests without a token are served.
    pub http_tokens: HttpTokens,
    /// Issues and checks session tokens.
    pub tokens: &'a TokenAuthority,
    /// The credential, expired or not.
    pub credential: Option<&'a Credential>,
}

/// The answer to one request. `HEAD` is answered as `GET`; leaving the body out is for whoever writes the answer.
pub fn answer(request: &Request, instance: &Instance, now: Boot) -> Response {
    // In any letter case, also when empty: a proxy stands between, and the client may be whoever talks to that proxy.
    if request.header("X-Forwarded-For").is_some() {
        return Response::empty(Status::Forbidden);
    }
    let Some(path) = Path::parse(request.target) else {
        return not_found();
    };
    if path.is_token() {
        return answer_token(request, &path, instance, now);
    }
    if !matches!(request.method, "GET" | "HEAD") {
        // What EC2 says to these is not published; it says this of its token path.
        return Response::empty(Status::MethodNotAllowed).with("Allow", "OPTIONS, GET, HEAD");
    }
    let ttl = match request.header(TOKEN_HEADER) {
        // aws-sdk-cpp sends the header empty once it has fallen back to version 1.
        None | Some("") => match instance.http_tokens {
            HttpTokens::Optional => None,
            HttpTokens::Required => return Response::empty(Status::Unauthorized),
        },
        Some(token) => match instance.tokens.check(token, now) {
            Ok(seconds) => Some(seconds),
            Err(_) => return Response::empty(Status::Unauthorized),
        },
    };
    let response = answer_path(&path, instance, now);
    match ttl {
        Some(seconds) if response.status == Status::Ok => {
            response.with(TTL_ANSWER_HEADER, seconds.to_string())
        }
        _ => response,
    }
}

fn answer_token(request: &Request, path: &Path, instance: &Instance, now: Boot) -> Response {
    if request.method == "OPTIONS" {
        return Response::empty(Status::Ok).with("Allow", "OPTIONS, PUT");
    }
    if request.method != "PUT" {
        return Response::empty(Status::MethodNotAllowed).with("Allow", "OPTIONS, PUT");
    }
    // A dated version, or a slash at the end: forbidden, says the real service.
    if path.segments[0] != "latest" || path.has_slash {
        return Response::empty(Status::Forbidden);
    }
    let Some(ttl) = request
        .header(TTL_HEADER)
        .and_then(|text| Ttl::parse(text.trim()))
    else {
        return Response::empty(Status::BadRequest);
    };
    Response::text(instance.tokens.issue(ttl, now))
        .with(TTL_ANSWER_HEADER, ttl.seconds().to_string())
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

fn answer_path(path: &Path, instance: &Instance, now: Boot) -> Response {
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let Some((version, segments)) = segments.split_first() else {
        return Response::text(VERSIONS.join("\n"));
    };
    if !serves_roles(version) {
        return not_found();
    }
    let served = match segments {
        [] => listing("meta-data"),
        ["meta-data"] => listing("iam/"),
        ["meta-data", "iam"] => listing("info\nsecurity-credentials/"),
        ["meta-data", "iam", "info"] => valid(instance, now)
            .map(|credential| Response::text(info(credential, instance.role, instance.role_name))),
        ["meta-data", "iam", "security-credentials"] => {
            valid(instance, now).map(|_| Response::text(instance.role_name.as_str().to_owned()))
        }
        ["meta-data", "iam", "security-credentials", name]
            if *name == instance.role_name.as_str() =>
        {
            valid(instance, now).map(|credential| Response::text(credential.ec2_document()))
        }
        _ => Err(not_found()),
    };
    served.unwrap_or_else(|refusal| refusal)
}

fn listing(entries: &'static str) -> Result<Response, Response> {
    Ok(Response::text(entries))
}

/// With nothing valid, 500 on the list and on the document alike: after a good list a failing document aborts every program on
/// the AWS C runtime, and PHP's SDK keeps its previous credentials at 500, not at 503.
fn valid<'a>(instance: &Instance<'a>, now: Boot) -> Result<&'a Credential, Response> {
    instance
        .credential
        .filter(|credential| credential.is_valid(now))
        .ok_or(Response::empty(Status::InternalServerError))
}

/// `iam/info` for the role that is served. There is no instance profile; its ARN ends in the listed name, from which the
/// ec2-metadata package takes the role's, and its id has the form of one.
fn info(credential: &Credential, role: &RoleArn, name: &RoleName) -> String {
    ec2_form(&[
        ("Code", "Success"),
        ("LastUpdated", &clock::iso8601(credential.last_updated)),
        (
            "InstanceProfileArn",
            &format!(
                "arn:{}:iam::{}:instance-profile/{}",
                role.partition(),
                role.account(),
                name.as_str()
            ),
        ),
        ("InstanceProfileId", "AIPAEC2ROLEEC2ROLEEC2"),
    ])
}

fn not_found() -> Response {
    const PAGE: &str = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
        \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n\
        \x20<head>\n  <title>404 - Not Found</title>\n </head>\n <body>\n  <h1>404 - Not Found</h1>\n </body>\n</html>\n";
    Response {
        status: Status::NotFound,
        content_type: "text/html",
        headers: Vec::new(),
        body: Cow::Borrowed(PAGE),
    }
}

/// `latest`, or a date from 2012-01-12 on, when roles came in.
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

/// A request's path: decoded once, empty segments dropped (JavaScript's client always sends `//latest/…`).
struct Path {
    segments: Vec<String>,
    has_slash: bool,
}

impl Path {
    /// `None` for what no metadata path is: not absolute, `.` or `..`, an escape that is none, a character beyond ASCII.
    fn parse(target: &str) -> Option<Self> {
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

fn decode(raw: &str) -> Option<String> {
    // A lone % is no escape; the crate would leave it as it is.
    let escapes_are_whole = raw
        .split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    if !escapes_are_whole {
        return None;
    }
    percent_encoding::percent_decode_str(raw)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}
