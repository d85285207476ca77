//! Where an fetcher goes: the region in use, and STS.

use std::time::Duration;

use crate::common::config::Config;
use crate::common::environment::{Environment, switch};
use crate::common::fault::{Fault, permanent};
use crate::common::file::NamedFile;
use crate::fetcher::http_client::{HttpClient, Timeouts};
use crate::fetcher::imds_client::Host;
use crate::fetcher::profile::Profile;
use crate::fetcher::sts::{self, Client, Endpoint, EndpointOptions};

/// For STS: what SDKs allow is 60 s; a busy STS answers within seconds, and a later try is better than a longer wait.
const STS_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(10),
};

/// The region in use, if it is written somewhere: a guess is none.
pub fn region(
    arguments: &Config,
    environment: &Environment,
    profile: &Profile,
    host: &Host,
) -> Result<Option<String>, Fault> {
    let of_profile = format!("profile {:?}: region", profile.name);
    let variable = |name| Some((name, environment.get(name)?));
    let setting = (arguments
        .region
        .as_deref()
        .map(|region| ("--region", region)))
    .or(variable("AWS_REGION"))
    .or(variable("AWS_DEFAULT_REGION"))
    .or(profile
        .get("region")
        .map(|region| (of_profile.as_str(), region)));
    match setting {
        Some((_, region)) if sts::is_region(region) => Ok(Some(region.to_owned())),
        Some((from, region)) => permanent(format!(
            "{from}: {region:?} is no region; write it like eu-west-1"
        )),
        // Whatever plays the service may answer with a page of its own.
        None => Ok(host
            .text("meta-data/placement/region")
            .filter(|region| sts::is_region(region) && region.contains('-'))),
    }
}

/// STS at the endpoint that options, variables and profile say, by the way that they say.
pub fn sts(
    arguments: &Config,
    environment: &Environment,
    profile: &Profile,
    region: Option<&str>,
) -> Result<Client, Fault> {
    let endpoint = endpoint(arguments, environment, profile, region)?;
    let ca_bundle = ca_bundle(environment, profile)?;
    let ca_bundle = ca_bundle
        .as_ref()
        .map(|(name, pem)| (*name, pem.as_slice()));
    let http_client = HttpClient::for_url(&endpoint.url, environment, ca_bundle, STS_TIMEOUTS)?;
    Ok(Client::new(endpoint, http_client))
}

fn endpoint(
    arguments: &Config,
    environment: &Environment,
    profile: &Profile,
    region: Option<&str>,
) -> Result<Endpoint, Fault> {
    let url = endpoint_url(arguments, environment, profile)?;
    let fips = switched_on(environment, profile, "AWS_USE_FIPS_ENDPOINT")?;
    let dual_stack = switched_on(environment, profile, "AWS_USE_DUALSTACK_ENDPOINT")?;
    if let (Some((from, _)), Some(switch)) = (&url, fips.as_ref().or(dual_stack.as_ref())) {
        return permanent(format!(
            "{from}: it does not go with {switch}; unset one of them"
        ));
    }
    let legacy = (environment.get("AWS_STS_REGIONAL_ENDPOINTS"))
        .or(profile.get("sts_regional_endpoints"))
        == Some("legacy");
    Endpoint::find(&EndpointOptions {
        partition: arguments.role.partition(),
        region,
        url: url.as_ref().map(|(from, url)| (from.as_str(), *url)),
        fips: fips.is_some(),
        dual_stack: dual_stack.is_some(),
        legacy,
    })
}

/// The URL that is written for STS, if there is one, after where it is written.
fn endpoint_url<'a>(
    arguments: &'a Config,
    environment: &'a Environment,
    profile: &'a Profile,
) -> Result<Option<(String, &'a str)>, Fault> {
    if let Some(url) = &arguments.endpoint_url {
        return Ok(Some(("--endpoint-url".to_owned(), url)));
    }
    if environment.is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")? {
        return Ok(None);
    }
    let variable = |name: &str| Some((name.to_owned(), environment.get(name)?));
    let of_profile = |what: &str, url| Some((format!("profile {:?}: {what}", profile.name), url?));
    Ok(variable("AWS_ENDPOINT_URL_STS")
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .or_else(|| of_profile("services: sts: endpoint_url", profile.sts_endpoint_url()))
        .or_else(|| of_profile("endpoint_url", profile.get("endpoint_url"))))
}

/// Where a switch is on, if it is: the variable goes before the profile's setting, which has its name in small letters.
fn switched_on(
    environment: &Environment,
    profile: &Profile,
    variable: &str,
) -> Result<Option<String>, Fault> {
    let key = variable.trim_start_matches("AWS_").to_lowercase();
    let (from, value) = match (environment.get(variable), profile.get(&key)) {
        (Some(value), _) => (variable.to_owned(), value),
        (None, Some(value)) => (format!("profile {:?}: {key}", profile.name), value),
        (None, None) => return Ok(None),
    };
    Ok(switch(&from, value)?.then_some(from))
}

/// The name of the file with the authorities to trust in place of the public ones, and what it holds.
fn ca_bundle<'a>(
    environment: &'a Environment,
    profile: &'a Profile,
) -> Result<Option<(&'a str, Vec<u8>)>, Fault> {
    let variable = environment.get("AWS_CA_BUNDLE");
    let (origin, path) = match (variable, profile.get("ca_bundle")) {
        (Some(path), _) => ("AWS_CA_BUNDLE".to_owned(), path),
        (None, Some(path)) => (format!("profile {:?}: ca_bundle", profile.name), path),
        (None, None) => return Ok(None),
    };
    let contents = NamedFile::new(origin, path).read();
    let contents = contents.or_else(|error| permanent(error.text))?;
    Ok(Some((path, contents.bytes)))
}
