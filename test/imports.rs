//! Checks the import rule of `src/README.md` on the sources themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each room (a directory of `src`, or `main`) may import from itself and from rooms with a greater number.
const RANKS: [(&str, u8); 7] = [
    ("main", 0),
    ("supervisor", 1),
    ("cli", 2),
    ("server", 2),
    ("fetcher", 2),
    ("messages", 3),
    ("common", 4),
];
/// The one allowed exception: `--check` uses the HTTP client.
const EXCEPTION: (&str, &str) = ("cli::check", "fetcher::http_client");

type Modules = BTreeMap<String, String>;
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn rooms_import_downward_only() {
    for (module, imported) in all_imports(&sources()) {
        let rank = |module: &str| RANKS.iter().find(|(room, _)| *room == room_of(module));
        for other in &imported {
            let (from, to) = (rank(&module).unwrap(), rank(other).unwrap());
            assert!(
                from.0 == to.0 || from.1 < to.1 || (module.as_str(), other.as_str()) == EXCEPTION,
                "{module} imports {other}"
            );
            assert!(
                !module.starts_with("server::protocol")
                    || to.0 != "server"
                    || other.starts_with("server::protocol"),
                "{module} imports {other}, of its parent"
            );
        }
    }
}

#[test]
fn modules_do_not_import_in_a_circle() {
    let mut imports = all_imports(&sources());
    // Drop each module that cannot be in a cycle: it imports none of the remaining modules, or none of them imports it. Repeat
    // this until no module is dropped. If modules remain, there is a cycle.
    loop {
        let count = imports.len();
        let targets: BTreeSet<String> = imports.values().flatten().cloned().collect();
        imports.retain(|module, imported| !imported.is_empty() && targets.contains(module));
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        for imported in imports.values_mut() {
            imported.retain(|module| left.contains(module));
        }
        if imports.len() == count {
            break;
        }
    }
    assert!(imports.is_empty(), "circles: {imports:?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let modules: Modules = ["a", "a::b", "a::c", "a::c::d", "common::log"]
        .map(|name| (name.to_owned(), String::new()))
        .into();
    let text = "use super::{b, c::{d::{self, X}, Y}}; // crate::common::log\nfn f() { crate::common::log::event() }";
    let found = imports_of(text, "a::e", &modules);
    assert_eq!(
        found,
        ["a::b", "a::c", "a::c::d", "common::log"]
            .map(str::to_owned)
            .into()
    );
    let children = imports_of("", "a", &modules);
    assert_eq!(children, ["a::b", "a::c"].map(str::to_owned).into());
}

fn room_of(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn all_imports(modules: &Modules) -> Imports {
    let imports =
        |(module, text): (&String, &String)| (module.clone(), imports_of(text, module, modules));
    modules.iter().map(imports).collect()
}

/// Returns the modules on which this source depends: those whose items it names, and its child modules, which it declares.
fn imports_of(text: &str, module: &str, modules: &Modules) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut paths = Vec::new();
    for (start, base) in [("crate::", ""), ("ec2_role::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(start) {
            expand(base, &code[at + start.len()..], &mut paths);
        }
    }
    let is_child = |name: &&String| {
        name.rsplit_once("::")
            .is_some_and(|(above, _)| above == module)
    };
    let children = modules.keys().filter(is_child).cloned();
    let named = paths
        .iter()
        .filter_map(|path| longest_module(path, modules));
    let mut imports: BTreeSet<String> = named.chain(children).collect();
    imports.remove(module);
    imports
}

/// Appends each path of a use tree, `a::{b, c::{self, d}}`, and returns the text after the tree.
fn expand<'a>(base: &str, tree: &'a str, paths: &mut Vec<String>) -> &'a str {
    let end = tree
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(tree.len());
    let path = format!("{base}::{}", &tree[..end]);
    let path = path.trim_matches(':');
    let mut rest = &tree[end..];
    if !rest.starts_with('{') {
        paths.push(path.to_owned());
        return rest;
    }
    while let Some(inner) = rest.strip_prefix(['{', ',']) {
        rest = expand(path, inner.trim_start(), paths).trim_start();
    }
    rest.strip_prefix('}').unwrap_or(rest)
}

fn longest_module(mut path: &str, modules: &Modules) -> Option<String> {
    loop {
        if modules.contains_key(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// Returns the code of each source file, without its tests, keyed by module path.
fn sources() -> Modules {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = Modules::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            let Some(name) = name.strip_suffix(".rs") else {
                continue;
            };
            let module = name.trim_end_matches("/mod").replace('/', "::");
            if module != "lib" {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                modules.insert(module, code.to_owned());
            }
        }
    }
    modules
}
