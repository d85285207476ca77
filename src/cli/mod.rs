//! Parses the command line and the EC2_ROLE_ variables into a [`Config`].

mod assume_role;
mod check;
mod options;
mod setting;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::common::{Config, Environment, PassThrough, RoleArn, RoleName, ServerConfig};
pub use check::{Check, unhealthy};
use setting::{Setting, Settings};

pub enum Invocation {
    /// Print the help or the version.
    Print(String),
    /// Assume the role once and print the credential.
    CredentialProcess(Config),
    Check(Check),
    Serve(Config),
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4567));

/// Parses the command line and the variables. `words` does not include the program's name. The error is one line for the user.
pub fn parse(words: &[String], environment: &Environment) -> Result<Invocation, String> {
    let settings = Settings::parse(words, environment)?;
    if settings.has("help") || settings.has("h") {
        return Ok(Invocation::Print(options::HELP.to_owned()));
    }
    if settings.has("version") || settings.has("V") {
        return Ok(Invocation::Print(version()));
    }
    settings.reject_unknown_variables()?;
    if settings.has("check") {
        return check(&settings).map(Invocation::Check);
    }
    if settings.has("json") {
        return Err("--json: it needs --check; give that too".into());
    }
    let config = config(&settings)?;
    if settings.has("credential-process") {
        return Ok(Invocation::CredentialProcess(config));
    }
    Ok(Invocation::Serve(config))
}

/// Whether the command line or EC2_ROLE_LOG_FORMAT asks for JSON log lines. `main` calls this before `parse`, so that an error
/// in the arguments is logged as JSON too.
pub fn asks_for_json(words: &[String], environment: &Environment) -> bool {
    let has_option = |format: &str| {
        words.windows(2).any(|pair| pair == ["--log-format", format])
            || words.iter().any(|word| word.strip_prefix("--log-format=") == Some(format))
    };
    let variable = environment.get("EC2_ROLE_LOG_FORMAT");
    has_option("json") || variable == Some("json") && !has_option("text")
}

/// Whether a command line asks for the result of `--check` as JSON. `main` then prints an error of `parse` as JSON too.
pub fn asks_for_json_check(words: &[String]) -> bool {
    ["--check", "--json"].iter().all(|option| words.iter().any(|word| word == option))
}

/// Returns the version, followed by the commit if scripts/build built the program.
fn version() -> String {
    let version = concat!("ec2-role ", env!("CARGO_PKG_VERSION"));
    match option_env!("EC2_ROLE_COMMIT") {
        Some(commit) if !commit.is_empty() => format!("{version} ({commit})\n"),
        _ => format!("{version}\n"),
    }
}

fn config(settings: &Settings) -> Result<Config, String> {
    let role = role(settings)?.ok_or(
        "no role: give its ARN, as in ec2-role arn:aws:iam::123456789012:role/NAME, or set EC2_ROLE_ARN",
    )?;
    let value = |name| settings.value(name);
    let named = |name| value(name).map(|setting| (setting.origin, setting.value));
    Ok(Config {
        assume_role: assume_role::parse(settings)?,
        profile: value("profile").map(|setting| setting.value),
        region: named("region"),
        endpoint_url: named("endpoint-url"),
        listen: listen(settings)?,
        token_key_file: value("token-key-file").map(Setting::file),
        container_token_file: value("container-token-file").map(Setting::file),
        json_log: is_second(settings, "log-format", ["text", "json"])?,
        server: server_config(settings, &role)?,
        environment: settings.environment.clone(),
        role,
    })
}

fn server_config(settings: &Settings, role: &RoleArn) -> Result<ServerConfig, String> {
    const TOKEN_FILE: &str = "container-token-file";
    let has_token = settings.value(TOKEN_FILE).is_some();
    Ok(ServerConfig {
        role_name: role_name(settings, role)?,
        requires_session_token: is_second(settings, "http-tokens", ["optional", "required"])?,
        both_forms: addition(settings, "both-forms", has_token, TOKEN_FILE)?,
        pass_through: pass_through(settings)?,
        same_network: settings.switch("same-network")?,
        allow_hosts: settings.all_parsed("allow-host", |host, _| allow_host(host))?,
        metrics: settings.switch("metrics")?,
        quiet: settings.switch("quiet")?,
    })
}

/// Returns whether an option has the value `second`. Its only other value, `first`, is the default.
fn is_second(settings: &Settings, name: &str, [first, second]: [&str; 2]) -> Result<bool, String> {
    let is_second = settings.parsed(name, |value| match value {
        _ if value == first => Ok(false),
        _ if value == second => Ok(true),
        _ => Err(format!("write {first} or {second}")),
    })?;
    Ok(is_second.unwrap_or(false))
}

fn check(settings: &Settings) -> Result<Check, String> {
    if settings.has("credential-process") {
        return Err("--check: it does not go with --credential-process; give one of them".into());
    }
    // Check the served role's name only if an argument of the check names the role. EC2_ROLE_ARN is ignored: the health check in
    // ec2-role's container inherits it, but not the server's option --role-name, which may give the role another name.
    let role = if settings.free().is_empty() { None } else { role(settings)? };
    let name = role.as_ref().map(|role| role_name(settings, role)).transpose()?;
    // A connection to 0.0.0.0 or [::] reaches loopback, so the check can connect to the address of a server that listens on all
    // addresses.
    let Some(address) = listen(settings)? else {
        return Err("--check: it needs an address to ask; give --listen ADDRESS:PORT".into());
    };
    Ok(Check {
        address,
        role: role.zip(name),
        json: settings.has("json"),
        container_token_file: settings.value("container-token-file").map(Setting::file),
    })
}

fn pass_through(settings: &Settings) -> Result<Option<PassThrough>, String> {
    let is_on = settings.switch("pass-through")?;
    let addition = |name: &str| addition(settings, name, is_on, "pass-through");
    let additions = PassThrough {
        user_data: addition("pass-through-user-data")?,
        identity_signature: addition("pass-through-identity-signature")?,
    };
    Ok(is_on.then_some(additions))
}

/// Returns whether a switch is on. A switch that is on without its `base` option is an error, because it would have no effect.
fn addition(settings: &Settings, name: &str, has_base: bool, base: &str) -> Result<bool, String> {
    let is_on = settings.switch(name)?;
    if is_on && !has_base {
        let origin = settings.origin(name);
        return Err(format!("{origin}: it needs --{base}; give that too"));
    }
    Ok(is_on)
}

fn role(settings: &Settings) -> Result<Option<RoleArn>, String> {
    const VARIABLE: &str = "EC2_ROLE_ARN";
    let variables = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
    let is_other_sts = settings.value("endpoint-url").is_some()
        || variables.iter().any(|name| settings.environment.get(name).is_some());
    let parse = RoleArn::parser(is_other_sts);
    match (settings.free(), settings.environment.get(VARIABLE)) {
        ([arn], _) => parse(arn).map(Some),
        ([], Some(arn)) => parse(arn).map(Some).map_err(|why| format!("{VARIABLE} {why}")),
        ([], None) => Ok(None),
        ([first, second, ..], _) => {
            let extra = if first.starts_with("arn:") { second } else { first };
            Err(format!(
                "{extra:?}: one argument too many; run one ec2-role for each role, and name an option for each of its values"
            ))
        }
    }
}

fn role_name(settings: &Settings, role: &RoleArn) -> Result<RoleName, String> {
    let name = settings.parsed("role-name", RoleName::parse)?;
    Ok(name.unwrap_or_else(|| role.name()))
}

fn allow_host(value: &str) -> Result<String, &'static str> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    // Remove the dot that marks an absolute name: `browser::check` also removes this dot from a Host header.
    let name = value.strip_suffix('.').unwrap_or(value);
    if name.split('.').any(str::is_empty) || !name.bytes().all(is_allowed) {
        return Err("write a whole host name, without a port; there are no patterns");
    }
    Ok(name.to_owned())
}

/// Returns the address to listen on; `None` if stdin is the listening socket.
fn listen(settings: &Settings) -> Result<Option<SocketAddr>, String> {
    let listen = settings.parsed("listen", |value| match (value, value.parse()) {
        ("-", _) => Ok(None),
        (_, Ok(address)) => Ok(Some(address)),
        _ => Err("write ADDRESS:PORT as in 172.17.0.1:4567 or [fd00::1]:4567, or - for stdin"),
    })?;
    Ok(listen.unwrap_or(Some(DEFAULT_LISTEN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::AssumeRole;

    const ARN: &str = "arn:aws:iam::123456789012:role/team/exc_web";

    fn parsed(arguments: &[&str], environment: Environment) -> Result<Config, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        match parse(&arguments, &environment)? {
            Invocation::Serve(config) => Ok(config),
            _ => Err("not Serve".into()),
        }
    }

    #[test]
    fn an_arn_alone_gives_every_setting_its_default() {
        let config = parsed(&[ARN], Environment::default()).unwrap();
        assert_eq!(config.role.as_str(), ARN);
        assert_eq!(config.server.role_name.as_str(), "exc_web");
        assert_eq!(config.listen, Some("127.0.0.1:4567".parse().unwrap()));
        assert!(!config.server.requires_session_token);
        assert_eq!(
            config.assume_role,
            AssumeRole { duration_seconds: 3600, ..AssumeRole::default() }
        );
        assert!(!config.server.quiet);
    }

    #[test]
    fn an_option_overrides_its_variable() {
        let environment = Environment::from([
            ("EC2_ROLE_ARN", ARN),
            ("EC2_ROLE_LISTEN", "[::1]:80"),
            ("EC2_ROLE_HTTP_TOKENS", "required"),
            ("EC2_ROLE_QUIET", "TRUE"),
            ("EC2_ROLE_TAGS", "team=a 'who=x y'"),
            ("EC2_ROLE_ROLE_NAME", "temp"),
        ]);
        let config = parsed(&["--role-name", "other"], environment).unwrap();
        assert_eq!(config.listen, Some("[::1]:80".parse().unwrap()));
        assert!(config.server.requires_session_token);
        assert!(config.server.quiet);
        assert_eq!(
            config.assume_role.tags,
            [("team".into(), "a".into()), ("who".into(), "x y".into())]
        );
        assert_eq!(config.server.role_name.as_str(), "other");
    }

    #[test]
    fn tags_are_parsed_in_both_forms_of_the_aws_cli() {
        let config = parsed(
            &[ARN, "--tags", "a=b=c", "--tags", "Key=k=1,Value=v=2", "--tags", "empty="],
            Environment::default(),
        )
        .unwrap();
        assert_eq!(
            config.assume_role.tags,
            [("a".into(), "b=c".into()), ("k=1".into(), "v=2".into()), ("empty".into(), "".into())]
        );
    }

    #[test]
    fn each_invalid_value_is_named_with_the_valid_form() {
        let (long, long_key) = ("x".repeat(65), format!("{}=x", "k".repeat(129)));
        let long_value = format!("k={}", "x".repeat(257));
        for (name, value, right) in [
            ("allow-host", "*.x", "no patterns"),
            ("allow-host", ".example.com", "no patterns"),
            ("allow-host", "a..b", "no patterns"),
            ("duration-seconds", "899", "900"),
            ("duration-seconds", "43201", "43200"),
            ("duration-seconds", "1h", "43200"),
            ("external-id", "x", "2 to 1224"),
            ("http-tokens", "yes", "optional or required"),
            ("http-tokens", "required\u{fffd}", "optional or required"),
            ("listen", "4567", "ADDRESS:PORT"),
            ("listen", "localhost:80", "ADDRESS:PORT"),
            ("listen", "127.0.0.1:99999", "ADDRESS:PORT"),
            ("listen", "fd00::1:80", "ADDRESS:PORT"),
            ("policy", "{", "not JSON"),
            ("policy", "policy.json", "file://PATH"),
            ("policy", "[]", "a policy is a JSON object"),
            ("policy-arns", "ReadOnly", "arn:aws:iam"),
            ("role-name", "a/b", "1 to 64"),
            ("role-name", "..", "1 to 64"),
            ("role-session-name", "a b", "2 to 64"),
            ("role-session-name", &long, "2 to 64"),
            ("source-identity", "x", "2 to 64"),
            ("tags", "team", "KEY=VALUE"),
            ("tags", "=x", "KEY=VALUE"),
            ("tags", &long_key, "KEY=VALUE"),
            ("tags", &long_value, "KEY=VALUE"),
            ("tags", "a=1,b=2", "KEY=VALUE"),
            ("tags", "Key=a,Value=1,Key=b,Value=2", "KEY=VALUE"),
            ("tags", "a=b\tc", "KEY=VALUE"),
            ("transitive-tag-keys", "team", "--tags"),
        ] {
            let option = format!("--{name}");
            let variable = format!("EC2_ROLE_{}", name.replace('-', "_").to_uppercase());
            let by_option = parsed(&[ARN, &option, value], Environment::default());
            let by_variable = parsed(&[ARN], Environment::from([(&*variable, value)]));
            for (place, result) in [(&option, by_option), (&variable, by_variable)] {
                let error = result.err().unwrap();
                assert!(error.starts_with(place), "{error}");
                assert!(error.contains(right) && !error.contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn values_at_the_limits_are_accepted() {
        let (longest, tag) = ("n".repeat(64), format!("{}={}", "k".repeat(128), "v".repeat(256)));
        for (name, value) in [
            ("allow-host", "a-b.c_d"),
            ("duration-seconds", "900"),
            ("duration-seconds", "43200"),
            ("external-id", "a_+=,.@:/-"),
            ("role-session-name", "_+=,.@-"),
            ("role-session-name", &longest),
            ("tags", &tag),
        ] {
            let result = parsed(&[ARN, &format!("--{name}"), value], Environment::default());
            assert_eq!(result.err(), None, "{name} {value}");
        }
    }

    #[test]
    fn lists_are_limited_to_the_entries_that_sts_accepts() {
        let tags = |count| (0..count).map(|n| format!("{n}=v ")).collect::<String>();
        let arns = |count| "arn:aws:iam::aws:policy/x ".repeat(count);
        for (variable, most, too_many, right) in [
            ("EC2_ROLE_TAGS", tags(50), tags(51), "at most fifty times"),
            ("EC2_ROLE_POLICY_ARNS", arns(10), arns(11), "at most ten times"),
        ] {
            let result = |list: &str| parsed(&[ARN], Environment::from([(variable, list)]));
            assert_eq!(result(&most).err(), None);
            assert!(result(&too_many).err().unwrap().contains(right));
        }
    }

    #[test]
    fn command_line_error_is_a_json_line_if_configured() {
        let nothing = || Environment::default();
        let variable = || Environment::from([("EC2_ROLE_LOG_FORMAT", "json")]);
        for (arguments, environment, asks) in [
            (&["--nonsense"][..], nothing(), false),
            (&["--nonsense"], variable(), true),
            (&["--nonsense", "--log-format", "json"], nothing(), true),
            (&["--log-format=json", "--nonsense"], nothing(), true),
            (&["--log-format", "text", "--nonsense"], nothing(), false),
        ] {
            let words: Vec<_> = arguments.iter().map(|word| word.to_string()).collect();
            assert!(parse(&words, &environment).is_err());
            assert_eq!(asks_for_json(&words, &environment), asks, "{arguments:?}");
        }
    }

    #[test]
    fn invalid_arguments_are_named_in_one_line() {
        for (arguments, begins, right) in [
            (&[][..], "no role", "EC2_ROLE_ARN"),
            (&[ARN, ARN], "\"arn:", "one argument too many; run one ec2-role"),
            (&["--tags", "a=1", "b=2", ARN], "\"b=2\"", "an option for each"),
            (&["--role-arn", ARN], "--role-arn: ", "the ARN by itself"),
            (&[ARN, "--nonsense"], "--nonsense: no such option; see", "--help"),
            (&[ARN, "-x"], "-x: no such option", "--help"),
            (&[ARN, "--listen"], "--listen: its value is missing", "--help"),
            (&[ARN, "--quiet=yes"], "--quiet: it takes no value", "--help"),
            (&[ARN, "--region", "a", "--region", "b"], "--region: ", "give it once"),
            (&[ARN, "--tags", "a=1", "--tags", "A=2"], "--tags \"A=2\"", "give each key once"),
            (&[ARN, "--both-forms"], "--both-forms", "--container-token-file;"),
            (&[ARN, "--pass-through-user-data"], "--pass-through-user-data", "--pass-through;"),
            (&[ARN, "--check", "--credential-process"], "--check", "one of them"),
            (&[ARN, "--check", "more"], "\"more\"", "too many"),
            (&[ARN, "--json"], "--json: ", "--check"),
            (&[ARN, "--tags", "a=1", "--tags", ""], "--tags: its value is empty", "leave it out"),
            (&[ARN, "--token-key-file="], "--token-key-file: its value is empty", "leave it out"),
            (&[ARN, "--profile", ""], "--profile: its value is empty", "leave it out"),
            (&[ARN, "--log-format", "xml"], "--log-format \"xml\"", "text or json"),
        ] {
            let error = parsed(arguments, Environment::default()).err().unwrap();
            assert!(error.starts_with(begins) && error.contains(right), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn external_ids_and_policies_are_not_repeated_in_errors() {
        for (name, value) in
            [("EXTERNAL_ID", "s3cr3t id"), ("POLICY", "{s3cr3t}"), ("POLICY", "\"s3cr3t\"")]
        {
            let option = format!("--{}", name.to_lowercase().replace('_', "-"));
            let variable = format!("EC2_ROLE_{name}");
            let by_option = parsed(&[ARN, &option, value], Environment::default());
            let by_variable = parsed(&[ARN], Environment::from([(variable.as_str(), value)]));
            for (result, origin) in [(by_option, &option), (by_variable, &variable)] {
                let error = result.err().unwrap();
                assert!(error.starts_with(&format!("{origin}: ")), "{error}");
                assert!(!error.contains("s3cr3t"), "{error}");
            }
        }
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_ignored_in_a_pod() {
        let of_service = [
            ("EC2_ROLE_PORT", "tcp://10.96.7.1:4567"),
            ("EC2_ROLE_WEB_SERVICE_HOST", "10.96.7.2"),
            ("EC2_ROLE_WEB_SERVICE_PORT", "4567"),
            ("EC2_ROLE_WEB_SERVICE_PORT_IMDS", "4567"),
            ("EC2_ROLE_WEB_PORT", "tcp://10.96.7.2:4567"),
            ("EC2_ROLE_WEB_PORT_4567_TCP_PROTO", "tcp"),
        ];
        let in_pod = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        for variable in of_service {
            assert_eq!(parsed(&[ARN], Environment::from([variable, in_pod])).err(), None);
            let error = parsed(&[ARN], Environment::from([variable])).err().unwrap();
            assert!(error.starts_with(variable.0), "{error}");
        }
        let typo = Environment::from([("EC2_ROLE_HTTP_TOKEN", "required"), in_pod]);
        assert!(parsed(&[ARN], typo).err().unwrap().starts_with("EC2_ROLE_HTTP_TOKEN: "));
    }

    #[test]
    fn names_that_podman_takes_from_an_env_file_are_refused() {
        for (name, named) in [
            ("export EC2_ROLE_HTTP_TOKENS", "export EC2_ROLE_HTTP_TOKENS: "),
            ("\u{feff}EC2_ROLE_HTTP_TOKENS", "\\u{feff}EC2_ROLE_HTTP_TOKENS: "),
            ("EC2_ROLE_HTTP_TOKENS ", "EC2_ROLE_HTTP_TOKENS : "),
            ("export AWS_PROFILE", "export AWS_PROFILE: "),
            ("AWS_PROFILE ", "AWS_PROFILE : "),
            ("AWS_SESSION_TOKEN: s3cr3t", "AWS_SESSION_TOKEN:: "),
        ] {
            let error = parsed(&[ARN], Environment::from([(name, "required")])).err().unwrap();
            assert!(error.starts_with(named) && !error.contains("s3cr3t"), "{error}");
        }
        let others = [("RUN_BY_EC2_ROLE_FOR", "web"), ("AWS_NEW", "x"), ("ec2 role", "x")];
        assert_eq!(parsed(&[ARN], Environment::from(others)).err(), None);
    }

    #[test]
    fn each_invalid_variable_is_named() {
        for (name, value, right) in [
            ("EC2_ROLE_QUIET", "yes", "true or false"),
            ("EC2_ROLE_BOTH_FORMS", "true", "--container-token-file;"),
            ("EC2_ROLE_TAGS", "'a=b", "quotes"),
            ("EC2_ROLE_HTTP_TOKEN", "required", "no such variable"),
            ("EC2_ROLE_CHECK", "true", "no such variable"),
            ("EC2_ROLE_ARN", "arn", "its partition is"),
        ] {
            let arguments = if name == "EC2_ROLE_ARN" { &[][..] } else { &[ARN] };
            let error = parsed(arguments, Environment::from([(name, value)]));
            let error = error.err().unwrap();
            assert!(error.starts_with(name) && error.contains(right), "{error}");
        }
    }
}
