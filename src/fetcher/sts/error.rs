//! Errors of a call to STS, and the fetcher's reaction to each.

use crate::common::{HIDDEN, RoleArn};
use crate::fetcher::http_client::{Answer, SendError, quoted};

/// The reason why a call returned no credential.
#[derive(Debug, PartialEq, Eq)]
pub enum StsError {
    NoAnswer(SendError),
    /// STS refused the call with an error code (<https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>).
    Refused {
        code: String,
        message: String,
        answer: Box<Answer>,
    },
    /// The answer comes from another program, or is a malformed answer of STS.
    NotFromSts {
        what: String,
        answer: Box<Answer>,
    },
}

/// The fetcher's reaction to an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    RetryLater,
    /// Read the source credential again, and repeat the call immediately.
    ReloadSource,
    /// If this machine's clock is wrong by minutes, sign with the time from the `Date` of STS and repeat the call immediately.
    CorrectClock,
    /// Repeat the call immediately with a duration of one hour. STS grants one hour for every role, even in role chaining.
    ShortenDuration,
    /// Return a permanent fault, because an option or variable is wrong. With a policy file the fault is transient: the user may
    /// correct the file during the run.
    GiveUp,
}

impl StsError {
    /// Returns the status and headers of the answer; `sts/answer.rs` has removed the body. `None` if there was no answer.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            StsError::NoAnswer(_) => None,
            StsError::Refused { answer, .. } | StsError::NotFromSts { answer, .. } => Some(answer),
        }
    }

    /// Replaces secrets of the request, which STS may repeat in an error. Call this before `describe` and `judge`, which shorten
    /// texts: a shortened secret would not be recognized.
    pub fn hide(&mut self, secrets: &[&str]) {
        let (texts, answer) = match self {
            StsError::NoAnswer(error) => (vec![&mut error.cause], None),
            StsError::Refused { code, message, answer } => (vec![code, message], Some(answer)),
            StsError::NotFromSts { what, answer } => (vec![what], Some(answer)),
        };
        let request_id = answer.and_then(|answer| answer.request_id.as_mut());
        for text in texts.into_iter().chain(request_id) {
            for secret in secrets {
                *text = text.replace(secret, HIDDEN);
            }
        }
    }

    /// Describes the error without its remedy. The text ends with the request id, because AWS's support asks for it.
    pub fn describe(&self) -> String {
        let text = match self {
            StsError::NoAnswer(error) => error.cause.clone(),
            StsError::Refused { code, message, answer } => {
                // Quote the first line only: if the signature is wrong, the other lines repeat the headers of the request.
                let (code, message) = (quoted(code), quoted(message).trim_end_matches('.'));
                format!("{code} ({}): {message}", answer.status)
            }
            StsError::NotFromSts { what, answer } => {
                format!("status {} with {what}", answer.status)
            }
        };
        match self.answer().and_then(|answer| answer.request_id.as_ref()) {
            Some(id) => format!("{text} (request {})", quoted(id)),
            None => text,
        }
    }

    /// Returns the fetcher's reaction to the error, and the remedy for the user if that reaction does not help.
    pub fn judge(&self, role: &RoleArn, endpoint: &str) -> (Reaction, String) {
        let remedy = match self {
            StsError::NoAnswer(SendError { remedy: Some(remedy), .. }) => (*remedy).to_owned(),
            StsError::NoAnswer(_) => format!("check that {endpoint} is reachable from here"),
            // A proxy or load balancer in front of STS may be down or overloaded.
            StsError::NotFromSts { answer, .. } if matches!(answer.status, 429 | 500..) => {
                "nothing to do if it passes".to_owned()
            }
            StsError::NotFromSts { .. } => format!(
                "check that {endpoint} is STS: look at --endpoint-url, AWS_ENDPOINT_URL_STS and the proxy"
            ),
            StsError::Refused { code, message, .. } => match code.as_str() {
                "AccessDenied" | "AccessDeniedException" => remedy_of_denial(message, role),
                code => {
                    let (reaction, remedy) = judge_code(code, message);
                    return (reaction, remedy.to_owned());
                }
            },
        };
        (Reaction::RetryLater, remedy)
    }
}

fn judge_code(code: &str, message: &str) -> (Reaction, &'static str) {
    let is_duration =
        message.contains("1 hour session limit") || message.contains("MaxSessionDuration");
    match code {
        "SignatureDoesNotMatch" if message.contains("scoped to a valid region") => {
            (Reaction::RetryLater, "give the region of this endpoint with --region")
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" => (
            Reaction::ReloadSource,
            "this STS does not know the source's access key: correct the key (ASIA… needs its session token too), or enable the \
             region in the account",
        ),
        "ExpiredToken" | "ExpiredTokenException" => {
            (Reaction::ReloadSource, "the source's credential has expired: let it be renewed")
        }
        "SignatureDoesNotMatch"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "InvalidSignatureException"
        | "AuthFailure"
        | "RequestInTheFuture" => (
            Reaction::CorrectClock,
            "the source's secret key or this machine's clock is wrong: check both",
        ),
        "ValidationError" => (
            if is_duration { Reaction::ShortenDuration } else { Reaction::GiveUp },
            "correct the option that the message names",
        ),
        "MalformedPolicyDocument" | "PackedPolicyTooLarge" => {
            (Reaction::GiveUp, "correct --policy, --policy-arns or --tags")
        }
        "RegionDisabledException" | "RegionDisabled" => (
            Reaction::RetryLater,
            "activate STS for this region in the account's settings, or name another with --region",
        ),
        // All other codes count as transient: throttling alone has many codes, some with status 400.
        _ => (
            Reaction::RetryLater,
            "nothing to do if it passes; if it lasts, correct what the message names",
        ),
    }
}

fn remedy_of_denial(message: &str, role: &RoleArn) -> String {
    let caller = caller(message).unwrap_or("the caller".to_owned());
    if caller == role_of_account(role.name().as_str(), role.account()) {
        return format!(
            "the source's credential is of this role itself: if another ec2-role serves it here, run this one on the host's network; \
             if not, the trust policy of {role} must name {caller}"
        );
    }
    match action(message) {
        _ if message.contains("explicit deny") => {
            "change the policy with the explicit deny, which no other policy overrides".to_owned()
        }
        _ if message.contains("root account") => {
            "give the credential of an IAM user or a role".to_owned()
        }
        _ if message.contains("WithWebIdentity") => format!(
            "the trust policy of {role} must name the token's issuer, audience and subject, and allow sts:AssumeRoleWithWebIdentity"
        ),
        None | Some("sts:AssumeRole") => format!(
            "if {role} exists, its trust policy must name {caller}, whose own policy must allow sts:AssumeRole on it"
        ),
        Some(action) => format!(
            "the trust policy of {role} and the own policy of {caller} must allow {action} too"
        ),
    }
}

/// Returns the action that STS's message `… is not authorized to perform: ACTION …` names.
fn action(message: &str) -> Option<&str> {
    message.split_once("to perform: ")?.1.split_whitespace().next()
}

/// Returns the caller that a trust policy must name, from STS's message `User: ARN is not authorized to perform …`. For a role's
/// session, returns the role's name and account, because the session's ARN lacks the role's path.
fn caller(message: &str) -> Option<String> {
    let arn = message.split_once("User: ")?.1.split_whitespace().next()?;
    let role = || {
        let (session, name) = arn.split_once(":assumed-role/")?;
        let (account, name) = (session.rsplit(':').next()?, name.split('/').next()?);
        Some(role_of_account(name, account))
    };
    Some(role().unwrap_or_else(|| arn.to_owned()))
}

fn role_of_account(name: &str, account: &str) -> String {
    format!("the role {name} of account {account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, message: &str) -> StsError {
        StsError::Refused {
            code: code.into(),
            message: message.into(),
            answer: Box::new(Answer { status, request_id: Some("r1".into()), ..Answer::default() }),
        }
    }

    const ROLE: &str = "arn:aws:iam::123456789012:role/exc_web";

    fn arn(role: &str) -> RoleArn {
        RoleArn::parse(role).unwrap()
    }

    fn judged(error: &StsError) -> (Reaction, String) {
        error.judge(&arn(ROLE), "https://sts")
    }

    #[test]
    fn each_code_has_its_reaction() {
        for (code, reaction) in [
            ("AccessDenied", Reaction::RetryLater),
            ("ExpiredToken", Reaction::ReloadSource),
            ("InvalidClientTokenId", Reaction::ReloadSource),
            ("SignatureDoesNotMatch", Reaction::CorrectClock),
            ("RequestExpired", Reaction::CorrectClock),
            ("ValidationError", Reaction::GiveUp),
            ("PackedPolicyTooLarge", Reaction::GiveUp),
            ("RegionDisabledException", Reaction::RetryLater),
            ("Throttling", Reaction::RetryLater),
            ("IDPCommunicationError", Reaction::RetryLater),
            ("SomethingNew", Reaction::RetryLater),
        ] {
            assert_eq!(judged(&refused(403, code, "")).0, reaction, "{code}");
        }
        let chaining = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
        assert_eq!(judged(&refused(403, "ValidationError", chaining)).0, Reaction::ShortenDuration);
        assert_eq!(judged(&StsError::NoAnswer(SendError::new("", None))).0, Reaction::RetryLater);
    }

    #[test]
    fn a_denial_names_the_caller_for_the_trust_policy() {
        for (caller, named) in [
            ("arn:aws:iam::1:user/bob", "arn:aws:iam::1:user/bob"),
            ("arn:aws:sts::1:assumed-role/host/i-0", "the role host of account 1"),
        ] {
            let message = format!(
                "User: {caller} is not authorized to perform: sts:AssumeRole on resource: X."
            );
            let error = refused(403, "AccessDenied", &message);
            assert_eq!(
                judged(&error).1,
                format!(
                    "if {ROLE} exists, its trust policy must name {named}, whose own policy must allow sts:AssumeRole on it"
                )
            );
            assert!(error.describe().ends_with("(request r1)"));
        }
        let message = "User: arn:aws:sts::123456789012:assumed-role/x/ec2-role-i-0 is not authorized to perform: sts:AssumeRole on resource: X.";
        let itself = refused(403, "AccessDenied", message);
        let remedy = |role| itself.judge(&arn(role), "https://sts").1;
        assert!(
            remedy("arn:aws:iam::123456789012:role/path/x")
                .contains("if another ec2-role serves it here")
        );
        assert!(!remedy("arn:aws:iam::210987654321:role/x").contains("another ec2-role"));
    }
}
