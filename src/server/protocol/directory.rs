//! Makes directory listings from the paths of all items.

use std::collections::BTreeSet;

/// Returns the sorted names in a directory, with a slash after each subdirectory; an empty set if no item is below the directory.
pub fn entries<'a>(paths: impl Iterator<Item = &'a str>, directory: &str) -> BTreeSet<&'a str> {
    let below = paths.filter_map(|path| path.strip_prefix(directory)?.strip_prefix('/'));
    below.filter_map(|path| path.split_inclusive('/').next()).collect()
}

/// Returns the names of the first level, which EC2 lists without slashes: `dynamic`, `meta-data`, `user-data`.
pub fn roots<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    paths.filter_map(|path| path.split('/').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_lists_each_name_below_it_once() {
        let paths = [
            "meta-data/instance-id", "meta-data/placement/region", "meta-data/placement/zone",
            "user-data",
        ];
        let list = |directory| entries(paths.into_iter(), directory);
        assert_eq!(list("meta-data"), BTreeSet::from(["instance-id", "placement/"]));
        assert_eq!(list("meta-data/placement"), BTreeSet::from(["region", "zone"]));
        assert_eq!(list("meta-data/instance"), BTreeSet::new());
        assert_eq!(list("meta-data/instance-id"), BTreeSet::new());
        assert_eq!(roots(paths.into_iter()), BTreeSet::from(["meta-data", "user-data"]));
    }
}
