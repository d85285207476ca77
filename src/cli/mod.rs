//! The command line and its variables. The help text is the manual.

mod assume_role;
pub mod check;
mod options;
mod setting;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::common::config::{Config, HttpTokens, Listen};
use crate::common::environment::Environment;
use crate::common::pass_through::PassThrough;
use crate::common::role::{RoleArn, RoleName};
use assume_role::assume_role;
use options::help;
use setting::{Setting, Settings};

/// What the user asks for.
pub enum Invocation {
    /// `--help`: this text.
    Help(String),
    /// `--version`: this text.
    Version(String),
    /// `--credential-process`: assume the role once and print it.
    CredentialProcess(Config),
    /// `--check`: ask the one that listens there whether all is well, and whether it serves this role by this name.
    Check(SocketAddr, Option<(RoleArn, RoleName)>),
    /// Serve the role.
    Serve(Config),
}

const DEFAULT_LISTEN: &str = "127.0.0.1:4567";

/// Reads the command line (without the program's name) and the variables. The error is one line for the user.
pub fn parse(words: &[String], environment: &Environment) -> Result<Invocation, String> {
    let settings = Settings::read(words, environment)?;
    if settings.has("help") || settings.has("h") {
        return Ok(Invocation::Help(help()));
    }
    if settings.has("version") {
        return Ok(Invocation::Version(version()));
    }
    settings.know_all_variables()?;
    if settings.has("check") {
        if settings.has("credential-process") {
            return Err(
                "--check: it does not go with --credential-process; give one of them".into(),
            );
        }
        // Not that of the variable: a health check has that one too, and not the --role-name that the server may have been given.
        let role = match named_role(&settings)? {
            Some(role) if !settings.free().is_empty() => {
                Some((role.clone(), role_name(&settings, &role)?))
            }
            _ => None,
        };
        return Ok(Invocation::Check(check_address(&settings)?, role));
    }
    let arguments = to_serve(&settings)?;
    if settings.has("credential-process") {
        return Ok(Invocation::CredentialProcess(arguments));
    }
    Ok(Invocation::Serve(arguments))
}

/// With the commit that scripts/build was run at; whoever runs cargo alone has none.
fn version() -> String {
    let version = concat!("ec2-role ", env!("CARGO_PKG_VERSION"));
    match option_env!("EC2_ROLE_COMMIT") {
        Some(commit) if !commit.is_empty() => format!("{version} ({commit})"),
        _ => version.to_owned(),
    }
}

fn to_serve(settings: &Settings) -> Result<Config, String> {
    let role = role(settings)?;
    Ok(Config {
        assume_role: assume_role(settings)?,
        profile: settings.value("profile").map(|setting| setting.value),
        region: settings.value("region").map(|setting| setting.value),
        endpoint_url: settings.value("endpoint-url").map(|setting| setting.value),
        listen: listen(settings)?,
        role_name: role_name(settings, &role)?,
        http_tokens: match settings.value("http-tokens") {
            None => HttpTokens::Optional,
            Some(setting) => match setting.value.as_str() {
                "optional" => HttpTokens::Optional,
                "required" => HttpTokens::Required,
                _ => return setting.wrong("write optional or required"),
            },
        },
        token_key_file: settings.value("token-key-file").map(Setting::file),
        container_token_file: settings.value("container-token-file").map(Setting::file),
        pass_through: pass_through(settings)?,
        same_network: settings.switch("same-network")?,
        allow_hosts: allow_hosts(settings)?,
        metrics: settings.switch("metrics")?,
        quiet: settings.switch("quiet")?,
        role,
    })
}

fn pass_through(settings: &Settings) -> Result<Option<PassThrough>, String> {
    let also = PassThrough {
        user_data: settings.switch("pass-through-user-data")?,
        identity_signature: settings.switch("pass-through-identity-signature")?,
    };
    let is_on = settings.switch("pass-through")?;
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
fn check_address(settings: &Settings) -> Result<SocketAddr, String> {
    match listen(settings)? {
        Listen::Address(mut address) => {
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
            Ok(address)
        }
        Listen::Stdin => {
            Err("--check: it needs to know where to ask; give --listen ADDRESS:PORT".into())
        }
    }
}

fn role(settings: &Settings) -> Result<RoleArn, String> {
    named_role(settings)?.ok_or(
        "no role: name its ARN, as in ec2-role arn:aws:iam::123456789012:role/NAME, or set EC2_ROLE_ARN".into(),
    )
}

fn role_name(settings: &Settings, role: &RoleArn) -> Result<RoleName, String> {
    match settings.value("role-name") {
        None => Ok(role.name()),
        Some(setting) => {
            RoleName::parse(&setting.value).map_err(|why| format!("{}: {why}", setting.origin))
        }
    }
}

fn named_role(settings: &Settings) -> Result<Option<RoleArn>, String> {
    const VARIABLE: &str = "EC2_ROLE_ARN";
    match (settings.free(), settings.environment.get(VARIABLE)) {
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

fn allow_hosts(settings: &Settings) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for setting in settings.values("allow-host")? {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if setting.value.is_empty() || !setting.value.bytes().all(is_name) {
            return setting.wrong("write a whole host name, without a port; there are no patterns");
        }
        hosts.push(setting.value);
    }
    Ok(hosts)
}

fn listen(settings: &Settings) -> Result<Listen, String> {
    let default = || Setting {
        value: DEFAULT_LISTEN.to_owned(),
        origin: "--listen".to_owned(),
    };
    let setting = settings.value("listen").unwrap_or_else(default);
    match (setting.value.as_str(), setting.value.parse()) {
        ("-", _) => Ok(Listen::Stdin),
        (_, Ok(address)) => Ok(Listen::Address(address)),
        _ => setting
            .wrong("write ADDRESS:PORT as in 172.17.0.1:4567 or [fd00::1]:4567, or - for stdin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::config::AssumeRole;

    const ARN: &str = "arn:aws:iam::123456789012:role/team/exc_web";

    fn read(arguments: &[&str], environment: Environment) -> Result<Config, String> {
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
                "--policy /nowhere",
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
