//! The profile in use, from the shared config and credentials files.

use std::fmt;

use crate::common::environment::Environment;
use crate::common::fault::{Fault, transient};
use crate::fetcher::setting::Setting;
use crate::fetcher::shared_file::{Settings, SharedFile};

/// The settings of one profile. Those of the credentials file win.
#[derive(Default)]
pub struct Profile {
    pub name: String,
    config: Settings,
    credentials: Settings,
    /// The `[services …]` section that the profile names.
    services: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `~/.aws/config`
    Config,
    /// `~/.aws/credentials`
    Credentials,
}

impl fmt::Display for File {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            File::Config => "config",
            File::Credentials => "credentials",
        })
    }
}

impl Profile {
    /// Reads the profile that `--profile` (`option`), `AWS_PROFILE` or `AWS_DEFAULT_PROFILE` names, which must exist, or else
    /// `default`, which need not.
    pub fn load(environment: &Environment, option: Option<&str>) -> Result<Self, Fault> {
        let named = option
            .or(environment.get("AWS_PROFILE"))
            .or(environment.get("AWS_DEFAULT_PROFILE"));
        let name = named.unwrap_or("default");
        let config = SharedFile::read(environment, "AWS_CONFIG_FILE", "config")?;
        let credentials =
            SharedFile::read(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let in_config = match name {
            // The config file may have either; the longer one wins.
            "default" => config
                .section("profile default")
                .or(config.section("default")),
            name => config.section(&format!("profile {name}")),
        };
        let in_credentials = credentials.section(name);
        if in_config.is_none() && in_credentials.is_none() && named.is_some() {
            return transient(format!(
                "profile {name:?}: it is neither in {} nor in {}; name an existing one with --profile or AWS_PROFILE",
                config.path.display(),
                credentials.path.display()
            ));
        }
        let mut profile = Profile {
            name: name.to_owned(),
            config: in_config.cloned().unwrap_or_default(),
            credentials: in_credentials.cloned().unwrap_or_default(),
            services: Settings::new(),
        };
        let services = profile
            .get("services")
            .and_then(|services| config.section(&format!("services {services}")));
        profile.services = services.cloned().unwrap_or_default();
        Ok(profile)
    }

    /// The value of a key, unless it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_in(File::Credentials, key)
            .or(self.get_in(File::Config, key))
    }

    /// The value of a key in one of the files, unless it is empty.
    pub fn get_in(&self, file: File, key: &str) -> Option<&str> {
        let settings = match file {
            File::Config => &self.config,
            File::Credentials => &self.credentials,
        };
        non_empty(settings, key)
    }

    pub fn setting(&self, key: &str) -> Option<Setting<'_>> {
        Setting::in_file(self.origin(key), self.get(key))
    }

    /// The `endpoint_url` of STS in the `[services …]` section.
    pub fn sts_endpoint_url(&self) -> Option<Setting<'_>> {
        let url = non_empty(&self.services, "sts.endpoint_url");
        Setting::in_file(self.origin("services: sts: endpoint_url"), url)
    }

    /// What errors about a key begin with.
    pub fn origin(&self, key: &str) -> String {
        format!("profile {:?}: {key}", self.name)
    }
}

fn non_empty<'a>(settings: &'a Settings, key: &str) -> Option<&'a str> {
    settings
        .get(key)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}
