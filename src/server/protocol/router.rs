//! The one answer to one request: keeps browsers out, then asks who serves the path. Pure.

use crate::common::clock::BootTime;
use crate::server::protocol::browser;
use crate::server::protocol::container_credentials;
use crate::server::protocol::http::{Refusal, Request, Response, Status};
use crate::server::protocol::imds;
use crate::server::protocol::state::Served;

/// Answers one request.
pub fn answer(request: &Request, served: &Served, now: BootTime) -> Response {
    match browser::suspect(request, &served.state.allow_hosts) {
        Some(Refusal::Host) => refuse(
            Refusal::Host,
            "ec2-role: no --allow-host has this Host name\n",
        ),
        Some(refusal) => refuse(refusal, "ec2-role: a script in a page is not answered\n"),
        None => container_credentials::answer(request, &served.state, now)
            .unwrap_or_else(|| imds::answer(request, served, now)),
    }
}

/// A refusal that is none of EC2's own, and so says whose it is and why.
pub fn refuse(refusal: Refusal, why: &'static str) -> Response {
    Response::text(why)
        .status(Status::Forbidden)
        .refused(refusal)
}
