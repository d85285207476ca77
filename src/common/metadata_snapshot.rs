//! Defines the metadata snapshot: the copy of the host's metadata that one fetch makes and `--pass-through` serves.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::BootTime;

/// Maximum age of a snapshot whose notices are served. AWS sends a spot interruption notice two minutes before the interruption,
/// so an older notice is useless. Notices of maintenance events and of Auto Scaling have the same limit.
const MAX_AGE_OF_NOTICES: Duration = Duration::from_secs(120);

/// A metadata item. It may be secret (user data, a signature), so it has no `Debug` form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// EC2 has two content types: octet-stream for binary items, plain text for the others.
    pub is_binary: bool,
    pub body: Vec<u8>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub taken: BootTime,
    /// Items by path; paths are relative to `/latest/`.
    pub items: BTreeMap<String, Item>,
    /// The number of items and directories that were left out because they were too many or too large.
    pub left_out: usize,
}

impl Snapshot {
    /// Whether `path` leads to notices (of spot, maintenance or Auto Scaling) and the snapshot is too old for them.
    pub(crate) fn is_too_old_for(&self, path: &str, now: BootTime) -> bool {
        let roots = ["meta-data/spot", "meta-data/events", "meta-data/autoscaling"];
        let is_notice = roots.iter().any(|root| path.starts_with(root));
        is_notice && self.taken.after(MAX_AGE_OF_NOTICES) < now
    }

    /// The total length of all paths and bodies.
    pub(crate) fn bytes(&self) -> usize {
        let items = self.items.iter();
        items.map(|(path, item)| path.len() + item.body.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let item = |is_binary, body: &[u8]| Item { is_binary, body: body.to_vec() };
        let items = [
            ("meta-data/instance-id", item(false, b"i-1")),
            ("meta-data/placement/region", item(false, b"eu-west-1")),
            ("meta-data/spot/instance-action", item(false, b"{}")),
            ("user-data", item(true, b"\x1f\x8b\0")),
        ];
        Snapshot {
            taken: BootTime(1000),
            items: items.map(|(path, item)| (path.to_owned(), item)).into(),
            left_out: 1,
        }
    }

    #[test]
    fn size_of_a_snapshot_is_that_of_its_paths_and_bodies() {
        assert_eq!(snapshot().bytes(), (21 + 3) + (26 + 9) + (30 + 2) + (9 + 3));
    }

    #[test]
    fn notices_expire_after_two_minutes_and_other_items_never() {
        let snapshot = snapshot();
        assert!(!snapshot.is_too_old_for("meta-data/spot/instance-action", BootTime(121_000)));
        assert!(snapshot.is_too_old_for("meta-data/spot/instance-action", BootTime(121_001)));
        assert!(!snapshot.is_too_old_for("meta-data/instance-id", BootTime(u64::MAX)));
    }
}
