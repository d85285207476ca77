//! The one answer to one request: keeps browsers out, then asks who serves the path. Pure.

use crate::browser;
use crate::clock::Boot;
use crate::http::{Refusal, Request, Response, Status};
use crate::served::Served;
use crate::{container, imds};

/// Answers one request.
pub fn answer(request: &Request, served: &Served, now: Boot) -> Response {
    let why = match browser::suspect(request, &served.hand_over.allow_hosts) {
        Some(refusal @ Refusal::Host) => {
            (refusal, "ec2-role: no --allow-host has this Host name\n")
        }
        Some(refusal) => (refusal, "ec2-role: a script in a page is not answered\n"),
        None => {
            let answer = container::answer(request, &served.hand_over, now);
            return answer.unwrap_or_else(|| imds::answer(request, served, now));
        }
    };
    refuse(why.0, why.1)
}

/// A refusal that is none of EC2's own, and so says whose it is and why.
pub fn refuse(refusal: Refusal, why: &'static str) -> Response {
    Response::text(why)
        .status(Status::Forbidden)
        .refused(refusal)
}
