//! The role's credential and the documents it is served in.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::clock::{self, BootTime};
use crate::common::secret::Secret;

/// The credential of the role, as STS gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The access key's id; not a secret.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The session token.
    pub session_token: Secret,
    /// When STS gave it, by STS's own clock.
    pub last_updated: SystemTime,
    /// When it ends, by STS's own clock.
    pub expiration: SystemTime,
    /// When it ends, by the one clock that nobody can set: its receipt plus what STS's clock said was left.
    pub deadline: BootTime,
}

impl Credential {
    /// The whole life that it had at its receipt.
    pub fn lifetime(&self) -> Duration {
        self.expiration
            .duration_since(self.last_updated)
            .unwrap_or_default()
    }

    /// Until when one may be served that was received at `received` from an STS whose clock then showed `date`. Its life is
    /// told by that clock and counted on CLOCK_BOOTTIME: this machine's own clock has no part in it. `None` if it has none left.
    pub fn deadline(
        expiration: SystemTime,
        date: SystemTime,
        received: BootTime,
    ) -> Option<BootTime> {
        let lifetime = expiration.duration_since(date).ok()?;
        Some(received.after(lifetime)).filter(|deadline| *deadline > received)
    }

    /// Whether it may still be served.
    pub fn is_valid(&self, now: BootTime) -> bool {
        now < self.deadline
    }

    /// The document of `…/iam/security-credentials/NAME`, byte for byte in EC2's form: this order, two spaces, ` : `, no
    /// newline at the end. No further key: s3fs counts those that it knows.
    pub fn ec2_document(&self) -> String {
        ec2_form(&[
            ("Code", "Success"),
            ("LastUpdated", &clock::iso8601(self.last_updated)),
            ("Type", "AWS-HMAC"),
            ("AccessKeyId", &self.access_key_id),
            ("SecretAccessKey", self.secret_access_key.expose()),
            ("Token", self.session_token.expose()),
            ("Expiration", &clock::iso8601(self.expiration)),
        ])
    }

    /// When STS gave it, as HTTP writes it (RFC 9110, 5.6.7).
    pub fn last_modified(&self) -> String {
        httpdate::fmt_http_date(self.last_updated)
    }

    /// What an SDK reads from a `credential_process`
    /// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>).
    pub fn process_document(&self) -> String {
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

/// An object of strings as EC2 writes it: `{`, a line for each pair, `}`.
pub fn ec2_form(pairs: &[(&str, &str)]) -> String {
    let mut form = Vec::new();
    let mut before = "{\n  \"";
    for (key, value) in pairs {
        for part in [before, key, "\" : "] {
            form.extend_from_slice(part.as_bytes());
        }
        // serde_json writes the string: it escapes what must be and never `/`, which fluent-bit could not read. Into memory it
        // cannot fail.
        _ = serde_json::to_writer(&mut form, value);
        before = ",\n  \"";
    }
    form.extend_from_slice(b"\n}");
    String::from_utf8(form).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        Credential {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: Secret::new("sec/ret+key"),
            session_token: Secret::new("tok/en=="),
            last_updated: clock::from_epoch_seconds(1_685_620_800.0).unwrap(),
            expiration: clock::from_epoch_seconds(1_685_624_400.0).unwrap(),
            deadline: BootTime(3_600_000),
        }
    }

    #[test]
    fn the_document_is_ec2s_to_the_byte() {
        assert_eq!(
            credential().ec2_document(),
            "{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"2023-06-01T12:00:00Z\",\n  \"Type\" : \"AWS-HMAC\",\n  \
             \"AccessKeyId\" : \"ASIAEXAMPLE\",\n  \"SecretAccessKey\" : \"sec/ret+key\",\n  \"Token\" : \"tok/en==\",\n  \
             \"Expiration\" : \"2023-06-01T13:00:00Z\"\n}"
        );
    }

    #[test]
    fn a_credential_is_valid_until_its_deadline_and_not_a_millisecond_more() {
        assert!(credential().is_valid(BootTime(3_599_999)));
        assert!(!credential().is_valid(BootTime(3_600_000)));
    }

    #[test]
    fn a_credential_hides_its_secrets_when_printed() {
        let printed = format!("{:?}", credential());
        assert!(!printed.contains("sec/ret") && !printed.contains("tok/en"));
    }
}
