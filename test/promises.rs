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

/// Returns the names of all functions in the tests and the code.
fn functions() -> BTreeSet<String> {
    let (mut names, mut directories) = (BTreeSet::new(), vec!["test".into(), "src".into()]);
    while let Some(directory) = directories.pop() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join::<String>(directory);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path.to_str().unwrap().to_owned());
            } else if path
                .extension()
                .is_some_and(|end| end == "rs" || end == "py")
            {
                let text = fs::read_to_string(path).unwrap();
                let words = text.split_whitespace().collect::<Vec<_>>();
                let defined = words
                    .windows(2)
                    .filter(|pair| matches!(pair[0], "fn" | "def"));
                names
                    .extend(defined.filter_map(|pair| Some(pair[1].split_once('(')?.0.to_owned())));
            }
        }
    }
    names
}

#[test]
fn each_sentence_about_security_has_its_tests() {
    let (readme, tests, functions) = (page("README.md"), page("test/README.md"), functions());
    let rows = section(&tests, "What the README promises")
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
            functions.contains(name.trim_matches('`')),
            "{name}: there is no such test"
        );
    }
}

#[test]
fn each_documented_filter_of_cargo_test_matches_a_test() {
    let (figures, functions) = (page("test/bench/README.md"), functions());
    let commands: Vec<&str> = figures.split("--test behaviour ").skip(1).collect();
    assert!(!commands.is_empty());
    for command in commands {
        let filter = command.split_whitespace().next().unwrap();
        assert!(
            functions.iter().any(|name| name.contains(filter)),
            "{filter}: no test has such a name"
        );
    }
}
