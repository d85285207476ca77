//! What of the host's other metadata a container may know.

use serde::{Deserialize, Serialize};

/// What below `meta-data/` is read, each with all below it: what describes the instance, its place and its network. Not `iam` and
/// `identity-credentials`, which are rights of the host, and not `public-keys`, which say who may log in to it.
const ALLOWED: [&str; 30] = [
    "ami-id",
    "ami-launch-index",
    "ami-manifest-path",
    "ancestor-ami-ids",
    "autoscaling",
    "block-device-mapping",
    "elastic-gpus",
    "events",
    "hostname",
    "instance-action",
    "instance-id",
    "instance-life-cycle",
    "instance-type",
    "ipv6",
    "kernel-id",
    "local-hostname",
    "local-ipv4",
    "mac",
    "network",
    "placement",
    "product-codes",
    "profile",
    "public-hostname",
    "public-ipv4",
    "ramdisk-id",
    "reservation-id",
    "security-groups",
    "services",
    "spot",
    // There only if the instance's owner has said so (InstanceMetadataTags).
    "tags",
];
/// The document names the instance; its signatures prove that to others, and have a flag of their own.
const IDENTITY_DOCUMENT: &str = "dynamic/instance-identity/document";
const IDENTITY_SIGNATURES: [&str; 3] = [
    "dynamic/instance-identity/pkcs7",
    "dynamic/instance-identity/rsa2048",
    "dynamic/instance-identity/signature",
];
const USER_DATA: &str = "user-data";

/// What the user lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassThrough {
    /// User-data too.
    pub user_data: bool,
    /// The identity document's signatures too.
    pub identity_signature: bool,
}

impl PassThrough {
    /// Whether an entry of `meta-data/` may be known, with all below it.
    pub fn allows(entry: &str) -> bool {
        ALLOWED.contains(&entry)
    }

    /// The items beside `meta-data/` that may be known.
    pub fn documents(self) -> impl Iterator<Item = &'static str> {
        let signatures = IDENTITY_SIGNATURES.into_iter();
        [IDENTITY_DOCUMENT]
            .into_iter()
            .chain(signatures.filter(move |_| self.identity_signature))
            .chain(self.user_data.then_some(USER_DATA))
    }

    /// Whether what may be known can be at a path or below it. Paths are those below `/latest/`.
    pub fn may_hold(self, path: &str) -> bool {
        if let Some(below) = path.strip_prefix("meta-data/") {
            return below.split('/').next().is_some_and(Self::allows);
        }
        let leads_to = |document: &str| {
            let rest = document.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.documents().any(leads_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_known_can_be_below_what_leads_to_it_and_nowhere_else() {
        let plain = PassThrough::default();
        for path in [
            "meta-data/placement",
            "meta-data/spot/instance-action",
            "dynamic",
            "dynamic/instance-identity/document",
        ] {
            assert!(plain.may_hold(path), "{path}");
        }
        for path in [
            "meta-data/public-keys/0",
            "meta-data/iam/info",
            "meta-data/placements",
            "dynamic/instance-identity/pkcs7",
            "dynamic/instance",
            "user-data",
            "nowhere",
        ] {
            assert!(!plain.may_hold(path), "{path}");
        }
        let all = PassThrough {
            user_data: true,
            identity_signature: true,
        };
        assert!(all.may_hold("user-data") && all.may_hold("dynamic/instance-identity/pkcs7"));
    }
}
