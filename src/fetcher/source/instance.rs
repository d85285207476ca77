//! The instance's own role, from its metadata service
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-roles-for-amazon-ec2.html>).

use serde_json::Value;

use super::context::Context;
use super::document;
use crate::common::credential::SourceCredential;
use crate::common::fault::{Fault, transient};

/// How the instance is called as an origin; its id then names the session.
pub const ORIGIN: &str = "the instance's role";

const LIST: &str = "meta-data/iam/security-credentials/";

/// The instance's role; a fault if it has none or the service cannot be reached.
pub fn find(context: &Context) -> Result<SourceCredential, Fault> {
    (context.progress)("asking the host's metadata service for the instance's role");
    let session = context.host.session()?;
    let at = session.endpoint();
    let list = session.get(LIST)?.unwrap_or_default();
    let Some(name) = list.lines().map(str::trim).find(|line| !line.is_empty()) else {
        return transient(format!(
            "the metadata service at {at}: the instance has no role; attach an instance profile to it"
        ));
    };
    let document = session.get(&format!("{LIST}{name}"))?.unwrap_or_default();
    let json: Value = serde_json::from_str(&document).unwrap_or_default();
    if let Some(code) = json["Code"].as_str().filter(|code| *code != "Success") {
        let message = json["Message"].as_str().unwrap_or_default();
        return transient(format!(
            "the instance's role {name}: {code}: {message}; look at the instance profile and the role's trust policy"
        ));
    }
    match document::read_role(&json, ORIGIN) {
        Some(found) => Ok(found),
        None => transient(format!(
            "the metadata service at {at}: its document for role {name} holds no credential; is it EC2's?"
        )),
    }
}
