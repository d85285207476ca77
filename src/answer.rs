//! The one answer to one request: keeps browsers out, then asks who serves the path. Pure.

use crate::browser::{self, Suspect};
use crate::clock::Boot;
use crate::http::{Refusal, Request, Response, Status};
use crate::served::Served;
use crate::{container, imds};

/// Answers one request.
pub fn answer(request: &Request, served: &Served, now: Boot) -> Response {
    match browser::suspect(request, &served.hand_over.allow_hosts) {
        Some(Suspect::Host) => return Response::empty(Status::Forbidden).refused(Refusal::Host),
        Some(Suspect::Script) => {
            return Response::empty(Status::Forbidden).refused(Refusal::Script);
        }
        None => {}
    }
    container::answer(request, &served.hand_over, now)
        .unwrap_or_else(|| imds::answer(request, served, now))
}
