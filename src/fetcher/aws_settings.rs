//! Finds the region, and the endpoint, proxy and CA bundle for STS, from options, variables and the profile.

use std::time::Duration;

use ureq::tls::{PemItem, RootCerts, parse_pem};

use crate::common::{Config, Fault, NamedFile, transient};
use crate::fetcher::http_client::{HttpClient, Timeouts};
use crate::fetcher::profile::Profile;
use crate::fetcher::setting::Setting;
use crate::fetcher::sts::{self, Client, Endpoint, EndpointOptions};

/// Time limits for STS. SDKs allow 60 s. Here the limits are shorter: STS answers within seconds even when it is busy, and if no
/// answer comes, a new try is more likely to succeed than a longer wait.
const STS_TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(10) };

/// The region from a setting or from the host's metadata service; an error if the request to that service failed. `None` means an
/// unknown region or a global one, such as aws-global.
type Region = Result<Option<String>, Fault>;

pub struct AwsSettings<'a> {
    pub config: &'a Config,
    pub profile: Profile,
}

impl<'a> AwsSettings<'a> {
    pub fn load(config: &'a Config) -> Result<Self, Fault> {
        let profile = Profile::load(&config.environment, config.profile.as_deref())?;
        Ok(AwsSettings { config, profile })
    }

    /// Returns two values: a client of STS, whose endpoint and proxy the settings select, and the region in use. `host_region`
    /// returns the host's region; it is called only if no setting names a region.
    pub fn sts(&self, host_region: impl Fn() -> Region) -> Result<(Client, Region), Fault> {
        let region = match self.region()? {
            Some(region) => Ok(Some(region)),
            // Validate the region: another program at the metadata service's address may respond with an HTML page.
            None => host_region().map(|region| {
                region.filter(|region| sts::is_region(region) && region.contains('-'))
            }),
        };
        // A name such as aws-global is not a region: it stands for the global endpoint, which `endpoint` finds without a region.
        let region = region.map(|it| it.filter(|region| !region.ends_with("-global")));
        let endpoint = self.endpoint(&region)?;
        let (environment, roots) = (&self.config.environment, self.roots()?);
        let http_client = HttpClient::for_url(&endpoint.url, environment, roots, STS_TIMEOUTS)?;
        Ok((Client { endpoint, http_client }, region))
    }

    pub fn variable(&self, name: &str) -> Option<Setting<'a>> {
        Setting::variable(&self.config.environment, name)
    }

    /// Returns the value of `variable`, or else of the corresponding key in the profile: `ca_bundle` for `AWS_CA_BUNDLE`.
    pub fn get(&self, variable: &str) -> Option<Setting<'_>> {
        let key = variable.trim_start_matches("AWS_").to_ascii_lowercase();
        self.variable(variable).or_else(|| self.profile.setting(&key))
    }

    fn region(&self) -> Result<Option<String>, Fault> {
        let setting = Setting::named(&self.config.region)
            .or_else(|| self.variable("AWS_REGION"))
            .or_else(|| self.variable("AWS_DEFAULT_REGION"))
            .or_else(|| self.profile.setting("region"));
        match setting {
            Some(setting) if !sts::is_region(setting.value) => setting
                .wrong(&format!("{:?} is not a region; write it like eu-west-1", setting.value)),
            setting => Ok(setting.map(|setting| setting.value.to_owned())),
        }
    }

    fn endpoint(&self, region: &Region) -> Result<Endpoint, Fault> {
        let url = self.endpoint_url()?;
        let fips = self.enabled("AWS_USE_FIPS_ENDPOINT")?;
        let dual_stack = self.enabled("AWS_USE_DUALSTACK_ENDPOINT")?;
        if let (Some(url), Some(switch)) = (&url, fips.as_ref().or(dual_stack.as_ref())) {
            return url.wrong(&format!(
                "it cannot be combined with {}; unset one of them",
                switch.origin
            ));
        }
        let regional = self.get("AWS_STS_REGIONAL_ENDPOINTS");
        let options = EndpointOptions {
            partition: self.config.role.partition(),
            region: region.as_ref().ok().and_then(Option::as_deref),
            url: url.as_ref(),
            fips: fips.is_some(),
            dual_stack: dual_stack.is_some(),
            legacy: regional.map_or(Ok(false), |it| it.is_first("legacy", "regional"))?,
        };
        match (Endpoint::find(&options), region) {
            (Err(Fault::Transient(_)), Err(fault)) if options.needs_region() => {
                transient(format!("{}; or give --region", fault.text()))
            }
            (endpoint, _) => endpoint,
        }
    }

    /// Returns the URL that replaces AWS's endpoint of STS.
    fn endpoint_url(&self) -> Result<Option<Setting<'_>>, Fault> {
        let option = Setting::named(&self.config.endpoint_url);
        let ignoring = self.enabled("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")?;
        if option.is_some() || ignoring.is_some() {
            return Ok(option);
        }
        let variable =
            self.variable("AWS_ENDPOINT_URL_STS").or_else(|| self.variable("AWS_ENDPOINT_URL"));
        if variable.is_some() {
            return Ok(variable);
        }
        Ok(self.profile.sts_endpoint_url()?.or_else(|| self.profile.setting("endpoint_url")))
    }

    /// Returns the setting of a switch such as `AWS_USE_FIPS_ENDPOINT` if it is `true`; `None` if it is `false` or unset.
    pub fn enabled(&self, variable: &str) -> Result<Option<Setting<'_>>, Fault> {
        let Some(setting) = self.get(variable) else { return Ok(None) };
        Ok(setting.is_first("true", "false")?.then_some(setting))
    }

    /// Returns the certificate authorities: those of the CA bundle, or else the public ones.
    pub fn roots(&self) -> Result<RootCerts, Fault> {
        let Some(setting) = self.get("AWS_CA_BUNDLE") else { return Ok(RootCerts::WebPki) };
        let file = NamedFile::new(setting.origin, setting.value);
        let contents = file.read().or_else(|error| transient(error.to_string()))?;
        let certificate = |item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        };
        // Strip a byte order mark, as OpenSSL does. `parse_pem` would silently skip the first certificate after the mark.
        let pem = contents.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&contents.bytes);
        let certificates: Vec<_> = parse_pem(pem).flatten().filter_map(certificate).collect();
        if certificates.is_empty() {
            return transient(format!(
                "{file}: it holds no certificate; give a file with PEM certificates"
            ));
        }
        Ok(RootCerts::new_with_certs(&certificates))
    }
}
