//! Where an errand goes: the region in use, and STS.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::environment::Environment;
use crate::fault::{Fault, lasting};
use crate::host_metadata::Host;
use crate::outbound::{Outbound, Patience};
use crate::profile::Profile;
use crate::sts::{Client, Endpoint, EndpointOptions};

/// For STS: what SDKs allow is 60 s; a busy STS answers within seconds, and a later try is better than a longer wait.
const STS_PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(10),
};

/// The region in use, if it is written somewhere: a guess is none.
pub fn region(
    arguments: &Arguments,
    environment: &Environment,
    profile: &Profile,
    host: &Host,
) -> Option<String> {
    let written = (arguments.region.as_deref())
        .or(environment.get("AWS_REGION"))
        .or(environment.get("AWS_DEFAULT_REGION"))
        .or(profile.get("region"));
    written
        .map(str::to_owned)
        .or_else(|| host.text("meta-data/placement/region"))
}

/// STS at the endpoint that options, variables and profile say, by the way that they say.
pub fn sts(
    arguments: &Arguments,
    environment: &Environment,
    profile: &Profile,
    region: Option<&str>,
) -> Result<Client, Fault> {
    let endpoint = endpoint(arguments, environment, profile, region)?;
    let ca_bundle = ca_bundle(environment, profile)?;
    let ca_bundle = ca_bundle
        .as_ref()
        .map(|(name, pem)| (*name, pem.as_slice()));
    let outbound = Outbound::for_url(&endpoint.url, environment, ca_bundle, STS_PATIENCE)?;
    Ok(Client::new(endpoint, outbound))
}

fn endpoint(
    arguments: &Arguments,
    environment: &Environment,
    profile: &Profile,
    region: Option<&str>,
) -> Result<Endpoint, Fault> {
    let variable = |name| environment.get(name);
    let configured = |name, key| {
        Ok(environment.is_on(name)?
            || (variable(name).is_none() && profile.get(key) == Some("true")))
    };
    let url = match arguments.endpoint_url.as_deref() {
        None if !environment.is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")? => {
            variable("AWS_ENDPOINT_URL_STS")
                .or(variable("AWS_ENDPOINT_URL"))
                .or(profile.sts_endpoint_url())
                .or(profile.get("endpoint_url"))
        }
        url => url,
    };
    let legacy = variable("AWS_STS_REGIONAL_ENDPOINTS").or(profile.get("sts_regional_endpoints"))
        == Some("legacy");
    Endpoint::find(&EndpointOptions {
        partition: arguments.role.partition(),
        region,
        url,
        fips: configured("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?,
        dual_stack: configured("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?,
        legacy,
    })
}

/// The name of the file with the authorities to trust in place of the public ones, and what it holds.
fn ca_bundle<'a>(
    environment: &'a Environment,
    profile: &'a Profile,
) -> Result<Option<(&'a str, Vec<u8>)>, Fault> {
    let named = environment.get("AWS_CA_BUNDLE");
    let Some(path) = named.or(profile.get("ca_bundle")) else {
        return Ok(None);
    };
    let pem = std::fs::read(path).or_else(|error| {
        lasting(format!(
            "CA bundle {path}: it cannot be read: {error}; correct AWS_CA_BUNDLE or the profile's ca_bundle"
        ))
    })?;
    Ok(Some((path, pem)))
}
