//! Values from the command line and the EC2_ROLE_ variables, each with its origin.

use std::fmt::Display;

use getopts::{Fail, Matches, Options};

use super::options::{self, ACTIONS, REPEATED, SWITCHES, VALUES};
use crate::common::{Environment, NamedFile};

const PREFIX: &str = "EC2_ROLE_";
/// EC2_ROLE_ variables that are accepted although they belong to no option: the role's ARN, and two settings of ec2-role-hook.
/// The systemd unit passes all its variables to both programs.
const OTHER_VARIABLES: [&str; 3] = ["EC2_ROLE_ARN", "EC2_ROLE_BRIDGE", "EC2_ROLE_TO"];

/// Origins whose values must not appear in an error, because they may be secret.
const CONFIDENTIAL: [&str; 4] =
    ["--external-id", "EC2_ROLE_EXTERNAL_ID", "--policy", "EC2_ROLE_POLICY"];

fn variable_name(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('-', "_").to_ascii_uppercase())
}

/// A value and its origin: the option or variable that set it, which errors name.
pub(super) struct Setting {
    pub value: String,
    pub origin: String,
}

impl Setting {
    pub fn file(self) -> NamedFile {
        NamedFile::new(self.origin, self.value)
    }

    pub fn wrong<T>(&self, what_is_right: impl Display) -> Result<T, String> {
        if CONFIDENTIAL.contains(&self.origin.as_str()) {
            return Err(format!("{}: {what_is_right}", self.origin));
        }
        Err(format!("{} {:?}: {what_is_right}", self.origin, self.value))
    }
}

/// The parsed command line and the variables. An option overrides its variable.
pub(super) struct Settings<'a> {
    matches: Matches,
    pub environment: &'a Environment,
}

impl<'a> Settings<'a> {
    /// Parses the command line. `arguments` does not include the program's name.
    pub fn parse(arguments: &[String], environment: &'a Environment) -> Result<Self, String> {
        let mut options = Options::new();
        for name in VALUES {
            options.optopt("", name, "", "");
        }
        for name in REPEATED {
            options.optmulti("", name, "", "");
        }
        for name in SWITCHES.into_iter().chain(ACTIONS) {
            options.optflag("", name, "");
        }
        options.optflag("h", "", "").optflag("V", "", "");
        let matches = options.parse(arguments).map_err(in_own_words)?;
        let is_empty = |name: &&str| matches.opt_strs(name).iter().any(String::is_empty);
        if let Some(name) = options::settings().find(is_empty) {
            return Err(format!("--{name}: its value is empty; write one, or leave it out"));
        }
        Ok(Settings { matches, environment })
    }

    /// Rejects unknown EC2_ROLE_ variables: a typo would silently disable a security setting.
    pub fn reject_unknown_variables(&self) -> Result<(), String> {
        // For a Service called ec2-role-web, Kubernetes sets EC2_ROLE_WEB_PORT, EC2_ROLE_WEB_SERVICE_HOST and more in every pod.
        let is_in_pod = self.environment.get("KUBERNETES_SERVICE_HOST").is_some();
        let is_of_service =
            |name: &str| is_in_pod && (name.contains("_PORT") || name.contains("_SERVICE_"));
        let is_option = |name: &str| options::settings().any(|it| variable_name(it) == name);
        let is_known =
            |name: &&str| OTHER_VARIABLES.contains(name) || is_option(name) || is_of_service(name);
        // From a line `export NAME=value` in an env file, Podman takes `export NAME` as the variable's name. A byte order mark also
        // becomes part of the name.
        let is_garbled = |name: &str| {
            name.contains([' ', '\t', '\u{feff}'])
                && (name.contains(PREFIX) || name.contains("AWS_"))
        };
        let is_unknown = |name: &&str| name.starts_with(PREFIX) && !is_known(name);
        match self.environment.names("").find(|name| is_garbled(name) || is_unknown(name)) {
            // Omit what follows a colon: from `NAME: SECRET==` in an env file, Podman takes all before the first `=` as the name.
            Some(name) => Err(format!(
                "{}: there is no such variable; see ec2-role --help",
                name.split_inclusive(':').next().unwrap_or_default().escape_debug()
            )),
            None => Ok(()),
        }
    }

    /// Whether an option is on the command line.
    pub fn has(&self, name: &str) -> bool {
        self.matches.opt_present(name)
    }

    /// Returns the arguments that are not options.
    pub fn free(&self) -> &[String] {
        &self.matches.free
    }

    /// Returns the value of an option, or else of its variable.
    pub fn value(&self, name: &str) -> Option<Setting> {
        let value = match self.matches.opt_str(name) {
            Some(value) => value,
            None => self.environment.get(&variable_name(name))?.to_owned(),
        };
        Some(Setting { value, origin: self.origin(name) })
    }

    /// Returns the name of the option if it is on the command line, or else the name of its variable.
    pub fn origin(&self, name: &str) -> String {
        if self.has(name) { format!("--{name}") } else { variable_name(name) }
    }

    /// Parses the value of an option, or else of its variable, with `parse`. If `parse` rejects the value, its error says which
    /// values are valid.
    pub fn parsed<T, E: Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, String> {
        let parse = |setting: Setting| parse(&setting.value).or_else(|error| setting.wrong(error));
        self.value(name).map(parse).transpose()
    }

    /// Parses each value of a repeatable option, or else the values that its variable lists, separated by spaces and quoted as
    /// in a shell. `parse` also gets the results for the earlier values, to limit their number and refuse duplicates.
    pub fn all_parsed<T, E: Display>(
        &self,
        name: &str,
        parse: impl Fn(&str, &[T]) -> Result<T, E>,
    ) -> Result<Vec<T>, String> {
        let Some(setting) = self.value(name) else {
            return Ok(Vec::new());
        };
        let values = match self.has(name) {
            true => Some(self.matches.opt_strs(name)),
            false => shlex::split(&setting.value),
        };
        let Some(values) = values else {
            return setting.wrong("its quotes do not match; close each quote");
        };
        let mut all = Vec::new();
        for value in values {
            let setting = Setting { value, origin: setting.origin.clone() };
            all.push(parse(&setting.value, &all).or_else(|error| setting.wrong(error))?);
        }
        Ok(all)
    }

    pub fn switch(&self, name: &str) -> Result<bool, String> {
        let by_variable = self.environment.is_on(&variable_name(name))?;
        Ok(self.has(name) || by_variable)
    }
}

/// Rewrites a getopts error in the style of the other command-line errors.
fn in_own_words(fail: Fail) -> String {
    let (name, what) = match &fail {
        Fail::ArgumentMissing(name) | Fail::OptionMissing(name) => (name, "its value is missing"),
        Fail::UnrecognizedOption(name) if name == "role-arn" => {
            (name, "no such option; give the ARN by itself")
        }
        Fail::UnrecognizedOption(name) => (name, "no such option"),
        Fail::OptionDuplicated(name) => (name, "it is given twice; give it once"),
        Fail::UnexpectedArgument(name) => (name, "it takes no value"),
    };
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    format!("{dashes}{name}: {what}; see ec2-role --help")
}
