//! The instance's own role, from its metadata service
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-roles-for-amazon-ec2.html>).

use serde_json::Value;

use super::context::Context;
use crate::common::{Fault, transient};
use crate::fetcher::http_client::{parse_url, quoted};
use crate::fetcher::source_credential::SourceCredential;

/// Origin of this source's credentials. For this origin the session is named after the instance.
pub const ORIGIN: &str = "the instance's role";

const LIST: &str = "meta-data/iam/security-credentials/";

pub fn find(context: &Context) -> Result<SourceCredential, Fault> {
    context.step("reading the instance's role from the host's metadata service");
    let client = (context.host)()?;
    let list = client.get(LIST)?.unwrap_or_default();
    let list = list.text();
    let Some(name) = list.lines().map(str::trim).find(|line| !line.is_empty()) else {
        return client.wrong("the instance has no role; attach an instance profile to it");
    };
    if parse_url(&format!("http://host/{name}")).is_err() {
        return client
            .wrong("its list of roles is malformed; check AWS_EC2_METADATA_SERVICE_ENDPOINT");
    }
    let document = client.get(&format!("{LIST}{name}"))?.unwrap_or_default();
    let json: Value = serde_json::from_str(&document.text()).unwrap_or_default();
    if let Some(code) = json["Code"].as_str().filter(|code| *code != "Success") {
        let message = json["Message"].as_str().unwrap_or_default();
        let (code, message) = (quoted(code), quoted(message));
        return transient(format!(
            "the instance's role {name}: {code}: {message}; check the instance profile and the role's trust policy"
        ));
    }
    match SourceCredential::parse_role(&json, ORIGIN) {
        Some(found) => Ok(found),
        None => {
            client.wrong(&format!("its document for role {name} holds no credential; check AWS_EC2_METADATA_SERVICE_ENDPOINT"))
        }
    }
}
