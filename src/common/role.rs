//! The ARN and the name of a role, validated.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A role's ARN. An ARN of AWS is `arn:PARTITION:iam::ACCOUNT:role/[PATH/]NAME`
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>); an ARN of another STS may differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleArn(String);

/// STS's limit for the parameter `RoleArn`.
const MAX_ARN_LENGTH: usize = 2048;

impl RoleArn {
    /// Parses an ARN of AWS. The error is one line with the fault and the correct form.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write arn:aws:iam::ACCOUNT:role/NAME, ACCOUNT being 12 digits; \
             for the ARN of another STS, give its --endpoint-url";
        let field = |at: usize| field(text, at);
        let (partition, service, account) = (field(1), field(2), field(4));
        let resource = field(RESOURCE);
        // Check only the form of the partition, because AWS adds partitions: each is `aws`, or begins with `aws-`.
        let is_suffix = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        };
        let has_partition =
            partition == "aws" || partition.strip_prefix("aws-").is_some_and(is_suffix);
        let name = name_in(resource);
        let wrong = if text.starts_with(['"', '\'']) {
            "the quotes around it are part of it; remove them".to_owned()
        } else if field(0) != "arn" {
            "it does not begin with \"arn:\"".to_owned()
        } else if !has_partition {
            format!(
                "its partition is {partition:?}, not aws, aws-cn, aws-us-gov or another of AWS's"
            )
        } else if service != "iam" {
            format!("its service is {service:?}, not \"iam\"")
        } else if !field(3).is_empty() {
            "it has a region, which no role has".to_owned()
        } else if !is_account_id(account) {
            format!("its account is {account:?}")
        } else if resource.contains("arn:") {
            "it holds a second ARN; run one ec2-role for each role".to_owned()
        } else if name.is_none() {
            format!("it names {resource:?}, not \"role/NAME\"")
        } else if !resource.bytes().all(|b| b.is_ascii_graphic()) || text.len() > MAX_ARN_LENGTH {
            "it has a space or another character that no ARN has, or it is too long".to_owned()
        } else if let Err(why) = RoleName::parse(name.unwrap_or_default()) {
            why
        } else {
            return Ok(RoleArn(text.to_owned()));
        };
        Err(format!("{text:?} is not a role's ARN: {wrong}; {FORM}"))
    }

    /// Returns the parser for the ARNs of AWS's STS or of another STS.
    pub fn parser(is_other_sts: bool) -> fn(&str) -> Result<Self, String> {
        if is_other_sts { Self::parse_of_other_sts } else { Self::parse }
    }

    /// Parses an ARN of an STS other than AWS's (Ceph, MinIO, Dell ECS): six fields as in AWS's ARNs, with fewer checks.
    fn parse_of_other_sts(text: &str) -> Result<Self, String> {
        let name = name_in(field(text, RESOURCE));
        let is_role = name.is_some_and(|name| RoleName::parse(name).is_ok());
        let is_ascii = text.bytes().all(|b| b.is_ascii_graphic());
        if is_role && is_ascii && text.len() <= MAX_ARN_LENGTH {
            return Ok(RoleArn(text.to_owned()));
        }
        Err(format!(
            "{text:?} is not a role's ARN: write it as the STS of --endpoint-url names it, arn:PARTITION:iam::ACCOUNT:role/NAME"
        ))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the partition, such as `aws` or `aws-cn`; in an ARN of an STS other than AWS's, it may be any text.
    pub fn partition(&self) -> &str {
        field(&self.0, 1)
    }

    /// The account, if it is an AWS account id: twelve digits.
    pub fn account_id(&self) -> Option<&str> {
        Some(self.account()).filter(|account| is_account_id(account))
    }

    pub fn account(&self) -> &str {
        field(&self.0, 4)
    }

    /// Returns the InstanceProfileArn of `iam/info`, with `name` as its last part. Such an instance profile need not exist, but
    /// Python's ec2-metadata package takes the role's name from the end of this ARN.
    pub(crate) fn instance_profile(&self, name: &RoleName) -> String {
        let (partition, account) = (self.partition(), self.account());
        format!("arn:{partition}:iam::{account}:instance-profile/{}", name.as_str())
    }

    /// Returns the name, which follows the last slash. EC2 lists the name without the path.
    pub fn name(&self) -> RoleName {
        RoleName(self.0.rsplit('/').next().unwrap_or_default().to_owned())
    }
}

/// Index of the resource, the last of an ARN's six fields. The resource may contain colons, so it is not split further.
const RESOURCE: usize = 5;

fn field(arn: &str, at: usize) -> &str {
    arn.splitn(RESOURCE + 1, ':').nth(at).unwrap_or_default()
}

fn name_in(resource: &str) -> Option<&str> {
    resource.strip_prefix("role/")?.rsplit('/').next()
}

fn is_account_id(account: &str) -> bool {
    account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for RoleArn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A role's name, as it appears in the list of roles and in the path of the credential document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleName(String);

/// IAM's limit for the length of a role's name.
const MAX_NAME_LENGTH: usize = 64;

impl RoleName {
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        // Refuse `.` and `..`: a client that normalizes URLs would resolve them as path segments.
        if matches!(text, "" | "." | "..")
            || text.len() > MAX_NAME_LENGTH
            || !text.bytes().all(allowed)
        {
            return Err(format!(
                "a role's name is 1 to {MAX_NAME_LENGTH} letters, digits or any of +=,.@_-"
            ));
        }
        Ok(RoleName(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arn_has_partition_account_and_name() {
        let arn = RoleArn::parse("arn:aws-cn:iam::123456789012:role/team/a/exc_web").unwrap();
        assert_eq!(
            (arn.partition(), arn.account(), arn.name().as_str()),
            ("aws-cn", "123456789012", "exc_web")
        );
    }

    #[test]
    fn arn_that_is_not_a_roles_is_refused_with_the_reason() {
        let role = |length| format!("arn:aws:iam::123456789012:role/{}", "x".repeat(length));
        let long_path = |length| format!("{:y<1$}/x", role(1), length - 2);
        RoleArn::parse(&role(MAX_NAME_LENGTH)).unwrap();
        RoleArn::parse(&long_path(MAX_ARN_LENGTH)).unwrap();
        for (text, reason) in [
            ("", "begin with"),
            ("exc_web", "begin with"),
            ("'arn:aws:iam::123456789012:role/x'", "the quotes around it are part of it"),
            (&[role(1), role(1)].join(","), "a second ARN"),
            ("arn:aws:iam::123456789012:user/bob", "names \"user/bob\""),
            ("arn:aws:iam::123456789012:instance-profile/x", "names"),
            ("arn:asw:iam::123456789012:role/x", "partition"),
            ("arn:aws-:iam::123456789012:role/x", "partition"),
            ("arn:awsx:iam::123456789012:role/x", "partition"),
            ("arn:aws-CN:iam::123456789012:role/x", "partition"),
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
            (&role(MAX_NAME_LENGTH + 1), "name is 1 to 64"),
            (&long_path(MAX_ARN_LENGTH + 1), "too long"),
        ] {
            let error = RoleArn::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text:?} gave {error:?}");
            assert!(error.contains("arn:aws:iam::ACCOUNT:role/NAME"), "{error:?}");
            assert!(!error.contains('\n'), "{error:?} is one line");
        }
    }

    #[test]
    fn role_arns_of_another_sts_have_few_restrictions() {
        for text in [
            "arn:aws:iam:::role/x",
            "arn:aws:iam::RGW11111111111111111:role/a/x",
            "arn:minio:iam:::role/x",
            "urn:ecs:iam::ns1:role/x",
            "arn:aws:iam::123456789012:role/x",
        ] {
            let arn = RoleArn::parse_of_other_sts(text).unwrap();
            assert_eq!((arn.as_str(), arn.name().as_str()), (text, "x"));
        }
        for text in
            ["", "x", "arn:aws:iam:::user/x", "arn:aws:iam:::role/", "arn:aws:iam:::role/x\n"]
        {
            assert!(RoleArn::parse_of_other_sts(text).is_err(), "{text:?}");
        }
    }
}
