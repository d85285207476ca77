//! What is counted, in Prometheus' text form
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>), at `/metrics`, for the host alone.

use std::fmt::Write;

use crate::common::clock;
use crate::messages::server_state::ServerState;
use crate::server::protocol::browser;
use crate::server::protocol::http::{Outcome, Refusal, Request, Response};

/// Where it is answered.
const PATH: &str = "/metrics";

/// Whether a request is for the figures; one that a browser sent, or that came through a proxy of the host's, is refused as
/// any other.
pub fn is_asked_for(request: &Request, allow_hosts: &[String]) -> bool {
    request.target == PATH
        && matches!(request.method, "GET" | "HEAD")
        && request.header("X-Forwarded-For").is_none()
        && browser::suspect(request, allow_hosts).is_none()
}

/// What the server counts; it begins at zero when the server is replaced, as Prometheus expects of a counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    requests: u64,
    version_one: u64,
    refusals: [u64; Refusal::ALL.len()],
}

impl Metrics {
    /// Counts one answer.
    pub fn count(&mut self, outcome: Option<Outcome>) {
        self.requests += 1;
        match outcome {
            Some(Outcome::VersionOne) => self.version_one += 1,
            Some(Outcome::Refused(refusal)) => self.refusals[refusal as usize] += 1,
            None => {}
        }
    }

    /// All figures.
    pub fn answer(&self, served: &ServerState) -> Response {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            _ = writeln!(
                text,
                "# HELP ec2_role_{name} {help}\n# TYPE ec2_role_{name} {kind}"
            );
            for (labels, value) in samples {
                _ = writeln!(text, "ec2_role_{name}{labels} {value}");
            }
        };
        let single = |value| [(String::new(), value)];
        family(
            "requests_total",
            "counter",
            "Requests answered.",
            &single(self.requests),
        );
        family(
            "version_one_requests_total",
            "counter",
            "Requests without a session token that were served.",
            &single(self.version_one),
        );
        let refusals: Vec<_> = Refusal::ALL
            .iter()
            .map(|(refusal, name)| {
                (
                    format!("{{reason=\"{name}\"}}"),
                    self.refusals[*refusal as usize],
                )
            })
            .collect();
        family(
            "refusals_total",
            "counter",
            "Requests refused, by reason.",
            &refusals,
        );
        family(
            "refreshes_total",
            "counter",
            "Credentials that STS gave.",
            &single(served.counts.refreshes),
        );
        family(
            "refresh_failures_total",
            "counter",
            "Attempts that brought no credential.",
            &single(served.counts.failures),
        );
        family(
            "server_restarts_total",
            "counter",
            "Servers started after the first.",
            &single(served.counts.server_restarts),
        );
        let expiry = served
            .credential
            .as_ref()
            .map_or(0, |credential| clock::epoch_seconds(credential.expiration));
        family(
            "credential_expiry_timestamp_seconds",
            "gauge",
            "When the credential ends, in seconds since 1970; 0 without one.",
            &single(u64::try_from(expiry).unwrap_or(0)),
        );
        Response::text(text).typed("text/plain; version=0.0.4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_place_of_its_own() {
        for (at, (refusal, _)) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, at);
        }
    }
}
