//! A web identity token in a file, exchanged for credentials of a first role: EKS's service accounts, CI systems.

use super::context::Context;
use crate::common::credential::SourceCredential;
use crate::common::fault::{Fault, permanent};
use crate::common::file::NamedFile;
use crate::common::role::RoleArn;

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name| context.environment.get(name);
    let Some(file) = variable("AWS_WEB_IDENTITY_TOKEN_FILE") else {
        return Ok(None);
    };
    let Some(role) = variable("AWS_ROLE_ARN") else {
        return permanent(
            "AWS_WEB_IDENTITY_TOKEN_FILE: it is set, AWS_ROLE_ARN is not; set both (AWS_ROLE_ARN is the first role, which assumes the served one)",
        );
    };
    exchange(
        context,
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        file,
        "AWS_ROLE_ARN",
        role,
        variable("AWS_ROLE_SESSION_NAME"),
    )
    .map(Some)
}

/// Exchanges the token in `file` for credentials of `role`; `file_from` and `role_from` are where the user wrote these.
pub fn exchange(
    context: &Context,
    file_from: &str,
    file: &str,
    role_from: &str,
    role: &str,
    session_name: Option<&str>,
) -> Result<SourceCredential, Fault> {
    let role = RoleArn::parse(role).or_else(|why| permanent(format!("{role_from}: {why}")))?;
    let token = NamedFile::new(file_from, file)
        .read_text()
        .or_else(|error| permanent(error.text))?;
    (context.progress)(&format!("exchanging the web identity token in {file}"));
    (context.web_identity)(&role, session_name.unwrap_or("ec2-role"), token.trim())
}
