//! Checks that the table in test/README.md has a row for each sentence of README.md's sections Security and Limitations, and that
//! the tests in the table, and those in the commands of test/bench/README.md, exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// Splits a section that is a Markdown list into its sentences.
fn sentences(section: &str) -> Vec<String> {
    let items = section
        .split("\n- ")
        .skip(1)
        .filter_map(|item| item.split("\n\n").next());
    let items = items.map(|item| item.split_whitespace().collect::<Vec<_>>().join(" "));
    let split = |item: String| item.split(". ").map(str::to_owned).collect::<Vec<_>>();
    items.flat_map(split).collect()
}

/// Returns the names of all tests, in Rust and in Python.
fn all_tests() -> BTreeSet<String> {
    let (mut names, mut directories) = (BTreeSet::new(), vec!["test".into(), "src".into()]);
    while let Some(directory) = directories.pop() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join::<String>(directory);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path.to_str().unwrap().to_owned());
                continue;
            }
            let end = path.extension().unwrap_or_default().to_owned();
            if end != "rs" && end != "py" {
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            // In Rust, other attributes can follow `#[test]`.
            let begins: Vec<&str> = if end == "rs" {
                let tests = text.split("#[test]\n").skip(1);
                tests
                    .filter_map(|test| Some(test.split_once("fn ")?.1))
                    .collect()
            } else {
                let functions = text.split("\ndef ").skip(1);
                functions.filter(|name| name.starts_with("test_")).collect()
            };
            let defined = begins.into_iter().filter_map(|begin| begin.split_once('('));
            names.extend(defined.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

#[test]
fn each_sentence_about_security_has_its_tests() {
    let (readme, table, tests) = (page("README.md"), page("test/README.md"), all_tests());
    let rows = section(&table, "What the README promises")
        .lines()
        .filter(|line| line.starts_with("| "));
    let rows: Vec<Vec<&str>> = rows
        .skip(1)
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    let begins: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    let sentences = ["Security", "Limitations"].map(|heading| sentences(section(&readme, heading)));
    let sentences: Vec<String> = sentences.into_iter().flatten().collect();
    assert!(sentences.len() > 10, "{sentences:?}");
    for sentence in &sentences {
        let row = begins.iter().filter(|begin| sentence.starts_with(**begin));
        assert_eq!(row.count(), 1, "rows of {sentence:?}");
    }
    assert_eq!(
        begins.len(),
        sentences.len(),
        "a row that begins no sentence"
    );
    for name in rows
        .iter()
        .flat_map(|row| row[2].split(", "))
        .filter(|name| *name != "—")
    {
        assert!(
            tests.contains(name.trim_matches('`')),
            "{name}: there is no such test"
        );
    }
}

#[test]
fn each_documented_filter_of_cargo_test_matches_a_test() {
    let (figures, tests) = (page("test/bench/README.md"), all_tests());
    let commands: Vec<&str> = figures.split("--test behaviour ").skip(1).collect();
    assert!(!commands.is_empty());
    for command in commands {
        let filter = command.split_whitespace().next().unwrap();
        assert!(
            tests.iter().any(|name| name.contains(filter)),
            "{filter}: no test has such a name"
        );
    }
}
