//! Finds the endpoint of STS for a partition and a region
//! (<https://docs.aws.amazon.com/general/latest/gr/sts.html>; botocore's `partitions.json` and STS's endpoint rule set).

use crate::common::{Fault, permanent, transient};
use crate::fetcher::http_client::parse_url;
use crate::fetcher::setting::Setting;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL, ending in `/`.
    pub url: String,
    pub signing_region: String,
    /// Whether the user gave the URL, which may then belong to an STS other than AWS's.
    pub is_other_sts: bool,
}

#[derive(Clone, Copy, Default)]
pub struct EndpointOptions<'a> {
    /// The partition in the role's ARN.
    pub partition: &'a str,
    /// A name that [`is_region`] accepts.
    pub region: Option<&'a str>,
    /// The URL that replaces AWS's endpoint.
    pub url: Option<&'a Setting<'a>>,
    pub fips: bool,
    pub dual_stack: bool,
    /// `AWS_STS_REGIONAL_ENDPOINTS=legacy`: the global endpoint serves `LEGACY_REGIONS`.
    pub legacy: bool,
}

/// Region in signatures for the global endpoint, and for a URL that the user gives without a region.
const GLOBAL_REGION: &str = "us-east-1";

/// With `sts_regional_endpoints = legacy`, calls for these regions go to the global endpoint. The list is from botocore's STS
/// endpoint rule set; AWS adds no new ones to it.
const LEGACY_REGIONS: [&str; 15] = [
    "ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1",
    "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1",
    "us-east-2", "us-west-1", "us-west-2",
];

impl EndpointOptions<'_> {
    /// Returns whether an endpoint needs a region. A URL from the user needs none, and neither does the global endpoint of
    /// partition `aws`, which has no FIPS or dual-stack variant.
    pub fn needs_region(&self) -> bool {
        self.url.is_none() && (self.partition != "aws" || self.fips || self.dual_stack)
    }
}

impl Endpoint {
    pub fn find(options: &EndpointOptions) -> Result<Self, Fault> {
        let at = |url: String, region: &str| {
            let signing_region = region.to_owned();
            Ok(Endpoint { url, signing_region, is_other_sts: options.url.is_some() })
        };
        if let Some(setting) = options.url {
            let url = setting.value;
            let remedy = "write https://HOST[:PORT] or http://HOST[:PORT]";
            let uri = parse_url(url).or_else(|why| setting.wrong(&format!("{why}; {remedy}")))?;
            if uri.query().is_some() {
                return setting.wrong(&format!("{url:?} has a query; {remedy}"));
            }
            let region = options.region.unwrap_or(GLOBAL_REGION);
            return at(format!("{}/", url.trim_end_matches('/')), region);
        }
        let Some((suffix, dual_stack_suffix)) = suffixes(options.partition) else {
            return permanent(format!(
                "partition {:?}: this version does not know its STS endpoint; give it with --endpoint-url and --region",
                options.partition
            ));
        };
        let is_legacy = |region| options.legacy && LEGACY_REGIONS.contains(&region);
        if !options.needs_region() && options.region.is_none_or(is_legacy) {
            return at("https://sts.amazonaws.com/".to_owned(), GLOBAL_REGION);
        }
        let Some(region) = options.region else {
            let variant = if options.partition == "aws" { " with FIPS or dual stack" } else { "" };
            // This error is transient, because a shared file that names the region may still be written or mounted.
            return transient(format!(
                "no region: partition {} has no global STS endpoint{variant}; give --region",
                options.partition
            ));
        };
        // GovCloud's endpoints support FIPS without `-fips` in their name, except the dual-stack endpoints.
        let is_fips_name =
            options.fips && (options.dual_stack || options.partition != "aws-us-gov");
        let service = if is_fips_name { "sts-fips" } else { "sts" };
        let suffix = if options.dual_stack { dual_stack_suffix } else { suffix };
        at(format!("https://{service}.{region}.{suffix}/"), region)
    }
}

/// Returns whether a text has the form of a region's name and so can safely be part of a host name.
pub fn is_region(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns the domains of a partition's endpoints and of its dual-stack endpoints, from `partitions.json` of botocore 1.44.
fn suffixes(partition: &str) -> Option<(&'static str, &'static str)> {
    Some(match partition {
        "aws" | "aws-us-gov" => ("amazonaws.com", "api.aws"),
        "aws-cn" => ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
        "aws-eusc" => ("amazonaws.eu", "api.amazonwebservices.eu"),
        "aws-iso" => ("c2s.ic.gov", "api.aws.ic.gov"),
        "aws-iso-b" => ("sc2s.sgov.gov", "api.aws.scloud"),
        "aws-iso-e" => ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
        "aws-iso-f" => ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: EndpointOptions, url: &str, signing_region: &str) {
        let found = Endpoint::find(&options).unwrap();
        assert_eq!((found.url.as_str(), found.signing_region.as_str()), (url, signing_region));
    }

    #[test]
    fn each_partition_and_region_has_its_endpoint() {
        let aws = EndpointOptions {
            partition: "aws",
            region: Some("eu-west-1"),
            ..EndpointOptions::default()
        };
        check(aws, "https://sts.eu-west-1.amazonaws.com/", "eu-west-1");
        check(EndpointOptions { region: None, ..aws }, "https://sts.amazonaws.com/", "us-east-1");
        check(EndpointOptions { legacy: true, ..aws }, "https://sts.amazonaws.com/", "us-east-1");
        check(
            EndpointOptions { legacy: true, region: Some("eu-south-1"), ..aws },
            "https://sts.eu-south-1.amazonaws.com/",
            "eu-south-1",
        );
        check(
            EndpointOptions { fips: true, ..aws },
            "https://sts-fips.eu-west-1.amazonaws.com/",
            "eu-west-1",
        );
        check(
            EndpointOptions { dual_stack: true, ..aws },
            "https://sts.eu-west-1.api.aws/",
            "eu-west-1",
        );
        check(
            EndpointOptions { fips: true, dual_stack: true, ..aws },
            "https://sts-fips.eu-west-1.api.aws/",
            "eu-west-1",
        );
        let gov = EndpointOptions {
            partition: "aws-us-gov",
            region: Some("us-gov-west-1"),
            fips: true,
            ..EndpointOptions::default()
        };
        check(gov, "https://sts.us-gov-west-1.amazonaws.com/", "us-gov-west-1");
        for (partition, region, domain) in [
            ("aws-cn", "cn-north-1", "amazonaws.com.cn"),
            ("aws-eusc", "eusc-de-east-1", "amazonaws.eu"),
            ("aws-iso", "us-iso-east-1", "c2s.ic.gov"),
            ("aws-iso-b", "us-isob-east-1", "sc2s.sgov.gov"),
            ("aws-iso-e", "eu-isoe-west-1", "cloud.adc-e.uk"),
            ("aws-iso-f", "us-isof-south-1", "csp.hci.ic.gov"),
        ] {
            let region_name = Some(region);
            let other =
                EndpointOptions { partition, region: region_name, ..EndpointOptions::default() };
            check(other, &format!("https://sts.{region}.{domain}/"), region);
        }
        check(
            EndpointOptions {
                url: Setting::option("--endpoint-url", Some("http://127.0.0.1:5000")).as_ref(),
                region: None,
                ..aws
            },
            "http://127.0.0.1:5000/",
            "us-east-1",
        );
    }

    #[test]
    fn options_without_an_endpoint_are_refused_with_a_remedy() {
        let cn = EndpointOptions { partition: "aws-cn", ..EndpointOptions::default() };
        let aws = EndpointOptions { partition: "aws", ..cn };
        for (options, remedy) in [
            (cn, "--region"),
            (EndpointOptions { fips: true, ..aws }, "--region"),
            (EndpointOptions { dual_stack: true, ..aws }, "--region"),
            (EndpointOptions { partition: "aws-new", region: Some("x-1"), ..cn }, "--endpoint-url"),
            (
                EndpointOptions {
                    url: Setting::option("AWS_ENDPOINT_URL", Some("ftp://x")).as_ref(),
                    ..cn
                },
                "https://",
            ),
        ] {
            let fault = Endpoint::find(&options).unwrap_err();
            assert!(fault.text().contains(remedy), "{fault:?}");
            // A missing region is a transient fault, because a shared file that names it may still be written. The other faults
            // are permanent, because the text of an option or variable does not change.
            assert_eq!(matches!(fault, Fault::Permanent(_)), remedy != "--region");
        }
    }

    #[test]
    fn a_region_is_one_label_of_a_host_name() {
        for region in ["eu-west-1", "r", &"r".repeat(63)] {
            assert!(is_region(region), "{region}");
        }
        for other in ["", &"r".repeat(64), "EU-west-1", "eu_west_1", "eu.west", "eu west", "é"] {
            assert!(!is_region(other), "{other}");
        }
    }
}
