//! The command line and its variables. The help text is the manual.

mod options;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use getopts::{Fail, Matches, Options};

use crate::environment::Environment;
use crate::file::NamedFile;
use crate::pass_through::PassThrough;
use crate::role::{RoleArn, RoleName};
use crate::sts::{AssumeRole, DEFAULT_DURATION_SECONDS};
use crate::token::HttpTokens;
use options::Kind::{Repeated, Switch, Value};
use options::{ACTIONS, SETTINGS, help};

/// What the user asks for.
pub enum Invocation {
    /// `--help`: this text.
    Help(String),
    /// `--version`: this text.
    Version(String),
    /// `--credential-process`: assume the role once and print it.
    CredentialProcess(Arguments),
    /// `--check`: ask the one that listens there whether all is well, and whether it serves this role by this name.
    Check(SocketAddr, Option<(RoleArn, RoleName)>),
    /// Serve the role.
    Serve(Arguments),
}

/// Everything that can be set, parsed.
pub struct Arguments {
    /// The role to assume.
    pub role: RoleArn,
    /// What else to ask AssumeRole for.
    pub assume_role: AssumeRole,
    /// The profile of the shared files.
    pub profile: Option<String>,
    /// The region of STS.
    pub region: Option<String>,
    /// Where STS is, in place of AWS's own.
    pub endpoint_url: Option<String>,
    /// Where to listen.
    pub listen: Listen,
    /// The name that the list shows.
    pub role_name: RoleName,
    /// Whether version 1 is answered.
    pub http_tokens: HttpTokens,
    /// Where the key of session tokens is kept.
    pub token_key_file: Option<NamedFile>,
    /// Where the Authorization token of the container form is.
    pub container_token_file: Option<NamedFile>,
    /// What of the host's metadata is passed through.
    pub pass_through: Option<PassThrough>,
    /// Whether only those are answered who are in the network of the address that they ask.
    pub same_network: bool,
    /// Host names that are answered though they have a dot.
    pub allow_hosts: Vec<String>,
    /// Whether `/metrics` is answered.
    pub metrics: bool,
    /// Whether to leave the access log out.
    pub quiet: bool,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On an address.
    Address(SocketAddr),
    /// On the socket that is stdin.
    Stdin,
}

const DEFAULT_LISTEN: &str = "127.0.0.1:4567";

/// Reads the arguments (without the program's name) and the variables; a flag wins. The error is one line for the user.
pub fn parse(arguments: &[String], environment: &Environment) -> Result<Invocation, String> {
    let mut options = Options::new();
    for flag in SETTINGS
        .iter()
        .flat_map(|(_, flags)| flags.iter())
        .chain(&ACTIONS)
    {
        match flag.kind {
            Value => options.optopt("", flag.name, "", flag.hint),
            Repeated => options.optmulti("", flag.name, "", flag.hint),
            Switch => options.optflag("", flag.name, ""),
        };
    }
    options.optflag("h", "", "");
    let matches = options.parse(arguments).map_err(misread)?;
    if matches.opts_present(&["help".to_owned(), "h".to_owned()]) {
        return Ok(Invocation::Help(help()));
    }
    if matches.opt_present("version") {
        return Ok(Invocation::Version(version()));
    }
    let given = Given {
        matches: &matches,
        environment,
    };
    given.know_all_variables()?;
    if matches.opt_present("check") {
        if matches.opt_present("credential-process") {
            return Err(
                "--check: it does not go with --credential-process; give one of them".into(),
            );
        }
        let role = match given.named_role()? {
            Some(role) => Some((role.clone(), given.role_name(&role)?)),
            None => None,
        };
        return Ok(Invocation::Check(given.check_address()?, role));
    }
    let arguments = given.arguments()?;
    if matches.opt_present("credential-process") {
        return Ok(Invocation::CredentialProcess(arguments));
    }
    Ok(Invocation::Serve(arguments))
}

/// In the words of the other errors.
fn misread(fail: Fail) -> String {
    let (name, what) = match &fail {
        Fail::ArgumentMissing(name) => (name, "its value is missing"),
        Fail::UnrecognizedOption(name) => (name, "no such option"),
        Fail::OptionMissing(name) => (name, "it is missing"),
        Fail::OptionDuplicated(name) => (name, "it is given twice; give it once"),
        Fail::UnexpectedArgument(name) => (name, "it takes no value"),
    };
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    format!("{dashes}{name}: {what}; see ec2-role --help")
}

/// With the commit that scripts/build was run at; whoever runs cargo alone has none.
fn version() -> String {
    let version = concat!("ec2-role ", env!("CARGO_PKG_VERSION"));
    match option_env!("EC2_ROLE_COMMIT") {
        Some(commit) if !commit.is_empty() => format!("{version} ({commit})"),
        _ => version.to_owned(),
    }
}

const PREFIX: &str = "EC2_ROLE_";
/// The variables that are no option: the role, and what the systemd unit tells the hook.
const OTHER_VARIABLES: [&str; 3] = ["EC2_ROLE_ARN", "EC2_ROLE_BRIDGE", "EC2_ROLE_TO"];

fn variable_name(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('-', "_").to_uppercase())
}

/// A text and where it was written, for the error that names it.
struct Written {
    text: String,
    place: String,
}

impl Written {
    fn file(self) -> NamedFile {
        NamedFile {
            path: self.text.into(),
            place: self.place,
        }
    }

    fn wrong<T>(&self, what_is_right: &str) -> Result<T, String> {
        Err(format!("{} {:?}: {what_is_right}", self.place, self.text))
    }
}

struct Given<'a> {
    matches: &'a Matches,
    environment: &'a Environment,
}

impl Given<'_> {
    fn arguments(&self) -> Result<Arguments, String> {
        let role = self.role()?;
        Ok(Arguments {
            assume_role: self.assume_role()?,
            profile: self.value("profile").map(|written| written.text),
            region: self.value("region").map(|written| written.text),
            endpoint_url: self.value("endpoint-url").map(|written| written.text),
            listen: self.listen()?,
            role_name: self.role_name(&role)?,
            http_tokens: match self.value("http-tokens") {
                None => HttpTokens::Optional,
                Some(written) => match written.text.as_str() {
                    "optional" => HttpTokens::Optional,
                    "required" => HttpTokens::Required,
                    _ => return written.wrong("write optional or required"),
                },
            },
            token_key_file: self.value("token-key-file").map(Written::file),
            container_token_file: self.value("container-token-file").map(Written::file),
            pass_through: self.pass_through()?,
            same_network: self.switch("same-network")?,
            allow_hosts: self.allow_hosts()?,
            metrics: self.switch("metrics")?,
            quiet: self.switch("quiet")?,
            role,
        })
    }

    /// One that is misspelt would leave a setting, as of security, silently off.
    fn know_all_variables(&self) -> Result<(), String> {
        let flags = SETTINGS.iter().flat_map(|(_, flags)| flags.iter());
        let known: Vec<String> = flags.map(|flag| variable_name(flag.name)).collect();
        let is_known =
            |name: &str| OTHER_VARIABLES.contains(&name) || known.iter().any(|known| known == name);
        match self.environment.names(PREFIX).find(|name| !is_known(name)) {
            Some(name) => Err(format!(
                "{name}: there is no such variable; see ec2-role --help"
            )),
            None => Ok(()),
        }
    }

    fn pass_through(&self) -> Result<Option<PassThrough>, String> {
        let also = PassThrough {
            user_data: self.switch("pass-through-user-data")?,
            identity_signature: self.switch("pass-through-identity-signature")?,
        };
        let is_on = self.switch("pass-through")?;
        if !is_on && also != PassThrough::default() {
            let which = if also.user_data {
                "user-data"
            } else {
                "identity-signature"
            };
            return Err(format!(
                "--pass-through-{which}: it adds to --pass-through; give that too"
            ));
        }
        Ok(is_on.then_some(also))
    }

    /// Where the one to check listens; on every address is on loopback too.
    fn check_address(&self) -> Result<SocketAddr, String> {
        match self.listen()? {
            Listen::Address(mut address) => {
                match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => {
                        address.set_ip(Ipv4Addr::LOCALHOST.into())
                    }
                    IpAddr::V6(ip) if ip.is_unspecified() => {
                        address.set_ip(Ipv6Addr::LOCALHOST.into())
                    }
                    _ => {}
                }
                Ok(address)
            }
            Listen::Stdin => {
                Err("--check: it needs to know where to ask; give --listen ADDRESS:PORT".into())
            }
        }
    }

    fn role(&self) -> Result<RoleArn, String> {
        self.named_role()?.ok_or(
            "no role: name its ARN, as in ec2-role arn:aws:iam::123456789012:role/NAME, or set EC2_ROLE_ARN".into(),
        )
    }

    fn role_name(&self, role: &RoleArn) -> Result<RoleName, String> {
        match self.value("role-name") {
            None => Ok(role.name()),
            Some(written) => {
                RoleName::parse(&written.text).map_err(|why| format!("{}: {why}", written.place))
            }
        }
    }

    fn named_role(&self) -> Result<Option<RoleArn>, String> {
        const VARIABLE: &str = "EC2_ROLE_ARN";
        match (self.matches.free.as_slice(), self.environment.get(VARIABLE)) {
            ([arn], _) => RoleArn::parse(arn).map(Some),
            ([], Some(arn)) => RoleArn::parse(arn)
                .map(Some)
                .map_err(|why| format!("{VARIABLE} {why}")),
            ([], None) => Ok(None),
            ([_, second, ..], _) => Err(format!(
                "{second:?}: one argument too many; run one ec2-role for each role"
            )),
        }
    }

    fn allow_hosts(&self) -> Result<Vec<String>, String> {
        let mut hosts = Vec::new();
        for written in self.values("allow-host")? {
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            if written.text.is_empty() || !written.text.bytes().all(is_name) {
                return written
                    .wrong("write a whole host name, without a port; there are no patterns");
            }
            hosts.push(written.text);
        }
        Ok(hosts)
    }

    fn assume_role(&self) -> Result<AssumeRole, String> {
        const NAME: &str = "write 2 to 64 letters, digits or any of _+=,.@-";
        const EXTERNAL_ID: &str = "write 2 to 1224 letters, digits or any of _+=,.@:/-";
        Ok(AssumeRole {
            session_name: self.text("role-session-name", 2..=64, "_+=,.@-", NAME)?,
            external_id: self.text("external-id", 2..=1224, "_+=,.@:/-", EXTERNAL_ID)?,
            duration_seconds: match self.value("duration-seconds") {
                None => DEFAULT_DURATION_SECONDS,
                Some(written) => match written.text.parse() {
                    Ok(seconds) if (900..=43_200).contains(&seconds) => seconds,
                    _ => {
                        return written.wrong(
                            "write whole seconds from 900 (15 minutes) to 43200 (12 hours)",
                        );
                    }
                },
            },
            policy: self.value("policy").map(policy).transpose()?,
            policy_arns: self.policy_arns()?,
            tags: self.tags()?,
            transitive_tag_keys: self
                .values("transitive-tag-keys")?
                .into_iter()
                .map(|written| written.text)
                .collect(),
            source_identity: self.text("source-identity", 2..=64, "_+=,.@-", NAME)?,
        })
    }

    fn text(
        &self,
        name: &str,
        length: std::ops::RangeInclusive<usize>,
        also: &str,
        right: &str,
    ) -> Result<Option<String>, String> {
        let Some(written) = self.value(name) else {
            return Ok(None);
        };
        let allowed = written
            .text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || also.contains(c));
        if !allowed || !length.contains(&written.text.len()) {
            written.wrong(right)
        } else {
            Ok(Some(written.text))
        }
    }

    fn policy_arns(&self) -> Result<Vec<String>, String> {
        let mut arns = Vec::new();
        for written in self.values("policy-arns")? {
            // The CLI writes arn=ARN.
            let arn = written.text.strip_prefix("arn=").unwrap_or(&written.text);
            if !arn.starts_with("arn:") || arns.len() == 10 {
                return written.wrong("write the ARN of a managed policy, arn:aws:iam::…:policy/NAME, at most ten times");
            }
            arns.push(arn.to_owned());
        }
        Ok(arns)
    }

    fn tags(&self) -> Result<Vec<(String, String)>, String> {
        let mut tags = Vec::new();
        for written in self.values("tags")? {
            // The CLI's own form, or KEY=VALUE split at the first `=`.
            let cli = written
                .text
                .strip_prefix("Key=")
                .and_then(|rest| rest.split_once(",Value="));
            let Some((key, value)) = cli.or(written.text.split_once('=')) else {
                return written.wrong("the value is missing; write KEY=VALUE");
            };
            if tags
                .iter()
                .any(|(other, _): &(String, String)| other.eq_ignore_ascii_case(key))
            {
                return written.wrong(
                    "there is a tag of this key already, in whatever letter case; give each once",
                );
            }
            if !(1..=128).contains(&key.chars().count())
                || value.chars().count() > 256
                || tags.len() == 50
            {
                return written.wrong("write KEY=VALUE, the key 1 to 128 characters, the value up to 256, at most fifty times");
            }
            tags.push((key.to_owned(), value.to_owned()));
        }
        Ok(tags)
    }

    fn listen(&self) -> Result<Listen, String> {
        let default = || Written {
            text: DEFAULT_LISTEN.to_owned(),
            place: "--listen".to_owned(),
        };
        let written = self.value("listen").unwrap_or_else(default);
        match (written.text.as_str(), written.text.parse()) {
            ("-", _) => Ok(Listen::Stdin),
            (_, Ok(address)) => Ok(Listen::Address(address)),
            _ => written.wrong(
                "write ADDRESS:PORT as in 172.17.0.1:4567 or [fd00::1]:4567, or - for stdin",
            ),
        }
    }

    fn value(&self, name: &str) -> Option<Written> {
        let by_flag = self.matches.opt_str(name).map(|text| Written {
            text,
            place: format!("--{name}"),
        });
        by_flag.or_else(|| {
            let place = variable_name(name);
            self.environment.get(&place).map(|text| Written {
                text: text.to_owned(),
                place: place.clone(),
            })
        })
    }

    /// All values of a repeatable option; in its variable, separated by spaces and quoted as a shell has it.
    fn values(&self, name: &str) -> Result<Vec<Written>, String> {
        let written = |place: String| {
            move |text: String| Written {
                text,
                place: place.clone(),
            }
        };
        if self.matches.opt_present(name) {
            return Ok(self
                .matches
                .opt_strs(name)
                .into_iter()
                .map(written(format!("--{name}")))
                .collect());
        }
        let Some(list) = self.value(name) else {
            return Ok(Vec::new());
        };
        match shlex::split(&list.text) {
            Some(texts) => Ok(texts.into_iter().map(written(list.place)).collect()),
            None => list.wrong("its quotes do not match"),
        }
    }

    fn switch(&self, name: &str) -> Result<bool, String> {
        let by_variable = self
            .environment
            .is_on(&variable_name(name))
            .map_err(|fault| fault.text().to_owned())?;
        Ok(self.matches.opt_present(name) || by_variable)
    }
}

fn policy(written: Written) -> Result<String, String> {
    let text = match written.text.strip_prefix("file://") {
        None => written.text.clone(),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return written.wrong(&format!(
                    "it cannot be read: {error}; name a file that ec2-role's user can read"
                ));
            }
        },
    };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(policy) if policy.is_object() => Ok(text),
        Ok(_) => written.wrong("a policy is a JSON object; correct it"),
        Err(error) => written.wrong(&format!("it is not JSON: {error}; correct it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:role/team/exc_web";

    fn read(arguments: &[&str], environment: Environment) -> Result<Arguments, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        match parse(&arguments, &environment)? {
            Invocation::Serve(arguments) => Ok(arguments),
            _ => Err("not to serve".into()),
        }
    }

    #[test]
    fn with_only_an_arn_everything_else_has_its_default() {
        let arguments = read(&[ARN], Environment::default()).unwrap();
        assert_eq!(arguments.role.as_str(), ARN);
        assert_eq!(arguments.role_name.as_str(), "exc_web");
        assert_eq!(
            arguments.listen,
            Listen::Address("127.0.0.1:4567".parse().unwrap())
        );
        assert_eq!(arguments.http_tokens, HttpTokens::Optional);
        assert_eq!(
            arguments.assume_role,
            AssumeRole {
                duration_seconds: 3600,
                ..AssumeRole::default()
            }
        );
        assert!(!arguments.quiet);
    }

    #[test]
    fn every_option_is_a_variable_too_and_the_option_wins() {
        let environment = Environment::from([
            ("EC2_ROLE_ARN", ARN),
            ("EC2_ROLE_LISTEN", "[::1]:80"),
            ("EC2_ROLE_HTTP_TOKENS", "required"),
            ("EC2_ROLE_QUIET", "TRUE"),
            ("EC2_ROLE_TAGS", "team=a 'who=x y'"),
            ("EC2_ROLE_ROLE_NAME", "temp"),
        ]);
        let arguments = read(&["--role-name", "other"], environment).unwrap();
        assert_eq!(
            arguments.listen,
            Listen::Address("[::1]:80".parse().unwrap())
        );
        assert_eq!(arguments.http_tokens, HttpTokens::Required);
        assert!(arguments.quiet);
        assert_eq!(
            arguments.assume_role.tags,
            [("team".into(), "a".into()), ("who".into(), "x y".into())]
        );
        assert_eq!(arguments.role_name.as_str(), "other");
    }

    #[test]
    fn a_tag_is_split_at_its_first_equals_sign_and_the_clis_form_is_read_too() {
        let arguments = read(
            &[
                ARN,
                "--tags",
                "a=b=c",
                "--tags",
                "Key=k=1,Value=v,2",
                "--tags",
                "empty=",
            ],
            Environment::default(),
        )
        .unwrap();
        assert_eq!(
            arguments.assume_role.tags,
            [
                ("a".into(), "b=c".into()),
                ("k=1".into(), "v,2".into()),
                ("empty".into(), "".into())
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_that_names_the_option_or_the_variable() {
        for (arguments, name, right) in [
            (vec![], "no role", "EC2_ROLE_ARN"),
            (
                vec![ARN, ARN],
                "one argument too many",
                "one ec2-role for each",
            ),
            (
                vec![ARN, "--duration-seconds", "899"],
                "--duration-seconds \"899\"",
                "900",
            ),
            (
                vec![ARN, "--duration-seconds", "1h"],
                "--duration-seconds",
                "43200",
            ),
            (vec![ARN, "--tags", "team"], "--tags \"team\"", "KEY=VALUE"),
            (vec![ARN, "--tags", "=x"], "--tags", "KEY=VALUE"),
            (
                vec![ARN, "--listen", "4567"],
                "--listen \"4567\"",
                "ADDRESS:PORT",
            ),
            (
                vec![ARN, "--listen", "localhost:80"],
                "--listen",
                "ADDRESS:PORT",
            ),
            (
                vec![ARN, "--http-tokens", "yes"],
                "--http-tokens",
                "optional or required",
            ),
            (vec![ARN, "--policy", "{"], "--policy", "not JSON"),
            (
                vec![ARN, "--policy", "file:///nowhere"],
                "--policy \"file:///nowhere\"",
                "cannot be read",
            ),
            (
                vec![ARN, "--policy-arns", "ReadOnly"],
                "--policy-arns",
                "arn:aws:iam",
            ),
            (
                vec![ARN, "--role-session-name", "a b"],
                "--role-session-name",
                "2 to 64",
            ),
            (
                vec![ARN, "--external-id", "x"],
                "--external-id",
                "2 to 1224",
            ),
            (vec![ARN, "--role-name", "a/b"], "--role-name", "1 to 64"),
            (
                vec![ARN, "--nonsense"],
                "--nonsense: no such option",
                "--help",
            ),
            (vec![ARN, "-x"], "-x: no such option", "--help"),
            (
                vec![ARN, "--listen"],
                "--listen: its value is missing",
                "--help",
            ),
            (
                vec![ARN, "--quiet=yes"],
                "--quiet: it takes no value",
                "--help",
            ),
            (
                vec![ARN, "--region", "a", "--region", "b"],
                "--region: ",
                "give it once",
            ),
            (
                vec![ARN, "--allow-host", "*.x"],
                "--allow-host \"*.x\"",
                "no patterns",
            ),
            (
                vec![ARN, "--tags", "a=1", "--tags", "A=2"],
                "--tags \"A=2\"",
                "each once",
            ),
            (
                vec![ARN, "--pass-through-user-data"],
                "--pass-through-user-data",
                "--pass-through;",
            ),
            (
                vec![ARN, "--check", "--credential-process"],
                "--check",
                "one of them",
            ),
            (vec![ARN, "--check", "more"], "\"more\"", "too many"),
        ] {
            let error = read(&arguments, Environment::default()).err().unwrap();
            assert!(
                error.contains(name) && error.contains(right) && !error.contains('\n'),
                "{arguments:?}: {error}"
            );
        }
        for (name, value, right) in [
            ("EC2_ROLE_QUIET", "yes", "true or false"),
            (
                "EC2_ROLE_HTTP_TOKENS",
                "required\u{fffd}",
                "optional or required",
            ),
            ("EC2_ROLE_HTTP_TOKEN", "required", "no such variable"),
            ("EC2_ROLE_CHECK", "true", "no such variable"),
            ("EC2_ROLE_ARN", "\"arn\"", "does not begin with"),
        ] {
            let arguments = if name == "EC2_ROLE_ARN" {
                &[][..]
            } else {
                &[ARN]
            };
            let error = read(arguments, Environment::from([(name, value)]));
            let error = error.err().unwrap();
            assert!(error.starts_with(name) && error.contains(right), "{error}");
        }
    }
}
