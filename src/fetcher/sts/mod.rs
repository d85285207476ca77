//! AWS STS: builds, signs and sends one call, and parses the answer
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).

mod answer;
mod endpoint;
mod error;
mod signature;

use std::error::Error;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Request;

pub use answer::{Issued, parse};
pub use endpoint::{Endpoint, EndpointOptions, is_region};
pub use error::{Reaction, StsError};

use crate::common::{AssumeRole, RoleArn};
use crate::fetcher::http_client::{HttpClient, SendError};
use crate::fetcher::source_credential::SourceCredential;

const API_VERSION: &str = "2011-06-15";
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// The characters to escape in a form: all but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub fn assume_role_form(role: &RoleArn, parameters: &AssumeRole) -> String {
    let mut form = Form::new("AssumeRole", role, parameters.session_name.as_deref());
    form.push("DurationSeconds", parameters.duration_seconds.to_string().as_str());
    form.push("ExternalId", parameters.external_id.as_deref());
    form.push("Policy", parameters.policy.as_deref());
    for (n, arn) in (1..).zip(&parameters.policy_arns) {
        form.push(&format!("PolicyArns.member.{n}.arn"), arn.as_str());
    }
    for (n, (key, value)) in (1..).zip(&parameters.tags) {
        form.push(&format!("Tags.member.{n}.Key"), key.as_str());
        form.push(&format!("Tags.member.{n}.Value"), value.as_str());
    }
    for (n, key) in (1..).zip(&parameters.transitive_tag_keys) {
        form.push(&format!("TransitiveTagKeys.member.{n}"), key.as_str());
    }
    form.push("SourceIdentity", parameters.source_identity.as_deref());
    form.0
}

/// Builds the form of AssumeRoleWithWebIdentity. The token authenticates this call, so it needs no signature.
pub fn web_identity_form(role: &RoleArn, session_name: &str, token: &str) -> String {
    let mut form = Form::new("AssumeRoleWithWebIdentity", role, Some(session_name));
    form.push("WebIdentityToken", token);
    form.0
}

struct Form(String);

impl Form {
    fn new(action: &str, role: &RoleArn, session_name: Option<&str>) -> Self {
        let mut form = Form(format!("Action={action}&Version={API_VERSION}"));
        form.push("RoleArn", role.as_str());
        form.push("RoleSessionName", session_name);
        form
    }

    fn push<'a>(&mut self, name: &str, value: impl Into<Option<&'a str>>) {
        if let Some(value) = value.into() {
            self.0.extend(["&", name, "="]);
            self.0.extend(utf8_percent_encode(value, ESCAPED));
        }
    }
}

pub struct Client {
    pub endpoint: Endpoint,
    pub http_client: HttpClient,
}

impl Client {
    /// Returns the fetcher's reaction to an error of `action`, and the log line for the error.
    pub fn judge(&self, error: &StsError, action: &str, role: &RoleArn) -> (Reaction, String) {
        let url = &self.endpoint.url;
        let (reaction, remedy) = error.judge(role, url);
        (reaction, format!("{action} of {role} at {url}: {}; {remedy}", error.describe()))
    }

    /// Posts a form and parses the answer. `signer` has the credential that signs the request, and the time of the signature;
    /// without a `signer` the request is not signed.
    pub fn call(
        &self,
        form: String,
        signer: Option<(&SourceCredential, SystemTime)>,
    ) -> Result<Issued, StsError> {
        let not_sent =
            |error: Box<dyn Error>| StsError::NoAnswer(SendError::new(error.to_string(), None));
        let request = Request::post(&self.endpoint.url).header("Content-Type", CONTENT_TYPE);
        let mut request = request.body(form).map_err(|error| not_sent(error.into()))?;
        if let Some((source, now)) = signer {
            signature::sign(&mut request, source, &self.endpoint.signing_region, now)
                .map_err(not_sent)?;
        }
        parse(self.http_client.send(request).map_err(StsError::NoAnswer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_has_every_option_with_reserved_bytes_escaped() {
        let role = RoleArn::parse("arn:aws:iam::123456789012:role/a/exc_web").unwrap();
        let parameters = AssumeRole {
            session_name: Some("s@1".into()),
            external_id: Some("a:b/c".into()),
            duration_seconds: 900,
            policy: Some("{\"é\": 1}".into()),
            policy_arns: vec!["arn:aws:iam::aws:policy/x".into()],
            tags: vec![("k=1&".into(), "v +".into()), ("empty".into(), String::new())],
            transitive_tag_keys: vec!["k=1&".into()],
            source_identity: Some("me".into()),
            policy_file: None,
        };
        assert_eq!(
            assume_role_form(&role, &parameters),
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fa%2Fexc_web&RoleSessionName=s%401\
             &DurationSeconds=900&ExternalId=a%3Ab%2Fc&Policy=%7B%22%C3%A9%22%3A%201%7D&PolicyArns.member.1.arn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2Fx\
             &Tags.member.1.Key=k%3D1%26&Tags.member.1.Value=v%20%2B&Tags.member.2.Key=empty&Tags.member.2.Value=\
             &TransitiveTagKeys.member.1=k%3D1%26&SourceIdentity=me"
        );
    }
}
