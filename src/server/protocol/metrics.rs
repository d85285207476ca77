//! Serves Prometheus metrics (<https://prometheus.io/docs/instrumenting/exposition_formats/>) at `/metrics`, to the host only.

use std::fmt::Write;

use super::browser;
use super::http::{Outcome, Refusal, Request, Response};
use crate::common::clock;
use crate::messages::ServerState;

const PATH: &str = "/metrics";

/// Whether this request asks for the metrics and may get them. A request of a browser, or one that a proxy forwarded, may not
/// get them: the caller passes it to `router`, which refuses it.
pub fn is_requested(request: &Request, allowed_hosts: &[String]) -> bool {
    request.target == PATH
        && matches!(request.method, "GET" | "HEAD")
        && request.header("X-Forwarded-For").is_none()
        && browser::check(request, allowed_hosts).is_ok()
}

/// The server's counters. They restart at zero with the process, which Prometheus allows for counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    requests: u64,
    version_one: u64,
    refusals: [u64; Refusal::ALL.len()],
}

impl Metrics {
    pub fn count(&mut self, outcome: Option<Outcome>) {
        self.requests += 1;
        match outcome {
            Some(Outcome::VersionOne) => self.version_one += 1,
            Some(Outcome::Refused(refusal)) => self.refusals[refusal as usize] += 1,
            None => {}
        }
    }

    pub fn response(&self, state: &ServerState) -> Response<'static> {
        let expiry = state.credential.as_ref();
        let expiry = expiry.map_or(0, |credential| clock::epoch_seconds(credential.expiration));
        let counts = &state.counts;
        #[rustfmt::skip]
        let families = [
            ("requests_total", "Requests answered.", self.requests),
            ("version_one_requests_total", "Requests by IMDSv1 (no session token) that were not refused.", self.version_one),
            ("refreshes_total", "Credentials that STS issued.", counts.refreshes),
            ("refresh_failures_total", "Attempts that brought no credential.", counts.failures),
            ("server_restarts_total", "Servers started after the first.", counts.server_starts.saturating_sub(1)),
            ("credential_expiry_timestamp_seconds", "When the credential expires, in seconds since 1970; 0 without one.",
                u64::try_from(expiry).unwrap_or(0)),
        ];
        let mut text = String::new();
        for (name, help, value) in families {
            describe(&mut text, name, help);
            _ = writeln!(text, "ec2_role_{name} {value}");
        }
        describe(&mut text, "refusals_total", "Requests refused, by reason.");
        for ((_, reason), value) in Refusal::ALL.iter().zip(self.refusals) {
            _ = writeln!(text, "ec2_role_refusals_total{{reason=\"{reason}\"}} {value}");
        }
        Response::text(text).content_type("text/plain; version=0.0.4")
    }
}

fn describe(text: &mut String, name: &str, help: &str) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    _ = writeln!(text, "# HELP ec2_role_{name} {help}\n# TYPE ec2_role_{name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_counter_of_its_own() {
        for (at, (refusal, _)) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, at);
        }
    }
}
