//! Where STS is, by partition and region
//! (<https://docs.aws.amazon.com/general/latest/gr/sts.html>; botocore's `partitions.json` and STS's endpoint rule set).

use crate::common::fault::{Fault, permanent};
use crate::fetcher::http_client::read_url;

/// Where to send a call, and for which region to sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL, ending in `/`.
    pub url: String,
    /// The region in the signature.
    pub signing_region: String,
}

/// What decides on the endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointOptions<'a> {
    /// The role's partition.
    pub partition: &'a str,
    /// The region, if one is known: of a region's form.
    pub region: Option<&'a str>,
    /// A URL that is used as it is, after where it is written.
    pub url: Option<(&'a str, &'a str)>,
    /// FIPS 140 endpoints.
    pub fips: bool,
    /// Endpoints with IPv4 and IPv6.
    pub dual_stack: bool,
    /// `AWS_STS_REGIONAL_ENDPOINTS=legacy`: the global endpoint for the regions of its time.
    pub legacy: bool,
}

/// The global endpoint's region.
const GLOBAL_REGION: &str = "us-east-1";

/// The regions that `legacy` sends to the global endpoint; the list is closed.
const LEGACY_REGIONS: [&str; 16] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "aws-global",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

impl Endpoint {
    /// The endpoint for these options, or in one line why there is none.
    pub fn find(options: &EndpointOptions) -> Result<Self, Fault> {
        let at = |url: String, region: &str| {
            Ok(Endpoint {
                url,
                signing_region: region.to_owned(),
            })
        };
        if let Some((from, url)) = options.url {
            let remedy = "write https://HOST[:PORT] or http://HOST[:PORT]";
            let uri = read_url(url).or_else(|why| permanent(format!("{from}: {why}; {remedy}")))?;
            if uri.query().is_some() {
                return permanent(format!("{from}: {url:?} has a query; {remedy}"));
            }
            return at(
                format!("{}/", url.trim_end_matches('/')),
                options.region.unwrap_or(GLOBAL_REGION),
            );
        }
        let Some((suffix, dual_stack_suffix)) = suffixes(options.partition) else {
            return permanent(format!(
                "partition {:?}: its STS endpoint is not known to this version; give it with --endpoint-url and --region",
                options.partition
            ));
        };
        let global = "https://sts.amazonaws.com/".to_owned();
        let Some(region) = options.region else {
            if options.partition == "aws" && !options.fips && !options.dual_stack {
                return at(global, GLOBAL_REGION);
            }
            return permanent(format!(
                "no region: partition {} has no global endpoint of STS; give --region",
                options.partition
            ));
        };
        if options.partition == "aws"
            && (region == "aws-global" || (options.legacy && LEGACY_REGIONS.contains(&region)))
            && !options.fips
            && !options.dual_stack
        {
            return at(global, GLOBAL_REGION);
        }
        let host = match (options.fips, options.dual_stack) {
            (false, false) => format!("sts.{region}.{suffix}"),
            // GovCloud's ordinary endpoints are the FIPS ones.
            (true, false) if options.partition == "aws-us-gov" => format!("sts.{region}.{suffix}"),
            (true, false) => format!("sts-fips.{region}.{suffix}"),
            (fips, true) => {
                let Some(suffix) = dual_stack_suffix else {
                    return permanent(format!(
                        "partition {}: it has no dual-stack endpoints; unset AWS_USE_DUALSTACK_ENDPOINT",
                        options.partition
                    ));
                };
                format!(
                    "{}.{region}.{suffix}",
                    if fips { "sts-fips" } else { "sts" }
                )
            }
        };
        at(format!("https://{host}/"), region)
    }
}

/// Whether a text has the form of a region's name, in whatever partition: it becomes a part of a host's name.
pub fn is_region(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// A partition's domain, and that of its dual-stack endpoints.
fn suffixes(partition: &str) -> Option<(&'static str, Option<&'static str>)> {
    Some(match partition {
        "aws" | "aws-us-gov" => ("amazonaws.com", Some("api.aws")),
        "aws-cn" => ("amazonaws.com.cn", Some("api.amazonwebservices.com.cn")),
        "aws-eusc" => ("amazonaws.eu", Some("api.amazonwebservices.eu")),
        "aws-iso" => ("c2s.ic.gov", None),
        "aws-iso-b" => ("sc2s.sgov.gov", None),
        "aws-iso-e" => ("cloud.adc-e.uk", None),
        "aws-iso-f" => ("csp.hci.ic.gov", None),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: EndpointOptions, url: &str, signing_region: &str) {
        assert_eq!(
            Endpoint::find(&options).unwrap(),
            Endpoint {
                url: url.into(),
                signing_region: signing_region.into()
            }
        );
    }

    #[test]
    fn each_partition_and_region_has_its_endpoint() {
        let aws = EndpointOptions {
            partition: "aws",
            region: Some("eu-west-1"),
            ..EndpointOptions::default()
        };
        check(aws, "https://sts.eu-west-1.amazonaws.com/", "eu-west-1");
        check(
            EndpointOptions {
                region: None,
                ..aws
            },
            "https://sts.amazonaws.com/",
            "us-east-1",
        );
        check(
            EndpointOptions {
                legacy: true,
                ..aws
            },
            "https://sts.amazonaws.com/",
            "us-east-1",
        );
        check(
            EndpointOptions {
                legacy: true,
                region: Some("eu-south-1"),
                ..aws
            },
            "https://sts.eu-south-1.amazonaws.com/",
            "eu-south-1",
        );
        check(
            EndpointOptions { fips: true, ..aws },
            "https://sts-fips.eu-west-1.amazonaws.com/",
            "eu-west-1",
        );
        check(
            EndpointOptions {
                dual_stack: true,
                ..aws
            },
            "https://sts.eu-west-1.api.aws/",
            "eu-west-1",
        );
        check(
            EndpointOptions {
                fips: true,
                dual_stack: true,
                ..aws
            },
            "https://sts-fips.eu-west-1.api.aws/",
            "eu-west-1",
        );
        let gov = EndpointOptions {
            partition: "aws-us-gov",
            region: Some("us-gov-west-1"),
            fips: true,
            ..EndpointOptions::default()
        };
        check(
            gov,
            "https://sts.us-gov-west-1.amazonaws.com/",
            "us-gov-west-1",
        );
        let cn = EndpointOptions {
            partition: "aws-cn",
            region: Some("cn-north-1"),
            ..EndpointOptions::default()
        };
        check(cn, "https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1");
        check(
            EndpointOptions {
                url: Some(("--endpoint-url", "http://127.0.0.1:5000")),
                region: None,
                ..aws
            },
            "http://127.0.0.1:5000/",
            "us-east-1",
        );
    }

    #[test]
    fn what_has_no_endpoint_is_refused_with_the_remedy() {
        let cn = EndpointOptions {
            partition: "aws-cn",
            ..EndpointOptions::default()
        };
        for (options, remedy) in [
            (cn, "--region"),
            (
                EndpointOptions {
                    partition: "aws-new",
                    region: Some("x-1"),
                    ..cn
                },
                "--endpoint-url",
            ),
            (
                EndpointOptions {
                    url: Some(("AWS_ENDPOINT_URL", "ftp://x")),
                    ..cn
                },
                "https://",
            ),
            (
                EndpointOptions {
                    partition: "aws-iso",
                    region: Some("us-iso-east-1"),
                    dual_stack: true,
                    ..cn
                },
                "AWS_USE_DUALSTACK_ENDPOINT",
            ),
        ] {
            let fault = Endpoint::find(&options).unwrap_err();
            assert!(
                matches!(&fault, Fault::Permanent(text) if text.contains(remedy)),
                "{fault:?}"
            );
        }
    }
}
