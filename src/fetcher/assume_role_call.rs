//! Calls AssumeRole: adjusts the parameters after an error of STS, and builds the credential from the result.

use std::time::{Duration, SystemTime};

use crate::common::{
    AssumeRole, BootTime, Credential, DEFAULT_DURATION_SECONDS, Fault, clock, transient,
};
use crate::fetcher::source::{self, Context};
use crate::fetcher::source_credential::SourceCredential;
use crate::fetcher::sts::{Reaction, StsError, assume_role_form};
use crate::messages::{FetchReport, Fetched};

/// A clock offset is tried only if it differs by at least this much from each offset that STS has refused. STS tolerates a
/// difference of five minutes, so a smaller change hardly helps. [`life`] also trusts a `Date` that is up to this much too early.
const TOLERATED_SKEW_SECONDS: i64 = 120;

/// A call of AssumeRole, adjusted after each error of STS.
pub struct AssumeRoleCall<'a> {
    pub context: &'a Context<'a>,
    /// The user's parameters, with a session name and the text of the policy file. The duration is lowered if STS refuses it.
    pub parameters: AssumeRole,
    pub source: SourceCredential,
    pub clock_offset: i64,
    /// Whether to read the source again if STS rejects its credential: the source may have renewed the credential. The source
    /// is read again at most once.
    pub may_reload: bool,
    /// Clock offsets of the signatures that STS has refused; they are not tried again.
    pub refused_offsets: Vec<i64>,
}

impl AssumeRoleCall<'_> {
    /// Calls STS until it issues a credential. After an error, `adjust_for_retry` either prepares an immediate retry or returns
    /// the fault.
    pub fn run(mut self) -> Result<Fetched, Fault> {
        let Context { settings, sts, .. } = self.context;
        let (issued, called_at, signed_for) = loop {
            // Take the time before the call: the credential's life begins when STS issues it, and the answer may arrive much
            // later.
            let (called_at, wall_clock) = (BootTime::now(), SystemTime::now());
            let form = assume_role_form(&settings.config.role, &self.parameters);
            let signed_for = clock::shifted(wall_clock, self.clock_offset);
            match sts.call(form, Some((&self.source, signed_for))) {
                Ok(issued) => break (issued, called_at, signed_for),
                Err(mut error) => {
                    error.hide(&self.hidden());
                    self.adjust_for_retry(&error)?;
                }
            }
        };
        let seconds = self.parameters.duration_seconds;
        let asked = Duration::from_secs(seconds.into());
        let Some((last_updated, life)) = life(issued.expiration, issued.date, signed_for, asked)
        else {
            return transient(format!(
                "AssumeRole at {}: by the clock of that STS its credential has expired; correct that clock",
                sts.endpoint.url
            ));
        };
        let is_less = seconds < settings.config.assume_role.duration_seconds;
        Ok(Fetched {
            credential: Credential {
                access_key_id: issued.access_key_id,
                secret_access_key: issued.secret_access_key,
                session_token: issued.session_token,
                last_updated,
                expiration: last_updated + life,
                deadline: called_at.after(life),
            },
            clock_offset: self.clock_offset,
            duration_limit: is_less.then_some(seconds),
        })
    }

    /// Returns the texts to hide in errors: the source's secrets, the external id and the policy. The external id and the policy
    /// are not secret, but not everybody who reads the log should see them. An external id that is part of the role's ARN,
    /// such as its account id, is not hidden: the log shows the ARN anyway, and some errors name the account.
    fn hidden(&self) -> Vec<&str> {
        let (source, parameters) = (&self.source.keys, &self.parameters);
        let role = self.context.settings.config.role.as_str();
        let texts = [
            Some(source.secret_access_key()),
            source.session_token(),
            parameters.external_id.as_deref(),
            parameters.policy.as_deref(),
        ];
        texts.into_iter().flatten().filter(|text| !role.contains(*text)).collect()
    }

    /// Adjusts the parameters for one retry; returns the fault if the error is not retryable.
    fn adjust_for_retry(&mut self, error: &StsError) -> Result<(), Fault> {
        let Context { settings, report, sts, .. } = self.context;
        let config = settings.config;
        let (reaction, text) = sts.judge(error, "AssumeRole", &config.role);
        let fault = || match reaction {
            // With a policy file every fault is transient: the error may be about the policy, and the file may be corrected.
            _ if self.parameters.policy_file.is_some() => Fault::Transient(text),
            Reaction::GiveUp | Reaction::ShortenDuration => Fault::Permanent(text),
            _ => Fault::Transient(text),
        };
        if let Some(seconds) = error.answer().and_then(|answer| answer.retry_after) {
            report(FetchReport::RetryAfter(seconds));
        }
        let date = error.answer().and_then(|answer| answer.date);
        match (reaction, date) {
            (Reaction::ReloadSource, _) if self.may_reload => {
                self.may_reload = false;
                self.source = source::find(self.context)?;
            }
            (Reaction::CorrectClock, Some(date)) => {
                let offset = clock::epoch_seconds(date) - clock::epoch_seconds(SystemTime::now());
                self.refused_offsets.push(self.clock_offset);
                let is_new = |offset: &i64| {
                    let is_near = |refused: &i64| (offset - refused).abs() < TOLERATED_SKEW_SECONDS;
                    !self.refused_offsets.iter().any(is_near)
                };
                // If STS has already refused the offset that `Date` gives, try offset 0, this machine's own clock: a proxy may
                // have set a wrong `Date`, or the clock may have been corrected meanwhile.
                let Some(next) = [offset, 0].into_iter().find(is_new) else { return Err(fault()) };
                // STS tolerates a smaller offset. Then the user has set the clock right since the last call, so say nothing.
                if next.abs() >= TOLERATED_SKEW_SECONDS {
                    report(FetchReport::Notice(format!(
                        "this machine's clock is off by {next} s against the clock of STS; signing with the latter; set the clock"
                    )));
                }
                self.clock_offset = next;
            }
            (Reaction::ShortenDuration, _)
                if self.parameters.duration_seconds > DEFAULT_DURATION_SECONDS =>
            {
                report(FetchReport::Notice(format!(
                    "--duration-seconds {}: STS allows less ({}); asking for {DEFAULT_DURATION_SECONDS}",
                    config.assume_role.duration_seconds,
                    error.describe()
                )));
                self.parameters.duration_seconds = DEFAULT_DURATION_SECONDS;
            }
            _ => return Err(fault()),
        }
        Ok(())
    }
}

/// Returns a credential's time of issue, and its lifetime: from then to `expiration`, but at most `asked`. The time of issue is
/// the response's `Date`. If `Date` is missing, or implausible because a proxy set it, the time of issue is the time of the
/// request's signature, `signed_for`. Returns `None` if the credential has expired.
fn life(
    expiration: SystemTime,
    date: Option<SystemTime>,
    signed_for: SystemTime,
    asked: Duration,
) -> Option<(SystemTime, Duration)> {
    let left = |now: SystemTime| expiration.duration_since(now).ok().filter(|left| !left.is_zero());
    let most = asked + Duration::from_secs(TOLERATED_SKEW_SECONDS.unsigned_abs());
    let is_plausible = |now: &SystemTime| left(*now).is_some_and(|left| left <= most);
    let now = date.filter(is_plausible).unwrap_or(signed_for);
    Some((now, left(now)?.min(asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Duration = Duration::from_secs(3600);

    /// The point in time `seconds` after an arbitrary start.
    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn lifetime_is_counted_from_the_plausible_clock() {
        let second = Duration::from_secs(1);
        for (expiration, date, signed_for, expected) in [
            // In this order: the clocks of STS and of this machine agree; `Date` is missing; the clocks differ by 8 s.
            (at(3600), Some(at(0)), at(0), Some((at(0), ASKED))),
            (at(3600), None, at(0), Some((at(0), ASKED))),
            (at(3600), Some(at(1)), at(9), Some((at(1), ASKED - second))),
            // The clock of STS is an hour ahead of this machine's. By `Date`, the credential lives 10 s.
            (at(3610), Some(at(3600)), at(0), Some((at(3600), 10 * second))),
            // An implausible `Date` is ignored: an hour behind, in 1970, or as late as the expiration.
            (at(3600), Some(at(0) - ASKED), at(5), Some((at(5), ASKED - 5 * second))),
            (at(3600), Some(SystemTime::UNIX_EPOCH), at(0), Some((at(0), ASKED))),
            (at(3600), Some(at(3600)), at(0), Some((at(0), ASKED))),
            // An Expiration months ahead gives only the requested duration. An Expiration that is reached gives `None`.
            (at(9_000_000), Some(at(1)), at(0), Some((at(0), ASKED))),
            (at(0), Some(at(0)), at(0), None),
            (at(0), None, at(1), None),
        ] {
            let found = life(expiration, date, signed_for, ASKED);
            assert_eq!(found, expected, "{expiration:?} {date:?} {signed_for:?}");
        }
    }
}
