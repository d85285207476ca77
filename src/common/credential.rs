//! The role's credential, and the documents that contain it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clock::{self, BootTime};
use super::secret::Secret;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    /// When STS issued the credential, by STS's clock.
    pub last_updated: SystemTime,
    /// When the credential expires, by STS's clock.
    pub expiration: SystemTime,
    /// The expiration on CLOCK_BOOTTIME, which cannot be set.
    pub deadline: BootTime,
}

impl Credential {
    /// The time from issue to expiration; `assume_role_call.rs` limits it to the duration that the user requested.
    pub(crate) fn lifetime(&self) -> Duration {
        self.expiration.duration_since(self.last_updated).unwrap_or_default()
    }

    pub(crate) fn is_valid(&self, now: BootTime) -> bool {
        now < self.deadline
    }

    /// Returns the document at `…/iam/security-credentials/NAME` with EC2's key order and white space. AccountId, which EC2 omits
    /// here, is added for JavaScript's SDK. RoleArn is left out, because s3fs refuses a document that has this key.
    pub fn ec2_document(&self, account_id: Option<&str>) -> String {
        let last_updated = clock::iso8601(self.last_updated);
        let expiration = clock::iso8601(self.expiration);
        let mut pairs = vec![
            ("Code", "Success"),
            ("LastUpdated", &last_updated),
            ("Type", "AWS-HMAC"),
            ("AccessKeyId", &self.access_key_id),
            ("SecretAccessKey", self.secret_access_key.expose()),
            ("Token", self.session_token.expose()),
            ("Expiration", &expiration),
        ];
        pairs.extend(account_id.map(|id| ("AccountId", id)));
        ec2_form(&pairs)
    }

    /// Returns the credential as the output of a `credential_process`
    /// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).
    pub(crate) fn process_document(&self) -> String {
        json!({
            "Version": 1,
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.secret_access_key.expose(),
            "SessionToken": self.session_token.expose(),
            "Expiration": clock::iso8601(self.expiration),
        })
        .to_string()
    }
}

/// Formats a JSON object of strings in EC2's form, one pair per line.
pub fn ec2_form(pairs: &[(&str, &str)]) -> String {
    // serde_json writes `/` without a backslash. This is necessary, because fluent-bit cannot parse `\/`.
    let line = |(key, value): &(&str, &str)| format!("  \"{key}\" : {}", json!(value));
    let lines: Vec<String> = pairs.iter().map(line).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        Credential {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: Secret::new("sec/ret+key"),
            session_token: Secret::new("tok/en=="),
            last_updated: clock::parse_iso8601("2023-06-01T12:00:00Z").unwrap(),
            expiration: clock::parse_iso8601("2023-06-01T13:00:00Z").unwrap(),
            deadline: BootTime(3_600_000),
        }
    }

    #[test]
    fn document_is_ec2s_to_the_byte() {
        assert_eq!(
            credential().ec2_document(Some("123456789012")),
            "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2023-06-01T12:00:00Z\",\n  \"Type\" : \"AWS-HMAC\",\n  \
             \"AccessKeyId\" : \"ASIAEXAMPLE\",\n  \"SecretAccessKey\" : \"sec/ret+key\",\n  \"Token\" : \"tok/en==\",\n  \
             \"Expiration\" : \"2023-06-01T13:00:00Z\",\n  \"AccountId\" : \"123456789012\"\n}"
        );
        assert!(!credential().ec2_document(None).contains("AccountId"));
    }

    #[test]
    fn credential_is_valid_until_its_deadline() {
        assert!(credential().is_valid(BootTime(3_599_999)));
        assert!(!credential().is_valid(BootTime(3_600_000)));
    }

    #[test]
    fn debug_form_hides_secrets() {
        let printed = format!("{:?}", credential());
        assert!(!printed.contains("sec/ret") && !printed.contains("tok/en"));
    }
}
