//! Makes directory listings from the paths of all items.

use std::collections::BTreeSet;

/// Returns the sorted names in a directory, with a slash after each subdirectory; `None` if no item is below the directory.
pub fn entries<'a>(paths: impl Iterator<Item = &'a str>, directory: &str) -> Option<Vec<String>> {
    let entries: BTreeSet<String> = paths
        .filter_map(|path| path.strip_prefix(directory)?.strip_prefix('/'))
        .map(|below| match below.split_once('/') {
            Some((name, _)) => format!("{name}/"),
            None => below.to_owned(),
        })
        .collect();
    (!entries.is_empty()).then(|| entries.into_iter().collect())
}

/// Returns the names of the first level, which EC2 lists without slashes: `dynamic`, `meta-data`, `user-data`.
pub fn roots<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let roots: BTreeSet<&str> = paths.filter_map(|path| path.split('/').next()).collect();
    roots.into_iter().map(str::to_owned).collect()
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
        assert_eq!(list("meta-data").unwrap(), ["instance-id", "placement/"]);
        assert_eq!(list("meta-data/placement").unwrap(), ["region", "zone"]);
        assert_eq!(list("meta-data/instance"), None);
        assert_eq!(list("meta-data/instance-id"), None);
        assert_eq!(roots(paths.into_iter()), ["meta-data", "user-data"]);
    }
}
