//! A role's ARN and name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A role's ARN, as `arn:PARTITION:iam::ACCOUNT:role/[PATH/]NAME`
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleArn(String);

/// What STS takes at most for RoleArn (its API reference).
const MAX_ARN_LENGTH: usize = 2048;

impl RoleArn {
    /// Reads an ARN; the error says in one line what is wrong with it and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "a role's is arn:aws:iam::ACCOUNT:role/NAME, ACCOUNT being 12 digits";
        let wrong = |what: &str| Err(format!("{text:?} is not a role's ARN: {what}; {FORM}"));
        let mut parts = text.splitn(6, ':');
        if parts.next() != Some("arn") {
            return wrong("it does not begin with \"arn:\"");
        }
        let (partition, service) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (region, account, resource) = (
            parts.next(),
            parts.next().unwrap_or(""),
            parts.next().unwrap_or(""),
        );
        // Known partitions are a list that grows; what all have in common is their beginning.
        let after_aws = partition.strip_prefix("aws");
        let known_form = after_aws.is_some_and(|rest| {
            rest.is_empty()
                || (rest.starts_with('-')
                    && rest.len() > 1
                    && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        });
        if !known_form {
            return wrong(&format!(
                "its partition is {partition:?}, not aws, aws-cn, aws-us-gov or another of AWS's"
            ));
        }
        if service != "iam" {
            return wrong(&format!("its service is {service:?}, not \"iam\""));
        }
        if region != Some("") {
            return wrong(
                "between the service and the account stands a region, where nothing should",
            );
        }
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return wrong(&format!("its account is {account:?}"));
        }
        let Some(path_and_name) = resource.strip_prefix("role/") else {
            return wrong(&format!("it names {resource:?}, not \"role/NAME\""));
        };
        if !path_and_name.bytes().all(|b| b.is_ascii_graphic()) || text.len() > MAX_ARN_LENGTH {
            return wrong("it has a space or another character that none has, or it is too long");
        }
        RoleName::parse(path_and_name.rsplit('/').next().unwrap_or(""))
            .map_err(|why| format!("{text:?} is not a role's ARN: {why}; {FORM}"))?;
        Ok(RoleArn(text.to_owned()))
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `aws`, `aws-cn`, `aws-us-gov` …
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// The twelve digits of the account.
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }

    /// The ARN that `iam/info` shows for this role when it is listed as `name`. No such instance profile exists; the ARN ends
    /// in the listed name because the ec2-metadata package takes the role's name from there.
    pub fn instance_profile(&self, name: &RoleName) -> String {
        let (partition, account) = (self.partition(), self.account());
        format!(
            "arn:{partition}:iam::{account}:instance-profile/{}",
            name.as_str()
        )
    }

    /// The role's name: what follows the last slash. EC2 lists just this, without the path.
    pub fn name(&self) -> RoleName {
        RoleName(self.0.rsplit('/').next().unwrap_or_default().to_owned())
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A role's name as it stands in the list and in the document's path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleName(String);

/// IAM's own limit for a role's name.
const MAX_NAME_LENGTH: usize = 64;

impl RoleName {
    /// Reads a name: 1 to 64 of the characters IAM allows, `[A-Za-z0-9+=,.@_-]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        // `.` and `..` would be taken for a path by every client that tidies its URLs.
        if text.is_empty()
            || text.len() > MAX_NAME_LENGTH
            || !text.bytes().all(allowed)
            || text.bytes().all(|b| b == b'.')
        {
            return Err(format!(
                "a role's name is 1 to {MAX_NAME_LENGTH} letters, digits or any of +=,.@_-, not {text:?}"
            ));
        }
        Ok(RoleName(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_arn_gives_its_partition_account_and_name() {
        let arn = RoleArn::parse("arn:aws-cn:iam::123456789012:role/team/a/exc_web").unwrap();
        assert_eq!(
            (arn.partition(), arn.account(), arn.name().as_str()),
            ("aws-cn", "123456789012", "exc_web")
        );
    }

    #[test]
    fn an_arn_that_is_not_a_roles_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "begin with"),
            ("exc_web", "begin with"),
            ("arn:aws:iam::123456789012:user/bob", "names \"user/bob\""),
            ("arn:aws:iam::123456789012:instance-profile/x", "names"),
            ("arn:asw:iam::123456789012:role/x", "partition"),
            ("arn:aws-:iam::123456789012:role/x", "partition"),
            ("arn:aws:sts::123456789012:assumed-role/x/y", "service"),
            ("arn:aws:iam:us-east-1:123456789012:role/x", "region"),
            ("arn:aws:iam:::role/x", "account"),
            ("arn:aws:iam::12345678901:role/x", "account"),
            ("arn:aws:iam::123456789012:role/", "name is 1 to 64"),
            ("arn:aws:iam::123456789012:role/a/..", "name is 1 to 64"),
            ("arn:aws:iam::123456789012:role/a b", "a space or another"),
            ("arn:aws:iam::123456789012:role/x\n", "a space or another"),
            ("arn:aws:iam::123456789012:role/é", "a space or another"),
            ("arn:aws:iam::123456789012", "names \"\""),
        ] {
            let error = RoleArn::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text:?} gave {error:?}");
            assert!(
                error.contains("arn:aws:iam::ACCOUNT:role/NAME"),
                "{error:?}"
            );
            assert!(!error.contains('\n'), "{error:?} is one line");
        }
    }
}
