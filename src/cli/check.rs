//! `--check`: asks a running ec2-role, as a client would, whether all is well.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

use crate::common::http_headers::{CHECK_AGENT, TOKEN_HEADER, TTL_HEADER};
use crate::common::role::{RoleArn, RoleName};
use crate::fetcher::http_client::{Answer, HttpClient, Timeouts};

/// SDKs give up after one second; who cannot answer in two is not well.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(2),
};
const LIST: &str = "meta-data/iam/security-credentials/";

/// Says in a line that an unexpired credential is served, of a role by a name if they are given, or what is wrong.
pub fn check(address: SocketAddr, role: Option<&(RoleArn, RoleName)>) -> Result<String, String> {
    let http_client = HttpClient::direct(TIMEOUTS);
    let send = |method: &str, path: &str, header: (&str, &str)| -> Result<Answer, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}/latest/{path}"))
            .header("User-Agent", CHECK_AGENT)
            .header(header.0, header.1);
        let request = request
            .body(String::new())
            .map_err(|error| format!("{address}: {error}"))?;
        let remedy = "is ec2-role running, and is --listen what it was started with?";
        let answer = http_client
            .send(request)
            .map_err(|error| format!("{address}: {error}; {remedy}"))?;
        match answer.status {
            200 => Ok(answer),
            500 => Err(format!(
                "{address}: ec2-role runs, and has no valid credential; its log says why"
            )),
            status => Err(format!(
                "{address}: it answered {status} to {method} /latest/{path}; {remedy}"
            )),
        }
    };
    let token = send("PUT", "api/token", (TTL_HEADER, "10"))?;
    let token = token.text();
    let get = |path: &str| send("GET", path, (TOKEN_HEADER, &token));
    let name = get(LIST)?;
    let name = name.text();
    let field = |answer: Answer, key: &str| {
        let json: Value = serde_json::from_slice(&answer.body).ok()?;
        json[key].as_str().map(str::to_owned)
    };
    if let Some((role, expected)) = role {
        let profile = field(get("meta-data/iam/info")?, "InstanceProfileArn");
        if profile.as_deref() != Some(&role.instance_profile(expected)) {
            return Err(format!(
                "{address}: it serves {name}, and not {role} as {}; is --listen that of another, or --role-name missing?",
                expected.as_str()
            ));
        }
    }
    match field(get(&format!("{LIST}{name}"))?, "Expiration") {
        Some(until) => Ok(format!(
            "{address}: all is well: it serves {name} until {until}"
        )),
        None => Err(format!(
            "{address}: its answer is no credential; is it another program?"
        )),
    }
}
