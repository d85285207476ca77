//! Exchanges the web identity token in a file (EKS service accounts, CI systems) for the credential of a first role. This
//! credential signs the call of AssumeRole.

use super::context::Context;
use crate::common::{RoleArn, transient};
use crate::fetcher::setting::Setting;
use crate::fetcher::source_credential::{Found, SourceCredential};
use crate::fetcher::sts;

pub fn find(context: &Context) -> Found {
    let variable = |name: &str| context.settings.variable(name);
    let names = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"];
    find_in(context, variable, names)
}

/// Exchanges a token for a role's credential. The array holds the names of the settings for the token's file, the role and the
/// session name.
pub fn find_in<'a>(
    context: &Context,
    setting: impl Fn(&str) -> Option<Setting<'a>>,
    [file, role_arn, session_name]: [&str; 3],
) -> Found {
    let Some(file) = setting(file) else { return Ok(None) };
    let Some(role) = setting(role_arn) else {
        return file.wrong(&format!(
            "it is set, {role_arn} is not; set both ({role_arn} is the first role, which assumes the served one)"
        ));
    };
    let session_name = setting(session_name).map_or("ec2-role", |setting| setting.value);
    let parse = RoleArn::parser(context.sts.endpoint.is_other_sts);
    let role = parse(role.value).or_else(|why| role.wrong(&why))?;
    let token = file.read_token()?;
    context.step(&format!("exchanging the web identity token in {}", file.value));
    let form = sts::web_identity_form(&role, session_name, &token);
    match context.sts.call(form, None) {
        Ok(issued) => Ok(Some(SourceCredential::new(
            &issued.access_key_id,
            issued.secret_access_key.expose(),
            Some(issued.session_token.expose()),
            &format!("the web identity's role {role}"),
        ))),
        // This error is transient, because another program writes the token and may renew it.
        Err(mut error) => {
            error.hide(&[&token]);
            let (_, text) = context.sts.judge(&error, "AssumeRoleWithWebIdentity", &role);
            transient(text)
        }
    }
}
