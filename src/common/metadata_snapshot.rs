//! The host's other metadata, as it was at one moment: what `--pass-through` serves from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::common::clock::BootTime;

/// What warns of an interruption is worth nothing when it is older than this: AWS gives two minutes' notice.
const MAX_AGE_OF_WARNINGS: Duration = Duration::from_secs(120);

/// One item of the metadata, which may be secret: user-data, or a signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its type: EC2 has two.
    pub is_binary: bool,
    /// Its bytes, unchanged.
    pub body: Vec<u8>,
}

impl fmt::Debug for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.body.len())
    }
}

/// All items by their path below `/latest/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When they were read.
    pub taken: BootTime,
    /// The items.
    pub items: BTreeMap<String, Item>,
    /// How many more there were than can be held.
    pub left_out: usize,
}

impl Snapshot {
    /// Whether a path tells of an interruption to come, and this snapshot is too old for that.
    pub fn is_too_old_for(&self, path: &str, now: BootTime) -> bool {
        let warns = ["meta-data/spot", "meta-data/events"]
            .iter()
            .any(|root| path.starts_with(root));
        warns && self.taken.after(MAX_AGE_OF_WARNINGS) < now
    }

    /// The length of all paths and bodies.
    pub fn bytes(&self) -> usize {
        let items = self.items.iter();
        items.map(|(path, item)| path.len() + item.body.len()).sum()
    }
}

/// The entries of a directory, given all leaves below the root: names in order, those that are directories with a slash.
/// `None` if nothing is below it.
pub fn entries<'a>(leaves: impl Iterator<Item = &'a str>, directory: &str) -> Option<Vec<String>> {
    let mut entries: Vec<String> = leaves
        .filter_map(|leaf| leaf.strip_prefix(directory)?.strip_prefix('/'))
        .map(|below| match below.split_once('/') {
            Some((name, _)) => format!("{name}/"),
            None => below.to_owned(),
        })
        .collect();
    entries.sort();
    entries.dedup();
    Some(entries).filter(|entries| !entries.is_empty())
}

/// The first level, which EC2 lists without slashes: `dynamic`, `meta-data`, `user-data`.
pub fn roots<'a>(leaves: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut roots: Vec<String> = leaves
        .filter_map(|leaf| leaf.split('/').next())
        .map(str::to_owned)
        .collect();
    roots.sort();
    roots.dedup();
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let item = |is_binary, body: &[u8]| Item {
            is_binary,
            body: body.to_vec(),
        };
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
    fn a_directory_lists_what_is_below_it_once() {
        let snapshot = snapshot();
        let list = |directory| entries(snapshot.items.keys().map(String::as_str), directory);
        assert_eq!(
            list("meta-data").unwrap(),
            ["instance-id", "placement/", "spot/"]
        );
        assert_eq!(list("meta-data/placement").unwrap(), ["region"]);
        assert_eq!(list("meta-data/instance"), None);
        assert_eq!(list("meta-data/instance-id"), None);
    }

    #[test]
    fn a_warning_is_too_old_after_two_minutes_and_a_name_never() {
        let snapshot = snapshot();
        assert!(!snapshot.is_too_old_for("meta-data/spot/instance-action", BootTime(121_000)));
        assert!(snapshot.is_too_old_for("meta-data/spot/instance-action", BootTime(121_001)));
        assert!(!snapshot.is_too_old_for("meta-data/instance-id", BootTime(u64::MAX)));
    }
}
