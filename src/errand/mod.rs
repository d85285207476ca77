//! One errand: source credentials → sign → STS → a credential. As a process of its own it may hang; nobody waits for it.

mod destination;
mod report;

use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

pub use report::{Orders, Report, Task};

use crate::arguments::Arguments;
use crate::clock::{self, Boot};
use crate::credential::{Credential, SourceCredential};
use crate::environment::Environment;
use crate::fault::{Fault, lasting, passing};
use crate::host_metadata::{Host, HostMetadata};
use crate::pass_through;
use crate::profile::Profile;
use crate::role::RoleArn;
use crate::source::{self, Context};
use crate::sts::{self, Act, Answered, DEFAULT_DURATION_SECONDS, Endpoint, StsError};

/// The keeper ends an errand that takes longer. Above the sum of what its parts may take, so that a part can say what is wrong.
pub const DEADLINE: Duration = Duration::from_secs(75);
/// A clock that is off by less signs well: STS allows five minutes.
const TOLERATED_SKEW_SECONDS: i64 = 120;

/// Runs as the keeper's errand: orders on stdin, reports on stdout.
pub fn run(arguments: &Arguments, environment: &Environment) {
    let report = |report: Report| {
        // If nobody listens any more there is nobody to tell.
        _ = std::io::stdout().write_all(report.to_line().as_bytes());
    };
    let mut line = String::new();
    let orders = std::io::stdin()
        .read_to_string(&mut line)
        .ok()
        .and_then(|_| Orders::from_line(&line));
    let Some(orders) = orders else { return };
    let outcome = match orders.task {
        Task::Credential => fetch(arguments, environment, &orders, &report),
        Task::Metadata => read_metadata(arguments, environment, &orders),
    };
    report(outcome.unwrap_or_else(Report::Failed));
}

/// Runs as the user's command: prints the credential as SDKs read it from a `credential_process`.
pub fn print(arguments: &Arguments, environment: &Environment) -> Result<String, Fault> {
    let report = |report: Report| {
        if let Report::Notice(text) = report {
            crate::log::event(&text);
        }
    };
    match fetch(arguments, environment, &Orders::default(), &report)? {
        Report::Done { credential, .. } => Ok(credential.process_document()),
        _ => passing("no credential"),
    }
}

fn read_metadata(
    arguments: &Arguments,
    environment: &Environment,
    orders: &Orders,
) -> Result<Report, Fault> {
    let own = orders.own_tokens();
    let session = HostMetadata::open(environment, own.as_ref())?;
    let snapshot = pass_through::read(
        &session,
        arguments.pass_through.unwrap_or_default(),
        Boot::now(),
    )?;
    Ok(Report::Metadata(snapshot))
}

fn fetch(
    arguments: &Arguments,
    environment: &Environment,
    orders: &Orders,
    report: &dyn Fn(Report),
) -> Result<Report, Fault> {
    let progress = |step: &str| report(Report::Step(step.to_owned()));
    let own = orders.own_tokens();
    let host = Host::new(environment, own.as_ref());
    let profile = Profile::load(environment, arguments.profile.as_deref())?;
    let region = destination::region(arguments, environment, &profile, &host);
    if let Some(region) = &region {
        report(Report::Region(region.clone()));
    }
    let endpoint = destination::endpoint(arguments, environment, &profile, region.as_deref())?;
    let outbound = destination::outbound(&endpoint, environment, &profile)?;
    let mut clock_offset = orders.clock_offset;

    let web_identity = |role: &RoleArn, session_name: &str, token: &str| {
        let form = sts::web_identity_form(role, session_name, token);
        match sts::call(&outbound, &endpoint, form, None, SystemTime::now()) {
            Ok(answered) => Ok(SourceCredential {
                access_key_id: answered.access_key_id,
                secret_access_key: answered.secret_access_key,
                session_token: Some(answered.session_token),
                origin: format!("the web identity's role {role}"),
            }),
            Err(error) => Err(fault(&error, "AssumeRoleWithWebIdentity", role, &endpoint)),
        }
    };
    let context = Context {
        environment,
        profile: &profile,
        profile_is_option: arguments.profile.is_some(),
        host: &host,
        progress: &progress,
        web_identity: &web_identity,
    };
    let find_source = || {
        let source = source::find(&context)?;
        if orders.serving.as_ref() == Some(&source.access_key_id) {
            return lasting(format!(
                "{}: it is this server's own credential; let ec2-role have the host's",
                source.origin
            ));
        }
        Ok(source)
    };

    let mut source = find_source()?;
    let session_name = session_name(arguments, &source, &host);
    let mut duration = arguments
        .assume_role
        .duration_seconds
        .min(orders.duration_limit.unwrap_or(u32::MAX));
    let (mut may_reload, mut may_set_clock) = (true, true);
    loop {
        progress(&format!(
            "asking {} to assume {}",
            endpoint.url, arguments.role
        ));
        let form = arguments
            .assume_role
            .form(&arguments.role, &session_name, duration);
        let error = match sts::call(
            &outbound,
            &endpoint,
            form,
            Some(&source),
            clock::shifted(SystemTime::now(), clock_offset),
        ) {
            Ok(answered) => {
                let now = SystemTime::now();
                let date = answered
                    .date
                    .unwrap_or_else(|| clock::shifted(now, clock_offset));
                let credential = credential(answered, date, Boot::now(), &endpoint)?;
                let clock_offset = clock::epoch_seconds(date) - clock::epoch_seconds(now);
                let duration_limit =
                    (duration < arguments.assume_role.duration_seconds).then_some(duration);
                return Ok(Report::Done {
                    credential,
                    clock_offset,
                    duration_limit,
                });
            }
            Err(error) => error,
        };
        match (error.act(), error.date()) {
            (Act::Reload, _) if may_reload => {
                may_reload = false;
                source = find_source()?;
            }
            (Act::SetClock, Some(date)) if may_set_clock => {
                may_set_clock = false;
                let offset = clock::epoch_seconds(date) - clock::epoch_seconds(SystemTime::now());
                if (offset - clock_offset).abs() < TOLERATED_SKEW_SECONDS {
                    return Err(fault(&error, "AssumeRole", &arguments.role, &endpoint));
                }
                report(Report::Notice(format!(
                    "this machine's clock is off by {offset} s against STS's; signing by STS's; set the clock"
                )));
                clock_offset = offset;
            }
            (Act::AskLess, _) if duration > DEFAULT_DURATION_SECONDS => {
                duration = DEFAULT_DURATION_SECONDS;
                report(Report::Notice(format!(
                    "--duration-seconds {}: STS allows less ({}); asking for {DEFAULT_DURATION_SECONDS}",
                    arguments.assume_role.duration_seconds,
                    error.describe()
                )));
            }
            _ => return Err(fault(&error, "AssumeRole", &arguments.role, &endpoint)),
        }
    }
}

fn fault(error: &StsError, action: &str, role: &RoleArn, endpoint: &Endpoint) -> Fault {
    let text = format!(
        "{action} of {role} at {}: {}; {}",
        endpoint.url,
        error.describe(),
        error.remedy(role.as_str(), &endpoint.url)
    );
    match error.act() {
        Act::Mend | Act::AskLess => Fault::Lasting(text),
        _ => Fault::Passing(text),
    }
}

fn credential(
    answered: Answered,
    date: SystemTime,
    now: Boot,
    endpoint: &Endpoint,
) -> Result<Credential, Fault> {
    let Some(deadline) = Credential::deadline(answered.expiration, date, now) else {
        return passing(format!(
            "AssumeRole at {}: its credential has expired by its own clock; look at that STS's clock",
            endpoint.url
        ));
    };
    Ok(Credential {
        access_key_id: answered.access_key_id,
        secret_access_key: answered.secret_access_key,
        session_token: answered.session_token,
        last_updated: date,
        expiration: answered.expiration,
        deadline,
    })
}

/// `ec2-role-` and the instance's id, else the host's name: CloudTrail then says who it was.
fn session_name(arguments: &Arguments, source: &SourceCredential, host: &Host) -> String {
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
