//! `--check`: asks a running ec2-role, as a client would, whether it serves a valid credential.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

use crate::common::http_headers::{CHECK_AGENT, TOKEN_HEADER, TTL_HEADER};
use crate::common::role::{RoleArn, RoleName};
use crate::fetcher::http_client::{Answer, HttpClient, Timeouts};

/// SDKs give up after one second, so a server that needs two is unhealthy.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(2),
};
const LIST: &str = "meta-data/iam/security-credentials/";
const REMEDY: &str = "is ec2-role running, and is --listen what it was started with?";

pub struct Check {
    pub(super) address: SocketAddr,
    /// The role that must be served, and its name in the list.
    pub(super) role: Option<(RoleArn, RoleName)>,
}

impl Check {
    /// One line that says what is served, or what is wrong.
    pub fn run(&self) -> Result<String, String> {
        let http_client = HttpClient::direct(TIMEOUTS);
        self.ask(&http_client)
            .map_err(|error| format!("{}: {error}", self.address))
    }

    fn ask(&self, http_client: &HttpClient) -> Result<String, String> {
        let token = self.send(http_client, "PUT", "api/token", (TTL_HEADER, "10"))?;
        let token = token.text();
        let get = |path: &str| self.send(http_client, "GET", path, (TOKEN_HEADER, &token));
        let list = get(LIST)?;
        let name = list.text();
        if let Some((role, expected)) = &self.role {
            let profile = field(&get("meta-data/iam/info")?, "InstanceProfileArn");
            if profile.as_deref() != Some(&role.instance_profile(expected)) {
                return Err(format!(
                    "it serves {name}, and not {role} as {}; is --listen that of another, or --role-name missing?",
                    expected.as_str()
                ));
            }
        }
        match field(&get(&format!("{LIST}{name}"))?, "Expiration") {
            Some(until) => Ok(format!(
                "{}: all is well: it serves {name} until {until}",
                self.address
            )),
            None => Err("its answer is not a credential; is it another program?".into()),
        }
    }

    fn send(
        &self,
        http_client: &HttpClient,
        method: &str,
        path: &str,
        (header, value): (&str, &str),
    ) -> Result<Answer, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}/latest/{path}", self.address))
            .header("User-Agent", CHECK_AGENT)
            .header(header, value)
            .body(String::new())
            .map_err(|error| error.to_string())?;
        let answer = http_client
            .send(request)
            .map_err(|error| format!("{error}; {REMEDY}"))?;
        match answer.status {
            200 => Ok(answer),
            500 => Err("ec2-role runs, and has no valid credential; its log says why".into()),
            status => Err(format!(
                "it answered {status} to {method} /latest/{path}; {REMEDY}"
            )),
        }
    }
}

fn field(answer: &Answer, key: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(json[key].as_str()?.to_owned())
}
