//! Fetches one credential: finds the source credential, signs AssumeRole with it and calls STS.

use std::cell::LazyCell;

use super::assume_role_call::AssumeRoleCall;
use super::aws_settings::AwsSettings;
use crate::common::{AssumeRole, Config, Fault, check_policy, transient};
use crate::fetcher::imds_client::ImdsClient;
use crate::fetcher::source::{self, Context};
use crate::messages::{FetchOrders, FetchReport, Fetched, Report};

pub fn fetch(config: &Config, orders: &FetchOrders, report: Report) -> Result<Fetched, Fault> {
    let settings = AwsSettings::load(config)?;
    let client = LazyCell::new(|| ImdsClient::connect(&settings, orders, 1));
    let host = || client.as_ref().map_err(Clone::clone);
    // Returns the text at a path of the metadata service; `None` if the text is empty or missing. A permanent fault, such as a
    // disabled service, also gives `None`. If the source credential must come from the service, `source::find` reports the fault.
    let host_text = |path: &str| {
        let text = match host() {
            Err(Fault::Permanent(_)) => None,
            client => client?.get(path)?,
        };
        let text = text.map(|answer| answer.text().trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    };
    let (sts, region) = settings.sts(|| match host_text("meta-data/placement/region") {
        // If the request fails, use the region that an earlier fetcher found.
        Err(_) if orders.region.is_some() => Ok(orders.region.clone()),
        result => result,
    })?;
    match region {
        Ok(Some(region)) => report(FetchReport::Region(region)),
        Err(fault) if orders.serving.is_none() => report(FetchReport::Notice(format!(
            "{}; the region is not known, so signing for {}; give --region if that is wrong",
            fault.text(),
            sts.endpoint.signing_region
        ))),
        _ => {}
    }
    let context = Context { settings: &settings, orders, report, host: &host, sts: &sts };
    let source = source::find(&context)?;
    if let (Err(fault), None) = (&settings.profile.access, &orders.serving) {
        report(FetchReport::Notice(fault.text().to_owned()));
    }
    let mut parameters = with_policy(&config.assume_role)?;
    let is_of_instance = source.origin == source::instance::ORIGIN;
    let instance_id = || host_text("meta-data/instance-id").ok().flatten();
    let name = || session_name(is_of_instance.then(instance_id).flatten());
    parameters.session_name.get_or_insert_with(name);
    let limit = orders.duration_limit.unwrap_or(u32::MAX);
    parameters.duration_seconds = parameters.duration_seconds.min(limit);
    context.step(&format!("calling AssumeRole of {} at {}", config.role, sts.endpoint.url));
    AssumeRoleCall {
        context: &context,
        parameters,
        source,
        clock_offset: orders.clock_offset,
        may_reload: true,
        refused_offsets: Vec::new(),
    }
    .run()
}

/// Returns the parameters with `policy` set to the text of `policy_file`, if there is such a file.
fn with_policy(parameters: &AssumeRole) -> Result<AssumeRole, Fault> {
    let mut parameters = parameters.clone();
    if let Some(file) = &parameters.policy_file {
        let text = file.read_text().or_else(|error| transient(error.to_string()))?;
        // Remove a byte order mark, which some editors write. It is not JSON, and STS would refuse it.
        let text = text.trim_start_matches('\u{feff}');
        check_policy(text).or_else(|why| transient(format!("{file}: {why}; correct the file")))?;
        parameters.policy = Some(text.to_owned());
    }
    Ok(parameters)
}

/// Returns the session name that CloudTrail shows: `ec2-role-` with the instance's id, or else with the host's name.
fn session_name(instance_id: Option<String>) -> String {
    let caller = instance_id
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let allowed = caller.chars().filter(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c));
    "ec2-role-".chars().chain(allowed).take(64).collect()
}
