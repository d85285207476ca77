//! Every option there is, and the manual made of them.

pub enum Kind {
    Value,
    Repeated,
    Switch,
}
use Kind::{Repeated, Switch, Value};

pub struct Flag {
    pub name: &'static str,
    pub hint: &'static str,
    pub kind: Kind,
    help: &'static str,
}

const fn option(name: &'static str, hint: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag {
        name,
        hint,
        kind,
        help,
    }
}

/// What has a variable too: `EC2_ROLE_` and the name in capitals.
pub const SETTINGS: [(&str, &[Flag]); 3] = [
    (
        "The role (names and meaning as in `aws sts assume-role`)",
        &[
            option(
                "role-session-name",
                "NAME",
                Value,
                "what CloudTrail calls the session (default: ec2-role- and the instance's id or the host's name)",
            ),
            option(
                "external-id",
                "ID",
                Value,
                "the external id that the trust policy asks for",
            ),
            option(
                "duration-seconds",
                "SECONDS",
                Value,
                "life of a credential, 900 to 43200 (default: 3600, the most that a role may give to a role)",
            ),
            option(
                "policy",
                "JSON",
                Value,
                "a session policy that narrows the role's rights; file://PATH reads it from a file",
            ),
            option(
                "policy-arns",
                "ARN",
                Repeated,
                "a managed policy that narrows them; up to 10",
            ),
            option("tags", "KEY=VALUE", Repeated, "a session tag; up to 50"),
            option(
                "transitive-tag-keys",
                "KEY",
                Repeated,
                "a tag that is passed on to further roles",
            ),
            option("source-identity", "NAME", Value, "the source identity"),
        ],
    ),
    (
        "The host's credentials and STS",
        &[
            option(
                "profile",
                "NAME",
                Value,
                "the profile of the shared files; goes before the variables with keys",
            ),
            option(
                "region",
                "REGION",
                Value,
                "the region of STS (default: AWS_REGION, AWS_DEFAULT_REGION, the profile's, the host's)",
            ),
            option(
                "endpoint-url",
                "URL",
                Value,
                "where STS is, in place of AWS's own endpoint",
            ),
        ],
    ),
    (
        "The server",
        &[
            option(
                "listen",
                "ADDRESS:PORT",
                Value,
                "where to listen (default: 127.0.0.1:4567); IPv6 in brackets; - takes the listening socket from stdin",
            ),
            option(
                "role-name",
                "NAME",
                Value,
                "the name that the list shows (default: the role's own)",
            ),
            option(
                "http-tokens",
                "optional|required",
                Value,
                "whether requests need a session token, IMDSv2 (default: optional)",
            ),
            option(
                "token-key-file",
                "FILE",
                Value,
                "where the key of session tokens is kept, so that they survive a restart; made if it is not there",
            ),
            option(
                "container-token-file",
                "FILE",
                Value,
                "answer /v2/credentials/NAME too, to the Authorization token in FILE (AWS_CONTAINER_CREDENTIALS_FULL_URI)",
            ),
            option(
                "pass-through",
                "",
                Switch,
                "serve the host's other metadata too: what describes the instance, its place and its network",
            ),
            option(
                "pass-through-user-data",
                "",
                Switch,
                "and its user-data, which may hold secrets",
            ),
            option(
                "pass-through-identity-signature",
                "",
                Switch,
                "and the signatures of its identity document, which prove the host's identity to others",
            ),
            option(
                "same-network",
                "",
                Switch,
                "answer only clients in the network of the address that they ask, a bridge's for instance, and the host itself",
            ),
            option(
                "allow-host",
                "NAME",
                Repeated,
                "answer requests for this Host name too; without it, against DNS rebinding: addresses, localhost and, not on loopback, names without a dot or below .internal",
            ),
            option(
                "metrics",
                "",
                Switch,
                "answer /metrics in Prometheus' form, to the host itself",
            ),
            option("quiet", "", Switch, "no access log"),
        ],
    ),
];

pub const ACTIONS: [Flag; 4] = [
    option(
        "credential-process",
        "",
        Switch,
        "assume the role once, print the credential as SDKs read it, and exit",
    ),
    option(
        "check",
        "",
        Switch,
        "ask the ec2-role at --listen whether it serves a valid credential, of ROLE_ARN if that is an argument; exit 0 if so",
    ),
    option("help", "", Switch, "print this"),
    option("version", "", Switch, "print the version"),
];

/// So that it fits a terminal.
const WIDTH: usize = 100;
/// Where the explanations of the options begin.
const COLUMN: usize = 36;

/// The manual.
pub fn help() -> String {
    let mut text = String::from(
        "ec2-role serves short-lived credentials of one IAM role in the place of EC2's metadata service.\n\n\
         \x20 ec2-role [OPTIONS] ROLE_ARN\n\n",
    );
    paragraph(
        &mut text,
        "It calls sts:AssumeRole with the host's credentials, keeps the result in memory, renews it in time, and answers \
         http://ADDRESS:PORT/latest/meta-data/iam/security-credentials/ as EC2 does, so that any AWS SDK finds it there. \
         Point a container's 169.254.169.254 at it, or set AWS_EC2_METADATA_SERVICE_ENDPOINT.",
    );
    paragraph(
        &mut text,
        "Each option but the last four is also a variable, EC2_ROLE_ and its name in capitals with _ for - (EC2_ROLE_LISTEN; \
         EC2_ROLE_ARN for the role; true or false for a switch; several values separated by spaces, quoted as in a shell). \
         An option wins over its variable.",
    );
    for (title, flags) in SETTINGS
        .iter()
        .map(|(title, flags)| (*title, *flags))
        .chain([("Instead of serving", ACTIONS.as_slice())])
    {
        text.push_str(&format!("{title}:\n"));
        for flag in flags {
            let more = match flag.kind {
                Repeated => " (may be repeated)",
                Value | Switch => "",
            };
            let left = format!("  --{} {}", flag.name, flag.hint);
            let mut lines = wrapped(&format!("{}{more}", flag.help), WIDTH - COLUMN).into_iter();
            let first = if left.trim_end().len() < COLUMN {
                lines.next().unwrap_or_default()
            } else {
                String::new()
            };
            let line = format!("{left:<COLUMN$}{first}");
            text.push_str(&format!("{}\n", line.trim_end()));
            for line in lines {
                text.push_str(&format!("{:COLUMN$}{line}\n", ""));
            }
        }
        text.push('\n');
    }
    paragraph(
        &mut text,
        "The host's credentials are looked for in this order, at every renewal: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; \
         AWS_WEB_IDENTITY_TOKEN_FILE; the profile (AWS_PROFILE) of ~/.aws/credentials and ~/.aws/config: its keys, its web \
         identity or its credential_process; AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI; the instance's own metadata \
         service. The other AWS_ variables (AWS_REGION, AWS_CA_BUNDLE, AWS_ENDPOINT_URL_STS, AWS_USE_FIPS_ENDPOINT, \
         HTTPS_PROXY …) mean what they mean to an SDK.",
    );
    paragraph(
        &mut text,
        "It logs to stderr: a line for each event, and one for each request in NCSA's common log format with the seconds at its end. \
         Exit status: 0 ended by SIGTERM or SIGINT, or --check found all well; 1 --check or --credential-process failed, and may \
         work later; 2 something to correct.",
    );
    text.pop();
    text
}

fn paragraph(text: &mut String, words: &str) {
    for line in wrapped(words, WIDTH) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push('\n');
}

/// The lines of a text, each as long as fits.
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
    fn the_help_names_every_option_and_fits_a_terminal() {
        let help = help();
        for flag in SETTINGS
            .iter()
            .flat_map(|(_, flags)| flags.iter())
            .chain(&ACTIONS)
        {
            assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
