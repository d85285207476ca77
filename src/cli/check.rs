//! `--check`: requests the credential from a running ec2-role, as a client does, and reports whether it got one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{
    CHECK_AGENT, NamedFile, RoleArn, RoleName, TOKEN_HEADER, TTL_HEADER, log::printable,
};
use crate::fetcher::http_client::{Answer, HttpClient, Timeouts};

/// Limits for each request of the check. SDKs wait for only one second, so a server that exceeds these limits is unhealthy.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(2), answer: Duration::from_secs(2) };
const INSTANCE_LIST: &str = "/latest/meta-data/iam/security-credentials/";
const CONTAINER_LIST: &str = "/v2/credentials/";
const REMEDY: &str =
    "start ec2-role, or give the --listen and --container-token-file that it was started with";

pub struct Check {
    pub(super) address: SocketAddr,
    /// The role that the server must serve, and the role name that clients must see; `None` accepts any role.
    pub(super) role: Option<(RoleArn, RoleName)>,
    /// If set, the check reads the container token from this file and requests the credential at `CONTAINER_LIST`; otherwise it
    /// requests the credential at `INSTANCE_LIST`.
    pub(super) container_token_file: Option<NamedFile>,
    pub json: bool,
}

impl Check {
    /// Returns one line, or one JSON object if `json` is set. `Ok` has the role name that the server lists, and the credential's
    /// expiration; `Err` says what is wrong.
    pub fn run(&mut self) -> Result<String, String> {
        // Without IPv6, connect to 127.0.0.1 instead of [::]: a server at [::] accepts IPv4 too. Docker disables IPv6, even on
        // loopback, if the container's network has none.
        let has_ipv6 = || TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        if self.address.ip() == Ipv6Addr::UNSPECIFIED && !has_ipv6() {
            self.address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let address = self.address;
        match self.ask() {
            Ok((name, until)) if self.json => {
                Ok(json!({"healthy": true, "address": address, "role_name": name, "expiration": until}).to_string())
            }
            Ok((name, until)) => Ok(format!("{address}: all is well: it serves {name} until {until}")),
            Err(error) if self.json => Err(unhealthy(Some(address), &error)),
            Err(error) => Err(format!("{address}: {error}")),
        }
    }

    /// Returns the role name that the server lists, and the credential's expiration.
    fn ask(&self) -> Result<(String, String), String> {
        let (root, header, token) = match &self.container_token_file {
            Some(file) => {
                let token = file.read_text().map_err(|error| error.to_string())?;
                (CONTAINER_LIST, "Authorization", token.trim_end().to_owned())
            }
            None => {
                let token = self.send("PUT", "/latest/api/token", (TTL_HEADER, "10"))?;
                (INSTANCE_LIST, TOKEN_HEADER, token.text().into_owned())
            }
        };
        let get = |path: &str| self.send("GET", path, (header, &token));
        let list = get(root)?;
        let name = list.text();
        // The name is escaped for the terminal: another program may listen at this address and send control codes.
        let role_name = printable(&name);
        let document = get(&format!("{root}{name}"))?;
        if let Some((role, expected)) = &self.role {
            let is_it = if self.container_token_file.is_some() {
                name == expected.as_str()
                    && field(&document, "RoleArn").as_deref() == Some(role.as_str())
            } else {
                let profile = field(&get("/latest/meta-data/iam/info")?, "InstanceProfileArn");
                profile.as_deref() == Some(&role.instance_profile(expected))
            };
            if !is_it {
                return Err(format!(
                    "it serves {role_name}, and not {role} as {}; give its own --listen and --role-name",
                    expected.as_str()
                ));
            }
        }
        let expiration = field(&document, "Expiration")
            .ok_or("its answer is not a credential; check that ec2-role listens there")?;
        Ok((role_name, printable(&expiration)))
    }

    fn send(&self, method: &str, path: &str, header: (&str, &str)) -> Result<Answer, String> {
        let url = format!("http://{}{path}", self.address);
        let answer = HttpClient::direct(TIMEOUTS)
            .request(method, &url, &[("User-Agent", CHECK_AGENT), header])
            .map_err(|error| format!("{}; {REMEDY}", error.cause))?;
        match answer.status {
            200 => Ok(answer),
            500 => Err("ec2-role runs, and has no valid credential; its log says why".into()),
            status => Err(format!("it answered {status} to {method} {path}; {REMEDY}")),
        }
    }
}

/// Returns the JSON object of a failed check. `address` is `None` if the command line is invalid.
pub fn unhealthy(address: Option<SocketAddr>, error: &str) -> String {
    json!({"healthy": false, "address": address, "error": printable(error)}).to_string()
}

fn field(answer: &Answer, key: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(json[key].as_str()?.to_owned())
}
