//! The list of the host's metadata that containers are allowed to read with `--pass-through`.

use serde::{Deserialize, Serialize};

/// Entries of `meta-data/` that are fetched, each with its whole subtree. Three entries are left out for security: `iam` and
/// `identity-credentials` hold the host's credentials, and `public-keys` says who may log in to the host. `tags` exists only if
/// the instance's owner allows it (InstanceMetadataTags).
const ALLOWED: [&str; 30] = [
    "ami-id", "ami-launch-index", "ami-manifest-path", "ancestor-ami-ids", "autoscaling",
    "block-device-mapping", "elastic-gpus", "events", "hostname", "instance-action", "instance-id",
    "instance-life-cycle", "instance-type", "ipv6", "kernel-id", "local-hostname", "local-ipv4",
    "mac", "network", "placement", "product-codes", "profile", "public-hostname", "public-ipv4",
    "ramdisk-id", "reservation-id", "security-groups", "services", "spot", "tags",
];
/// The document that identifies the instance. `IDENTITY_SIGNATURES` are signatures of this document. With them, a container can
/// prove the host's identity to third parties, so they have an option of their own.
const IDENTITY_DOCUMENT: &str = "dynamic/instance-identity/document";
const IDENTITY_SIGNATURES: [&str; 3] = [
    "dynamic/instance-identity/pkcs7", "dynamic/instance-identity/rsa2048",
    "dynamic/instance-identity/signature",
];
const USER_DATA: &str = "user-data";

/// Which additional items `--pass-through` serves; each field is set by an option of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassThrough {
    pub user_data: bool,
    pub identity_signature: bool,
}

impl PassThrough {
    /// The items outside `meta-data/` that containers are allowed to read.
    pub(crate) fn documents(self) -> impl Iterator<Item = &'static str> {
        let signatures = IDENTITY_SIGNATURES.into_iter();
        [IDENTITY_DOCUMENT]
            .into_iter()
            .chain(signatures.filter(move |_| self.identity_signature))
            .chain(self.user_data.then_some(USER_DATA))
    }

    /// Whether `path`, relative to `/latest/`, may name an item that containers are allowed to read, or a directory above such an
    /// item.
    pub(crate) fn may_hold(self, path: &str) -> bool {
        if let Some(below) = path.strip_prefix("meta-data/") {
            return below.split('/').next().is_some_and(|entry| ALLOWED.contains(&entry));
        }
        let leads_to = |document: &str| {
            let rest = document.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path == "meta-data" || self.documents().any(leads_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn may_hold_accepts_only_paths_to_allowed_items() {
        let plain = PassThrough::default();
        for path in [
            "meta-data", "meta-data/placement", "meta-data/spot/instance-action", "dynamic",
            "dynamic/instance-identity/document",
        ] {
            assert!(plain.may_hold(path), "{path}");
        }
        for path in [
            "meta-data/public-keys/0", "meta-data/iam/info", "meta-data/placements",
            "dynamic/instance-identity/pkcs7", "dynamic/instance", "user-data", "nowhere",
        ] {
            assert!(!plain.may_hold(path), "{path}");
        }
        let all = PassThrough { user_data: true, identity_signature: true };
        assert!(all.may_hold("user-data") && all.may_hold("dynamic/instance-identity/pkcs7"));
    }
}
