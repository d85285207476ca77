//! The table of all options, and the help text generated from it.

use Kind::{Repeated, Switch, Value};

pub(super) enum Kind {
    Value,
    Repeated,
    Switch,
}

pub(super) struct Flag {
    pub name: &'static str,
    pub hint: &'static str,
    pub kind: Kind,
    help: &'static str,
}

const fn option(name: &'static str, hint: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { name, hint, kind, help }
}

/// Options that can also be set by a variable: `EC2_ROLE_` and the option's name in capitals, with `_` for `-`.
#[rustfmt::skip]
const SETTINGS: [(&str, &[Flag]); 3] = [
    ("The role (options of `aws sts assume-role`)", &[
        option("role-session-name", "NAME", Value, "session name, seen in CloudTrail (default: ec2-role- and the instance id or host name)"),
        option("external-id", "ID", Value, "external id that the role's trust policy requires"),
        option("duration-seconds", "SECONDS", Value,
            "lifetime of a credential, 900 to 43200 (default: 3600, the maximum when the host's credential is itself a role's)"),
        option("policy", "JSON", Value, "session policy that restricts the role's permissions; file://PATH reads it from a file"),
        option("policy-arns", "ARN", Repeated, "managed policy that restricts the role's permissions; up to 10"),
        option("tags", "KEY=VALUE", Repeated, "session tag; up to 50"),
        option("transitive-tag-keys", "KEY", Repeated, "key of a session tag that is kept when this role assumes another"),
        option("source-identity", "NAME", Value, "source identity"),
    ]),
    ("The host's credentials and STS", &[
        option("profile", "NAME", Value, "profile of the shared AWS files; preferred to keys and a web identity in variables"),
        option("region", "REGION", Value,
            "region of STS (default: AWS_REGION, AWS_DEFAULT_REGION, the profile's, the instance's)"),
        option("endpoint-url", "URL", Value, "URL of STS, instead of AWS's own"),
    ]),
    ("The server", &[
        option("listen", "ADDRESS:PORT", Value,
            "address to listen on (default: 127.0.0.1:4567); IPv6 in brackets; - takes a listening socket from stdin"),
        option("role-name", "NAME", Value, "role name shown to clients (default: the role's own)"),
        option("http-tokens", "optional|required", Value, "whether clients must send a session token, IMDSv2 (default: optional)"),
        option("token-key-file", "FILE", Value,
            "file that keeps the key of session tokens, so that tokens survive a restart; created if it does not exist"),
        option("container-token-file", "FILE", Value,
            "serve the credential at /v2/credentials/NAME (AWS_CONTAINER_CREDENTIALS_FULL_URI), and only to clients whose \
             Authorization header is the token in FILE"),
        option("both-forms", "", Switch,
            "with --container-token-file, also serve the credential as the metadata service does, without that token"),
        option("pass-through", "", Switch, "also serve the host's metadata: instance, placement, network"),
        option("pass-through-user-data", "", Switch, "with --pass-through, also the host's user data, which may hold secrets"),
        option("pass-through-identity-signature", "", Switch,
            "with --pass-through, also the signatures of the host's identity document, which prove its identity to others"),
        option("same-network", "", Switch,
            "only answer the host and clients on the subnet of the address they connect to, such as a bridge's own containers"),
        option("allow-host", "NAME", Repeated,
            "also answer requests whose Host header is this name; against DNS rebinding, other names are refused, except \
             localhost and, unless the client connected to a loopback address, names without a dot or below .internal"),
        option("metrics", "", Switch, "answer the host's own requests for /metrics, in Prometheus' format"),
        option("quiet", "", Switch, "do not log requests"),
        option("log-format", "text|json", Value, "lines of text, or one JSON object a line (default: text)"),
    ]),
];

#[rustfmt::skip]
pub(super) const ACTIONS: [Flag; 5] = [
    option("credential-process", "", Switch, "assume the role once, print the credential for an SDK's credential_process, and exit"),
    option("check", "", Switch,
        "ask the ec2-role at --listen whether it has a valid credential, of ROLE_ARN if given as an argument; exit status 0 if so"),
    option("json", "", Switch, "with --check, print a JSON object: healthy, address, role_name and expiration, or error"),
    option("help", "", Switch, "print this text (also -h)"),
    option("version", "", Switch, "print the version (also -V)"),
];

/// Iterates over the options that can also be set by a variable.
pub(super) fn settings() -> impl Iterator<Item = &'static Flag> {
    SETTINGS.iter().flat_map(|(_, flags)| flags.iter())
}

const BEFORE: [&str; 3] = [
    "ec2-role gives containers short-lived credentials of one IAM role, as EC2's instance metadata service (IMDS) gives them to an instance.",
    "It calls sts:AssumeRole with the host's credentials, keeps the result in memory, refreshes it in time, and serves it at \
     http://ADDRESS:PORT/latest/meta-data/iam/security-credentials/. AWS SDKs look for it at this path of \
     169.254.169.254: either redirect what containers send there (ec2-role-hook does so), or set \
     AWS_EC2_METADATA_SERVICE_ENDPOINT in the container.",
    "Each option but the last five can also be set by a variable: EC2_ROLE_ and the option's name in capitals, with _ for - \
     (EC2_ROLE_LISTEN). EC2_ROLE_ARN sets the role. The variable of an option without a value is true or false. Several values \
     of one option are separated by spaces and quoted as in a shell. An option overrides its variable.",
];

const AFTER: [&str; 2] = [
    "At every refresh the host's credentials are looked for in this order: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; \
     AWS_WEB_IDENTITY_TOKEN_FILE; the profile (AWS_PROFILE) in ~/.aws/credentials and ~/.aws/config, with keys, a web identity \
     or a credential_process; AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI; the instance's own metadata service. The \
     other AWS variables (AWS_REGION, AWS_CA_BUNDLE, AWS_ENDPOINT_URL_STS, AWS_USE_FIPS_ENDPOINT, HTTPS_PROXY and so on) work \
     as they do in an SDK.",
    "The log on stderr has one line for each event, and one for each request: the common log format, followed by the seconds \
     that the answer took. Where stderr is journald's, each line has its priority: warning for a failure that may end by itself, \
     error for one that only you can correct. Exit status: 0 after SIGTERM or SIGINT, or if --check or --credential-process \
     succeeds; 1 if either fails and may succeed later; 2 if something must be corrected.",
];

/// Terminal width that the help text fits into.
const WIDTH: usize = 100;
/// Column at which the explanation of an option begins.
const COLUMN: usize = 36;

pub(super) fn help() -> String {
    let paragraph = |text: &&str| wrapped(text, WIDTH).join("\n");
    let mut parts = vec![paragraph(&BEFORE[0]), "  ec2-role [OPTIONS] ROLE_ARN".to_owned()];
    parts.extend(BEFORE[1..].iter().map(paragraph));
    for (title, flags) in SETTINGS.into_iter().chain([("Instead of serving", &ACTIONS[..])]) {
        let lines: Vec<String> = flags.iter().map(described).collect();
        parts.push(format!("{title}:\n{}", lines.join("\n")));
    }
    parts.extend(AFTER.iter().map(paragraph));
    parts.join("\n\n") + "\n"
}

fn described(flag: &Flag) -> String {
    let left = format!("  --{} {}", flag.name, flag.hint);
    let repeats = match flag.kind {
        Repeated => " (may be repeated)",
        Value | Switch => "",
    };
    let new_line = format!("\n{:COLUMN$}", "");
    let text = wrapped(&format!("{}{repeats}", flag.help), WIDTH - COLUMN).join(&new_line);
    match left.len() {
        0..COLUMN => format!("{left:<COLUMN$}{text}"),
        _ => format!("{}{new_line}{text}", left.trim_end()),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut();
        match last.filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_option_and_fits_a_terminal() {
        let help = help();
        for flag in settings().chain(&ACTIONS) {
            assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        let quiet = format!("\n{:<COLUMN$}do not log requests\n", "  --quiet");
        assert!(help.contains(&quiet), "{help}");
    }
}
