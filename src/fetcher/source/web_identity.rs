//! A web identity token in a file, exchanged for the credential of a first role: EKS's service accounts, CI systems.

use std::time::SystemTime;

use super::context::Context;
use crate::common::fault::{Fault, transient};
use crate::common::role::RoleArn;
use crate::common::secret::HIDDEN;
use crate::fetcher::setting::Setting;
use crate::fetcher::source_credential::SourceCredential;
use crate::fetcher::sts;

pub fn find(context: &Context) -> Result<Option<SourceCredential>, Fault> {
    let variable = |name| Setting::variable(context.environment, name);
    let Some(file) = variable("AWS_WEB_IDENTITY_TOKEN_FILE") else {
        return Ok(None);
    };
    let Some(role) = variable("AWS_ROLE_ARN") else {
        return file.wrong(
            "it is set, AWS_ROLE_ARN is not; set both (AWS_ROLE_ARN is the first role, which assumes the served one)",
        );
    };
    let session_name = context.environment.get("AWS_ROLE_SESSION_NAME");
    exchange(context, &file, &role, session_name).map(Some)
}

/// Exchanges the token in `file` for the credential of `role`.
pub fn exchange(
    context: &Context,
    file: &Setting,
    role: &Setting,
    session_name: Option<&str>,
) -> Result<SourceCredential, Fault> {
    let role = RoleArn::parse(role.value).or_else(|why| role.wrong(&why))?;
    let token = file.read_token()?;
    let path = file.value;
    (context.report_step)(&format!("exchanging the web identity token in {path}"));
    let form = sts::web_identity_form(&role, session_name.unwrap_or("ec2-role"), &token);
    match context.sts.call(form, None, SystemTime::now()) {
        Ok(issued) => Ok(SourceCredential {
            access_key_id: issued.access_key_id,
            secret_access_key: issued.secret_access_key,
            session_token: Some(issued.session_token),
            origin: format!("the web identity's role {role}"),
        }),
        // Another program writes the token.
        Err(error) => {
            let text = (context.sts).describe(&error, "AssumeRoleWithWebIdentity", &role);
            transient(text.replace(&token, HIDDEN))
        }
    }
}
