//! STS's errors, sorted by what to do about them.

use std::time::SystemTime;

use crate::fetcher::http_client::SendError;

/// Why a call gave no credential.
#[derive(Debug, PartialEq, Eq)]
pub enum StsError {
    /// There was no answer.
    Unsent(SendError),
    /// STS said no, with a code (<https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>).
    #[allow(missing_docs)]
    Refused {
        status: u16,
        code: String,
        message: String,
        request_id: Option<String>,
        date: Option<SystemTime>,
    },
    /// Something answered that is not STS, or broken.
    #[allow(missing_docs)]
    Unreadable {
        status: u16,
        what: String,
        request_id: Option<String>,
        date: Option<SystemTime>,
    },
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again later.
    Wait,
    /// Read the source credentials again, and try once more at once.
    Reload,
    /// Set the clock by STS's `Date`, and try once more at once, if it is off by much.
    SetClock,
    /// Ask for an hour, the most that a role may give to a role.
    AskLess,
    /// The trust policy or the caller's policy, or IAM not yet knowing of either: try again later.
    Trust,
    /// Only the user can mend it.
    Mend,
}

impl StsError {
    /// What to do.
    pub fn retry(&self) -> Retry {
        let StsError::Refused { code, message, .. } = self else {
            return Retry::Wait;
        };
        match code.as_str() {
            "AccessDenied" | "AccessDeniedException" => Retry::Trust,
            "ExpiredToken" | "ExpiredTokenException" | "InvalidClientTokenId" => Retry::Reload,
            "SignatureDoesNotMatch"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "InvalidSignatureException"
            | "AuthFailure"
            | "RequestInTheFuture" => Retry::SetClock,
            "ValidationError"
                if message.contains("1 hour session limit")
                    || message.contains("MaxSessionDuration") =>
            {
                Retry::AskLess
            }
            "ValidationError"
            | "MalformedPolicyDocument"
            | "PackedPolicyTooLarge"
            | "RegionDisabledException"
            | "RegionDisabled" => Retry::Mend,
            _ => Retry::Wait,
        }
    }

    /// STS's clock, if it told it.
    pub fn date(&self) -> Option<SystemTime> {
        match self {
            StsError::Unsent(_) => None,
            StsError::Refused { date, .. } | StsError::Unreadable { date, .. } => *date,
        }
    }

    /// One line about it, with STS's request id, which AWS's support asks for; without the remedy.
    pub fn describe(&self) -> String {
        let (text, request_id) = match self {
            StsError::Unsent(error) => return error.to_string(),
            StsError::Refused {
                status,
                code,
                message,
                request_id,
                ..
            } => {
                let message = message.trim_end_matches('.');
                (format!("{code} ({status}): {message}"), request_id)
            }
            StsError::Unreadable {
                status,
                what,
                request_id,
                ..
            } => (format!("status {status} with {what}"), request_id),
        };
        match request_id {
            Some(id) => format!("{text} (request {id})"),
            None => text,
        }
    }

    /// What the user can do about it; `role` and `endpoint` are what they wrote, or what stands for it.
    pub fn remedy(&self, role: &str, endpoint: &str) -> String {
        let StsError::Refused {
            status,
            code,
            message,
            ..
        } = self
        else {
            return match self {
                // Whatever stands before STS may be down, or have too much to do, by itself.
                StsError::Unreadable {
                    status: 429 | 500..,
                    ..
                } => "nothing to do if it passes".to_owned(),
                StsError::Unreadable { .. } => format!(
                    "is {endpoint} STS? look at --endpoint-url, AWS_ENDPOINT_URL_STS and the proxy"
                ),
                StsError::Unsent(SendError::Wrong(_, remedy)) => (*remedy).to_owned(),
                _ => format!("is {endpoint} reachable from here?"),
            };
        };
        match (self.retry(), code.as_str()) {
            (Retry::Trust, _) => {
                let whom = caller(message).unwrap_or("the caller".to_owned());
                format!("the trust policy of {role} must name {whom}, whose own policy must allow sts:AssumeRole on it")
            }
            (Retry::Reload, "InvalidClientTokenId") => {
                "the source's access key is unknown to this STS: look at the key, or enable the region in the account".to_owned()
            }
            (Retry::Reload, _) => "the source's credentials have expired: let them be renewed".to_owned(),
            (Retry::SetClock, _) => "the source's secret key is wrong, or the clock is off: look at both".to_owned(),
            (Retry::Mend, "RegionDisabledException" | "RegionDisabled") => {
                "activate STS for this region in the account's settings, or name another with --region".to_owned()
            }
            (Retry::Mend, "MalformedPolicyDocument" | "PackedPolicyTooLarge") => "correct --policy, --policy-arns or --tags".to_owned(),
            (Retry::Mend | Retry::AskLess, _) => "correct the option that it names".to_owned(),
            (Retry::Wait, code) if *status == 429 || *status >= 500 || passes(code) => {
                "nothing to do if it passes".to_owned()
            }
            (Retry::Wait, _) => "STS does not take what is asked of it: correct what its message names".to_owned(),
        }
    }
}

/// Who called, by STS's own message: `User: ARN is not authorized to perform …`. Of a session the role, which is what a policy
/// should name: the next instance has another session. Its ARN cannot be said, as the session's lacks the role's path.
fn caller(message: &str) -> Option<String> {
    let arn = message.split_once("User: ")?.1.split_whitespace().next()?;
    let role = || {
        let (session, name) = arn.split_once(":assumed-role/")?;
        let (account, name) = (session.rsplit(':').next()?, name.split('/').next()?);
        Some(format!("the role {name} of account {account}"))
    };
    Some(role().unwrap_or_else(|| arn.to_owned()))
}

/// Whether a refusal with this code passes by itself, though its status is one of 400.
fn passes(code: &str) -> bool {
    code.contains("Throttl")
        || code.contains("TooMany")
        || code == "RequestLimitExceeded"
        || code == "IDPCommunicationError"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, message: &str) -> StsError {
        StsError::Refused {
            status,
            code: code.into(),
            message: message.into(),
            request_id: Some("r1".into()),
            date: None,
        }
    }

    #[test]
    fn errors_are_sorted_by_what_to_do_about_them() {
        for (code, retry) in [
            ("AccessDenied", Retry::Trust),
            ("ExpiredToken", Retry::Reload),
            ("InvalidClientTokenId", Retry::Reload),
            ("SignatureDoesNotMatch", Retry::SetClock),
            ("RequestExpired", Retry::SetClock),
            ("ValidationError", Retry::Mend),
            ("PackedPolicyTooLarge", Retry::Mend),
            ("RegionDisabledException", Retry::Mend),
            ("Throttling", Retry::Wait),
            ("IDPCommunicationError", Retry::Wait),
            ("SomethingNew", Retry::Wait),
        ] {
            assert_eq!(refused(403, code, "").retry(), retry, "{code}");
        }
        let chaining = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
        assert_eq!(
            refused(403, "ValidationError", chaining).retry(),
            Retry::AskLess
        );
        assert_eq!(StsError::Unsent(SendError::Silent).retry(), Retry::Wait);
    }

    #[test]
    fn a_denial_names_whom_the_trust_policy_must_name() {
        for (caller, whom) in [
            ("arn:aws:iam::1:user/bob", "arn:aws:iam::1:user/bob"),
            (
                "arn:aws:sts::1:assumed-role/host/i-0",
                "the role host of account 1",
            ),
        ] {
            let message = format!(
                "User: {caller} is not authorized to perform: sts:AssumeRole on resource: X."
            );
            let error = refused(403, "AccessDenied", &message);
            assert_eq!(
                error.remedy("ROLE", "https://sts"),
                format!(
                    "the trust policy of ROLE must name {whom}, whose own policy must allow sts:AssumeRole on it"
                )
            );
            assert!(error.describe().ends_with("(request r1)"));
        }
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (status, code, says) in [
            (400, "Throttling", "nothing to do"),
            (400, "IDPCommunicationError", "nothing to do"),
            (429, "Slow", "nothing to do"),
            (500, "InternalFailure", "nothing to do"),
            (
                400,
                "InvalidParameterValue",
                "correct what its message names",
            ),
        ] {
            let remedy = refused(status, code, "").remedy("ROLE", "https://sts");
            assert!(remedy.contains(says), "{status} {code}: {remedy}");
        }
    }
}
