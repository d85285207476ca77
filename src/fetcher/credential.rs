//! Fetches one credential: finds the source credential, signs AssumeRole with it and calls STS.

use std::time::SystemTime;

use super::aws_settings;
use crate::common::clock::{self, BootTime};
use crate::common::config::{Config, DEFAULT_DURATION_SECONDS};
use crate::common::credential::Credential;
use crate::common::environment::Environment;
use crate::common::fault::{Fault, permanent, transient};
use crate::common::role::RoleArn;
use crate::fetcher::imds_client::HostMetadata;
use crate::fetcher::profile::Profile;
use crate::fetcher::source::{self, Context};
use crate::fetcher::source_credential::SourceCredential;
use crate::fetcher::sts::{self, Client, Issued, Reaction, StsError};
use crate::messages::fetch_orders::FetchOrders;
use crate::messages::fetch_report::{FetchReport, Fetched};

/// A clock that is off by less is no reason for a refusal: STS accepts five minutes.
const TOLERATED_SKEW_SECONDS: i64 = 120;

pub fn fetch(
    config: &Config,
    environment: &Environment,
    orders: &FetchOrders,
    report: &dyn Fn(FetchReport),
) -> Result<Fetched, Fault> {
    let report_step = |step: &str| report(FetchReport::Step(step.to_owned()));
    let own_tokens = orders.own_tokens();
    let host = HostMetadata::new(environment, own_tokens.as_ref());
    let profile = Profile::load(environment, config.profile.as_deref())?;
    let region = aws_settings::region(config, environment, &profile, &host)?;
    if let Some(region) = &region {
        report(FetchReport::Region(region.clone()));
    }
    let sts = aws_settings::sts(config, environment, &profile, region.as_deref())?;
    let context = Context {
        environment,
        profile: &profile,
        profile_is_option: config.profile.is_some(),
        host: &host,
        report_step: &report_step,
        web_identity: &|role, session_name, token| web_identity(&sts, role, session_name, token),
    };
    let find_source = || {
        let source = source::find(&context)?;
        if orders.serving.as_ref() == Some(&source.access_key_id) {
            return permanent(format!(
                "{}: this is the credential that this server serves; give ec2-role the host's own",
                source.origin
            ));
        }
        Ok(source)
    };
    let source = find_source()?;
    let wanted = config.assume_role.duration_seconds;
    let mut call = AssumeRoleCall {
        sts: &sts,
        config,
        report,
        session_name: session_name(config, &source, &host),
        source,
        duration_seconds: wanted.min(orders.duration_limit.unwrap_or(u32::MAX)),
        clock_offset: orders.clock_offset,
        may_reload: true,
        may_set_clock: true,
    };
    loop {
        report_step(&format!(
            "calling AssumeRole of {} at {}",
            config.role,
            sts.url()
        ));
        // Taken before the call: the credential's life begins when STS issues it, however late the answer arrives.
        let (called_at, wall_clock) = (BootTime::now(), SystemTime::now());
        match call.send(wall_clock) {
            Ok(issued) => return call.fetched(issued, called_at, wall_clock),
            Err(error) => call.adjust_for_retry(&error, &find_source)?,
        }
    }
}

fn web_identity(
    sts: &Client,
    role: &RoleArn,
    session_name: &str,
    token: &str,
) -> Result<SourceCredential, Fault> {
    let form = sts::web_identity_form(role, session_name, token);
    match sts.call(form, None, SystemTime::now()) {
        Ok(issued) => Ok(SourceCredential {
            access_key_id: issued.access_key_id,
            secret_access_key: issued.secret_access_key,
            session_token: Some(issued.session_token),
            origin: format!("the web identity's role {role}"),
        }),
        Err(error) => Err(fault(&error, "AssumeRoleWithWebIdentity", role, sts)),
    }
}

/// Parameters of AssumeRole, adjusted after each error of STS.
struct AssumeRoleCall<'a> {
    sts: &'a Client,
    config: &'a Config,
    report: &'a dyn Fn(FetchReport),
    session_name: String,
    source: SourceCredential,
    duration_seconds: u32,
    clock_offset: i64,
    may_reload: bool,
    may_set_clock: bool,
}

impl AssumeRoleCall<'_> {
    fn send(&self, wall_clock: SystemTime) -> Result<Issued, StsError> {
        let form = sts::assume_role_form(
            &self.config.assume_role,
            &self.config.role,
            &self.session_name,
            self.duration_seconds,
        );
        let now = clock::shifted(wall_clock, self.clock_offset);
        self.sts.call(form, Some(&self.source), now)
    }

    /// The result of a successful call, sent at `called_at` when this machine's clock showed `wall_clock`.
    fn fetched(
        &self,
        issued: Issued,
        called_at: BootTime,
        wall_clock: SystemTime,
    ) -> Result<Fetched, Fault> {
        let date = issued
            .date
            .unwrap_or_else(|| clock::shifted(wall_clock, self.clock_offset));
        let Some(deadline) = Credential::deadline(issued.expiration, date, called_at) else {
            return transient(format!(
                "AssumeRole at {}: by the clock of that STS its credential has expired; correct that clock",
                self.sts.url()
            ));
        };
        let wanted = self.config.assume_role.duration_seconds;
        Ok(Fetched {
            credential: Credential {
                access_key_id: issued.access_key_id,
                secret_access_key: issued.secret_access_key,
                session_token: issued.session_token,
                last_updated: date,
                expiration: issued.expiration,
                deadline,
            },
            clock_offset: clock::epoch_seconds(date) - clock::epoch_seconds(wall_clock),
            duration_limit: (self.duration_seconds < wanted).then_some(self.duration_seconds),
        })
    }

    /// Adjusts the parameters for one retry; returns the fault if the error is not retryable.
    fn adjust_for_retry(
        &mut self,
        error: &StsError,
        find_source: &dyn Fn() -> Result<SourceCredential, Fault>,
    ) -> Result<(), Fault> {
        let fault = || fault(error, "AssumeRole", &self.config.role, self.sts);
        match (error.reaction(), error.date()) {
            (Reaction::ReloadSource, _) if self.may_reload => {
                self.may_reload = false;
                self.source = find_source()?;
            }
            (Reaction::CorrectClock, Some(date)) if self.may_set_clock => {
                self.may_set_clock = false;
                let offset = clock::epoch_seconds(date) - clock::epoch_seconds(SystemTime::now());
                if (offset - self.clock_offset).abs() < TOLERATED_SKEW_SECONDS {
                    return Err(fault());
                }
                (self.report)(FetchReport::Notice(format!(
                    "this machine's clock is off by {offset} s against the clock of STS; signing with the latter; set the clock"
                )));
                self.clock_offset = offset;
            }
            (Reaction::ShortenDuration, _) if self.duration_seconds > DEFAULT_DURATION_SECONDS => {
                self.duration_seconds = DEFAULT_DURATION_SECONDS;
                (self.report)(FetchReport::Notice(format!(
                    "--duration-seconds {}: STS allows less ({}); asking for {DEFAULT_DURATION_SECONDS}",
                    self.config.assume_role.duration_seconds,
                    error.describe()
                )));
            }
            _ => return Err(fault()),
        }
        Ok(())
    }
}

fn fault(error: &StsError, action: &str, role: &RoleArn, sts: &Client) -> Fault {
    let text = format!(
        "{action} of {role} at {}: {}; {}",
        sts.url(),
        error.describe(),
        error.remedy(role.as_str(), sts.url())
    );
    match error.reaction() {
        Reaction::GiveUp | Reaction::ShortenDuration => Fault::Permanent(text),
        _ => Fault::Transient(text),
    }
}

/// The session's name for CloudTrail: `ec2-role-` and the instance's id if the source is the instance, else the host's name.
fn session_name(config: &Config, source: &SourceCredential, host: &HostMetadata) -> String {
    if let Some(name) = &config.assume_role.session_name {
        return name.clone();
    }
    let instance = (source.origin == source::instance::ORIGIN)
        .then(|| host.text("meta-data/instance-id"))
        .flatten();
    let caller = instance.unwrap_or_else(|| {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    });
    let allowed = caller
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c));
    "ec2-role-".chars().chain(allowed).take(64).collect()
}
