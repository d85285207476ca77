//! Parses the options that ec2-role has in common with the command `aws sts assume-role` (the same names and formats), and checks
//! them against the limits of STS (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).

use super::setting::Settings;
use crate::common::{AssumeRole, DEFAULT_DURATION_SECONDS, NamedFile, check_policy};

const MAX_POLICY_ARNS: usize = 10;
const MAX_TAGS: usize = 50;

pub(super) fn parse(settings: &Settings) -> Result<AssumeRole, String> {
    let duration_seconds = settings.parsed("duration-seconds", |value| match value.parse() {
        Ok(seconds) if (900..=43_200).contains(&seconds) => Ok(seconds),
        _ => Err("write whole seconds from 900 (15 minutes) to 43200 (12 hours)"),
    })?;
    let tags = settings.all_parsed("tags", tag)?;
    let policy = settings.parsed("policy", |value| policy(value, settings.origin("policy")))?;
    let (policy, policy_file) = policy.unwrap_or_default();
    Ok(AssumeRole {
        session_name: settings.parsed("role-session-name", |value| text(value, 64, "_+=,.@-"))?,
        external_id: settings.parsed("external-id", |value| text(value, 1224, "_+=,.@:/-"))?,
        duration_seconds: duration_seconds.unwrap_or(DEFAULT_DURATION_SECONDS),
        policy,
        policy_file,
        policy_arns: settings.all_parsed("policy-arns", policy_arn)?,
        transitive_tag_keys: settings.all_parsed("transitive-tag-keys", |key, _| {
            match tags.iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
                true => Ok(key.to_owned()),
                false => Err("no tag has this key; give the tag with --tags too"),
            }
        })?,
        tags,
        source_identity: settings.parsed("source-identity", |value| text(value, 64, "_+=,.@-"))?,
    })
}

/// Parses a value that consists of 2 to `max` letters, digits and characters of `others`.
fn text(value: &str, max: usize, others: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    if !value.chars().all(is_allowed) || !(2..=max).contains(&value.len()) {
        return Err(format!("write 2 to {max} letters, digits or any of {others}"));
    }
    Ok(value.to_owned())
}

fn policy_arn(value: &str, before: &[String]) -> Result<String, &'static str> {
    // The AWS CLI's form is arn=ARN; a bare ARN is accepted too.
    let arn = value.strip_prefix("arn=").unwrap_or(value);
    if !arn.starts_with("arn:") || before.len() == MAX_POLICY_ARNS {
        return Err(
            "write the ARN of a managed policy, arn:aws:iam::…:policy/NAME, at most ten times",
        );
    }
    Ok(arn.to_owned())
}

fn tag(value: &str, before: &[(String, String)]) -> Result<(String, String), &'static str> {
    // Parse the AWS CLI's form Key=KEY,Value=VALUE, or KEY=VALUE, which is split at the first `=`.
    let cli = value.strip_prefix("Key=").and_then(|rest| rest.split_once(",Value="));
    let tag = cli.or(value.split_once('='));
    let (key, value) = tag.ok_or("the value is missing; write KEY=VALUE")?;
    if before.iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
        return Err("another tag has this key, in whatever letter case; give each key once");
    }
    // STS accepts no comma and no control character in a tag. A comma usually means that the value holds several tags.
    if [key, value].iter().any(|part| part.contains(|c: char| c == ',' || c.is_control())) {
        return Err(
            "it has a comma or a control character; write KEY=VALUE, with one option for each tag",
        );
    }
    if !(1..=128).contains(&key.chars().count())
        || value.chars().count() > 256
        || before.len() == MAX_TAGS
    {
        return Err(
            "write KEY=VALUE, the key 1 to 128 characters, the value up to 256, at most fifty times",
        );
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Returns the text of the policy, or the file that `file://PATH` names. One of the two is `None`.
fn policy(value: &str, origin: String) -> Result<(Option<String>, Option<NamedFile>), String> {
    if let Some(path) = value.strip_prefix("file://") {
        return Ok((None, Some(NamedFile::new(origin, path))));
    }
    check_policy(value).map_err(|why| format!("{why}; write the policy itself, or file://PATH"))?;
    Ok((Some(value.to_owned()), None))
}
