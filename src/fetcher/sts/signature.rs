//! Signs a call to STS with Signature Version 4
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>).

use std::error::Error;
use std::time::SystemTime;

use aws_sigv4::http_request::{self, SignableBody, SignableRequest, SigningSettings};
use aws_sigv4::sign::v4;
use ureq::http::Request;

use crate::fetcher::source_credential::SourceCredential;

pub fn sign(
    request: &mut Request<String>,
    source: &SourceCredential,
    region: &str,
    now: SystemTime,
) -> Result<(), Box<dyn Error>> {
    let identity = source.keys.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now)
        .settings(SigningSettings::default())
        .build()?
        .into();
    let uri = request.uri().to_string();
    let body = SignableBody::Bytes(request.body().as_bytes());
    let headers = request.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(request.method().as_str(), &uri, headers, body)?;
    let (instructions, _signature) = http_request::sign(signable, &parameters)?.into_parts();
    instructions.apply_to_request_http1x(request);
    Ok(())
}
