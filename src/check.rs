//! `--check`: asks a running ec2-role, as a client would, whether all is well.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

use crate::outbound::{Answer, Outbound, Patience};
use crate::token::{TOKEN_HEADER, TTL_HEADER};

/// SDKs give up after one second; who cannot answer in two is not well.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(2),
};
const LIST: &str = "meta-data/iam/security-credentials/";

/// Says in a line that an unexpired credential is served, or what is wrong.
pub fn check(address: SocketAddr) -> Result<String, String> {
    let outbound = Outbound::direct(PATIENCE);
    let send = |method: &str, path: &str, header: (&str, &str)| -> Result<Answer, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}/latest/{path}"))
            .header(header.0, header.1);
        let request = request
            .body(String::new())
            .map_err(|error| format!("ec2-role at {address}: {error}"))?;
        let remedy = "is it running, and is --listen what it was started with?";
        let answer = outbound
            .send(request)
            .map_err(|error| format!("ec2-role at {address}: {error}; {remedy}"))?;
        match answer.status {
            200 => Ok(answer),
            500 => Err(format!(
                "ec2-role at {address}: it runs, and has no valid credential; its log says why"
            )),
            status => Err(format!(
                "ec2-role at {address}: it answered {status} to {method} /latest/{path}; {remedy}"
            )),
        }
    };
    let token = send("PUT", "api/token", (TTL_HEADER, "10"))?;
    let token = token.text();
    let name = send("GET", LIST, (TOKEN_HEADER, &token))?;
    let document = send(
        "GET",
        &format!("{LIST}{}", name.text()),
        (TOKEN_HEADER, &token),
    )?;
    let document: Value = serde_json::from_slice(&document.body).unwrap_or_default();
    match document["Expiration"].as_str() {
        Some(until) => Ok(format!(
            "ec2-role at {address}: all is well: it serves {} until {until}",
            name.text()
        )),
        None => Err(format!(
            "ec2-role at {address}: its answer is no credential; is it another program?"
        )),
    }
}
