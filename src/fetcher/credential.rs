//! Fetches one credential: source credentials → sign → STS → a credential.

use std::time::SystemTime;

use super::aws_settings;
use crate::common::clock::{self, BootTime};
use crate::common::config::{Config, DEFAULT_DURATION_SECONDS};
use crate::common::credential::{Credential, SourceCredential};
use crate::common::environment::Environment;
use crate::common::fault::{Fault, permanent, transient};
use crate::common::role::RoleArn;
use crate::fetcher::imds_client::Host;
use crate::fetcher::profile::Profile;
use crate::fetcher::source::{self, Context};
use crate::fetcher::sts::{self, Answered, Client, Retry, StsError};
use crate::messages::fetch_orders::FetchOrders;
use crate::messages::fetch_report::{FetchReport, Fetched};

/// A clock that is off by less signs well: STS allows five minutes.
const TOLERATED_SKEW_SECONDS: i64 = 120;

/// Fetches one; reports on the way what it does.
pub fn fetch(
    arguments: &Config,
    environment: &Environment,
    orders: &FetchOrders,
    report: &dyn Fn(FetchReport),
) -> Result<Fetched, Fault> {
    let progress = |step: &str| report(FetchReport::Step(step.to_owned()));
    let own = orders.own_tokens();
    let host = Host::new(environment, own.as_ref());
    let profile = Profile::load(environment, arguments.profile.as_deref())?;
    let region = aws_settings::region(arguments, environment, &profile, &host)?;
    if let Some(region) = &region {
        report(FetchReport::Region(region.clone()));
    }
    let sts = aws_settings::sts(arguments, environment, &profile, region.as_deref())?;
    let context = Context {
        environment,
        profile: &profile,
        profile_is_option: arguments.profile.is_some(),
        host: &host,
        progress: &progress,
        web_identity: &|role, session_name, token| web_identity(&sts, role, session_name, token),
    };
    let find_source = || {
        let source = source::find(&context)?;
        if orders.serving.as_ref() == Some(&source.access_key_id) {
            return permanent(format!(
                "{}: it is this server's own credential; let ec2-role have the host's",
                source.origin
            ));
        }
        Ok(source)
    };
    let source = find_source()?;
    let longest = arguments.assume_role.duration_seconds;
    let mut call = Call {
        sts: &sts,
        arguments,
        report,
        session_name: session_name(arguments, &source, &host),
        source,
        duration_seconds: longest.min(orders.duration_limit.unwrap_or(u32::MAX)),
        clock_offset: orders.clock_offset,
        may_reload: true,
        may_set_clock: true,
    };
    loop {
        progress(&format!(
            "asking {} to assume {}",
            sts.url(),
            arguments.role
        ));
        // Before the call: however slowly the answer comes, the credential's life began when STS gave it.
        let (asked, wall_clock) = (BootTime::now(), SystemTime::now());
        match call.send(wall_clock) {
            Ok(answered) => return call.fetched(answered, asked, wall_clock),
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
        Ok(answered) => Ok(SourceCredential {
            access_key_id: answered.access_key_id,
            secret_access_key: answered.secret_access_key,
            session_token: Some(answered.session_token),
            origin: format!("the web identity's role {role}"),
        }),
        Err(error) => Err(fault(&error, "AssumeRoleWithWebIdentity", role, sts)),
    }
}

/// The call of AssumeRole, as what STS has said so far has it.
struct Call<'a> {
    sts: &'a Client,
    arguments: &'a Config,
    report: &'a dyn Fn(FetchReport),
    session_name: String,
    source: SourceCredential,
    duration_seconds: u32,
    clock_offset: i64,
    may_reload: bool,
    may_set_clock: bool,
}

impl Call<'_> {
    fn send(&self, wall_clock: SystemTime) -> Result<Answered, StsError> {
        let form = sts::assume_role_form(
            &self.arguments.assume_role,
            &self.arguments.role,
            &self.session_name,
            self.duration_seconds,
        );
        let now = clock::shifted(wall_clock, self.clock_offset);
        self.sts.call(form, Some(&self.source), now)
    }

    /// What the answer to a call gives that was sent at `asked`, when this machine's clock showed `wall_clock`.
    fn fetched(
        &self,
        answered: Answered,
        asked: BootTime,
        wall_clock: SystemTime,
    ) -> Result<Fetched, Fault> {
        let date = answered
            .date
            .unwrap_or_else(|| clock::shifted(wall_clock, self.clock_offset));
        let Some(deadline) = Credential::deadline(answered.expiration, date, asked) else {
            return transient(format!(
                "AssumeRole at {}: its credential has expired by its own clock; look at that STS's clock",
                self.sts.url()
            ));
        };
        let longest = self.arguments.assume_role.duration_seconds;
        Ok(Fetched {
            credential: Credential {
                access_key_id: answered.access_key_id,
                secret_access_key: answered.secret_access_key,
                session_token: answered.session_token,
                last_updated: date,
                expiration: answered.expiration,
                deadline,
            },
            clock_offset: clock::epoch_seconds(date) - clock::epoch_seconds(wall_clock),
            duration_limit: (self.duration_seconds < longest).then_some(self.duration_seconds),
        })
    }

    /// Changes what an error says has to be changed, for one more call; gives the fault if there is nothing to change.
    fn adjust_for_retry(
        &mut self,
        error: &StsError,
        find_source: &dyn Fn() -> Result<SourceCredential, Fault>,
    ) -> Result<(), Fault> {
        let fault = || fault(error, "AssumeRole", &self.arguments.role, self.sts);
        match (error.retry(), error.date()) {
            (Retry::Reload, _) if self.may_reload => {
                self.may_reload = false;
                self.source = find_source()?;
            }
            (Retry::SetClock, Some(date)) if self.may_set_clock => {
                self.may_set_clock = false;
                let offset = clock::epoch_seconds(date) - clock::epoch_seconds(SystemTime::now());
                if (offset - self.clock_offset).abs() < TOLERATED_SKEW_SECONDS {
                    return Err(fault());
                }
                (self.report)(FetchReport::Notice(format!(
                    "this machine's clock is off by {offset} s against STS's; signing by STS's; set the clock"
                )));
                self.clock_offset = offset;
            }
            (Retry::AskLess, _) if self.duration_seconds > DEFAULT_DURATION_SECONDS => {
                self.duration_seconds = DEFAULT_DURATION_SECONDS;
                (self.report)(FetchReport::Notice(format!(
                    "--duration-seconds {}: STS allows less ({}); asking for {DEFAULT_DURATION_SECONDS}",
                    self.arguments.assume_role.duration_seconds,
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
    match error.retry() {
        Retry::Mend | Retry::AskLess => Fault::Permanent(text),
        _ => Fault::Transient(text),
    }
}

/// `ec2-role-` and the instance's id, else the host's name: CloudTrail then says who it was.
fn session_name(arguments: &Config, source: &SourceCredential, host: &Host) -> String {
    if let Some(name) = &arguments.assume_role.session_name {
        return name.clone();
    }
    let instance = (source.origin == source::instance::ORIGIN)
        .then(|| host.text("meta-data/instance-id"))
        .flatten();
    let who = instance.unwrap_or_else(|| {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    });
    let allowed = who
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c));
    "ec2-role-".chars().chain(allowed).take(64).collect()
}
