//! Parses the options of `aws sts assume-role`, and checks them against the limits of STS
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).

use super::setting::{Setting, Settings};
use crate::common::{AssumeRole, DEFAULT_DURATION_SECONDS, NamedFile, check_policy};

const MAX_POLICY_ARNS: usize = 10;
const MAX_TAGS: usize = 50;

pub(super) fn parse(settings: &Settings) -> Result<AssumeRole, String> {
    let duration_seconds = match settings.value("duration-seconds") {
        None => DEFAULT_DURATION_SECONDS,
        Some(setting) => match setting.value.parse() {
            Ok(seconds) if (900..=43_200).contains(&seconds) => seconds,
            _ => {
                return setting
                    .wrong("write whole seconds from 900 (15 minutes) to 43200 (12 hours)");
            }
        },
    };
    let tags = tags(settings)?;
    let (policy, policy_file) =
        settings.value("policy").map(policy).transpose()?.unwrap_or_default();
    Ok(AssumeRole {
        session_name: text(settings, "role-session-name", 64, "_+=,.@-")?,
        external_id: text(settings, "external-id", 1224, "_+=,.@:/-")?,
        duration_seconds,
        policy,
        policy_file,
        policy_arns: policy_arns(settings)?,
        transitive_tag_keys: transitive_tag_keys(settings, &tags)?,
        tags,
        source_identity: text(settings, "source-identity", 64, "_+=,.@-")?,
    })
}

/// Parses an option whose value consists of 2 to `max` letters, digits and characters of `others`.
fn text(
    settings: &Settings,
    name: &str,
    max: usize,
    others: &str,
) -> Result<Option<String>, String> {
    let Some(setting) = settings.value(name) else {
        return Ok(None);
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    if !setting.value.chars().all(is_allowed) || !(2..=max).contains(&setting.value.len()) {
        return setting.wrong(&format!("write 2 to {max} letters, digits or any of {others}"));
    }
    Ok(Some(setting.value))
}

fn policy_arns(settings: &Settings) -> Result<Vec<String>, String> {
    let mut arns = Vec::new();
    for setting in settings.values("policy-arns")? {
        // The AWS CLI's form is arn=ARN; a bare ARN is accepted too.
        let arn = setting.value.strip_prefix("arn=").unwrap_or(&setting.value);
        if !arn.starts_with("arn:") || arns.len() == MAX_POLICY_ARNS {
            return setting.wrong(
                "write the ARN of a managed policy, arn:aws:iam::…:policy/NAME, at most ten times",
            );
        }
        arns.push(arn.to_owned());
    }
    Ok(arns)
}

fn tags(settings: &Settings) -> Result<Vec<(String, String)>, String> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for setting in settings.values("tags")? {
        // A tag is in the AWS CLI's form Key=KEY,Value=VALUE, or it is KEY=VALUE and is split at the first `=`.
        let cli = (setting.value.strip_prefix("Key=")).and_then(|rest| rest.split_once(",Value="));
        let Some((key, value)) = cli.or(setting.value.split_once('=')) else {
            return setting.wrong("the value is missing; write KEY=VALUE");
        };
        if tags.iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
            return setting
                .wrong("another tag has this key, in whatever letter case; give each key once");
        }
        // STS accepts no comma and no control character in a tag. A comma usually means that the value holds several tags.
        if [key, value].iter().any(|part| part.contains(|c: char| c == ',' || c.is_control())) {
            return setting.wrong("it has a comma or a control character; write KEY=VALUE, with one option for each tag");
        }
        if !(1..=128).contains(&key.chars().count())
            || value.chars().count() > 256
            || tags.len() == MAX_TAGS
        {
            return setting.wrong(
                "write KEY=VALUE, the key 1 to 128 characters, the value up to 256, at most fifty times",
            );
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    Ok(tags)
}

fn transitive_tag_keys(
    settings: &Settings,
    tags: &[(String, String)],
) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    for setting in settings.values("transitive-tag-keys")? {
        if !tags.iter().any(|(key, _)| key.eq_ignore_ascii_case(&setting.value)) {
            return setting.wrong("no tag has this key; give the tag with --tags too");
        }
        keys.push(setting.value);
    }
    Ok(keys)
}

/// Returns the policy, or the file that has it.
fn policy(setting: Setting) -> Result<(Option<String>, Option<NamedFile>), String> {
    if let Some(path) = setting.value.strip_prefix("file://") {
        return Ok((None, Some(NamedFile::new(&setting.origin, path))));
    }
    check_policy(&setting.value)
        .or_else(|why| setting.wrong(&format!("{why}; write the policy itself, or file://PATH")))?;
    Ok((Some(setting.value), None))
}
