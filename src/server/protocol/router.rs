//! Routes one request: refuses browsers' requests, and passes others to `container_credentials` or `imds`, according to the path.

use super::http::{Refusal, Request, Response, StatusCode};
use super::state::ResponseState;
use super::{browser, container_credentials, imds};
use crate::common::BootTime;

pub fn respond<'a>(request: &Request, state: &'a ResponseState, now: BootTime) -> Response<'a> {
    match browser::check(request, &state.server.config.allow_hosts) {
        Err(Refusal::Host) => refuse(
            Refusal::Host,
            "ec2-role: this Host name is refused; ask by address, or start ec2-role with --allow-host\n",
        ),
        Err(refusal) => refuse(refusal, "ec2-role: requests of browser pages are refused\n"),
        Ok(()) => container_credentials::respond(request, &state.server, now)
            .unwrap_or_else(|| imds::respond(request, state, now)),
    }
}

/// Makes a refusal that EC2 does not have, so its body names this program and the reason.
pub fn refuse(refusal: Refusal, why: &'static str) -> Response<'static> {
    Response::text(why).status(StatusCode::FORBIDDEN).refused(refusal)
}
