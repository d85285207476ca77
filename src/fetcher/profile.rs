//! The profile in use, from the shared config and credentials files.

use crate::common::{Environment, Fault, transient};
use crate::fetcher::setting::Setting;
use crate::fetcher::shared_file::{Settings, SharedFile};

/// The non-empty settings of one profile. A setting of the credentials file wins over the same one of the config file.
pub struct Profile {
    pub name: String,
    /// Settings from the config file, by default `~/.aws/config`.
    pub config: Settings,
    /// Settings from the credentials file, by default `~/.aws/credentials`.
    pub credentials: Settings,
    /// The error if this process has no permission to read a shared file. `shared_files::find` returns this error: the unread
    /// file may hold the intended credential, so no later source may be used. Sources in variables are tried earlier.
    pub access: Result<(), Fault>,
    /// The whole config file: the profile's key `services` names another section of it.
    config_file: SharedFile,
}

impl Profile {
    /// Reads the profile that `--profile` (`option`), `AWS_PROFILE` or `AWS_DEFAULT_PROFILE` names; it is an error if that
    /// profile does not exist. If none of them is set, reads `default`, which may be missing.
    pub fn load(environment: &Environment, option: Option<&str>) -> Result<Self, Fault> {
        let named =
            option.or(environment.get("AWS_PROFILE")).or(environment.get("AWS_DEFAULT_PROFILE"));
        let name = named.unwrap_or("default");
        let config = SharedFile::read(environment, "AWS_CONFIG_FILE", "~/.aws/config")?;
        let credentials =
            SharedFile::read(environment, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")?;
        let in_config = match name {
            // The config file may have `[profile default]`, `[default]` or both; `[profile default]` wins.
            "default" => config.sections.get("profile default").or(config.sections.get("default")),
            name => config.sections.get(&format!("profile {name}")),
        };
        let in_credentials = credentials.sections.get(name);
        let access = config.access.clone().and(credentials.access);
        if in_config.is_none() && in_credentials.is_none() && named.is_some() {
            access?;
            let section = format!("profile {name}");
            let remedy = if config.sections.contains_key(name) {
                format!("write [{section}] for [{name}] in the first")
            } else if credentials.sections.contains_key(&section) {
                format!("write [{name}] for [{section}] in the second")
            } else {
                "name an existing one with --profile or AWS_PROFILE".to_owned()
            };
            return transient(format!(
                "profile {name:?}: it is neither in {} nor in {}; {remedy}",
                config.path.display(),
                credentials.path.display()
            ));
        }
        Ok(Profile {
            name: name.to_owned(),
            config: in_config.cloned().unwrap_or_default(),
            credentials: in_credentials.cloned().unwrap_or_default(),
            access,
            config_file: config,
        })
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let value = self.credentials.get(key).or(self.config.get(key));
        value.map(String::as_str)
    }

    pub fn setting(&self, key: &str) -> Option<Setting<'_>> {
        self.get(key).map(|value| Setting::in_file(self.origin(key), value))
    }

    /// Returns STS's `endpoint_url` from the section that the key `services` names; an error if that section does not exist.
    pub fn sts_endpoint_url(&self) -> Result<Option<Setting<'_>>, Fault> {
        let Some(name) = self.setting("services") else { return Ok(None) };
        let section = format!("services {}", name.value);
        let Some(services) = self.config_file.sections.get(&section) else {
            return name.wrong(&format!(
                "the config file has no section [{section}]; correct the name, or remove it"
            ));
        };
        let origin = self.origin("services: sts: endpoint_url");
        Ok(services.get("sts.endpoint_url").map(|url| Setting::in_file(origin, url)))
    }

    /// Returns the text with which errors about a key begin.
    pub fn origin(&self, key: &str) -> String {
        format!("profile {:?}: {key}", self.name)
    }
}
