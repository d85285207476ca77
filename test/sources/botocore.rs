//! Compares ec2-role with the botocore that scripts/setup installs: the parsing of shared files, and the endpoints of partitions.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use ec2_role::fetcher::shared_file;
use ec2_role::fetcher::sts::{Endpoint, EndpointOptions};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::{Directory, skip};

const FILES: usize = 1500;

fn venv() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/venv")
}

/// A line of a shared file, with any indentation. Lines that people often write are more frequent.
fn line() -> impl Strategy<Value = String> {
    let indent = prop_oneof![5 => Just(""), 2 => Just("  "), 1 => Just("    "), 1 => Just("\t")];
    // No word begins with `#` or `;`, because after white space `shared_file` removes it as a comment, but botocore keeps it.
    let word = "[a-zA-Z0-9_./+@é\u{4e2d}][a-zA-Z0-9_./+@é\u{4e2d}#;-]{0,5}";
    let value = prop_oneof![
        6 => word,
        1 => Just(String::new()),
        1 => "[a-z]{1,3}=[a-z]{1,3}",
        1 => "[a-z]{1,3} [a-z:]{1,3}",
        1 => "'[a-z ]{1,5}' \"[a-z ]{1,5}\"",
    ];
    let delimiter = prop_oneof![
        Just(" = "),
        Just("="),
        Just(": "),
        Just("  =\t"),
        Just(" : ")
    ];
    let setting = ("[a-zA-Z_]{3,9}", delimiter, value.clone())
        .prop_map(|(key, delimiter, value)| format!("{key}{delimiter}{value}"));
    let header = prop_oneof![
        Just("[default]"),
        Just("[profile web]"),
        Just("[profile  web2]"),
        Just("[ profile web3 ]"),
        Just("[profile 'a b']"),
        Just("[services local]"),
    ];
    let content = prop_oneof![
        10 => setting,
        2 => header.prop_map(str::to_owned),
        2 => value,
        1 => "[#;][a-z =]{0,6}",
        1 => "[ \t]{0,3}",
    ];
    (indent, content).prop_map(|(indent, content)| format!("{indent}{content}"))
}

fn file() -> impl Strategy<Value = String> {
    let lines = prop::collection::vec(line(), 0..12);
    (lines, any::<bool>(), any::<bool>()).prop_map(|(lines, is_windows, has_header)| {
        let end = if is_windows { "\r\n" } else { "\n" };
        let start = if has_header {
            "[profile first]"
        } else {
            "[default]"
        };
        [start.to_owned()]
            .into_iter()
            .chain(lines)
            .map(|line| line + end)
            .collect()
    })
}

#[test]
fn shared_files_are_parsed_as_botocore_parses_them() {
    let python = venv().join("bin/python");
    if !python.exists() {
        return skip("target/venv is not there; run scripts/setup python");
    }
    let directory = Directory::new();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let file = file();
    let files: Vec<String> = (0..FILES)
        .map(|_| file.new_tree(&mut runner).unwrap().current())
        .collect();
    for (number, text) in files.iter().enumerate() {
        std::fs::write(directory.path(&number.to_string()), text).unwrap();
    }
    let script =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("test/sources/parse_with_botocore.py");
    let output = Command::new(python)
        .arg(script)
        .arg(directory.path(""))
        .env("PYTHONUTF8", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    type Parsed = BTreeMap<String, Option<BTreeMap<String, BTreeMap<String, String>>>>;
    let parsed: Parsed = serde_json::from_slice(&output.stdout).unwrap();
    let mut compared = 0;
    for (number, text) in files.iter().enumerate() {
        if let Some(expected) = &parsed[&number.to_string()] {
            compared += 1;
            assert_eq!(&shared_file::parse(text), expected, "{text}");
        }
    }
    let refused = FILES - compared;
    _ = writeln!(
        std::io::stderr(),
        "botocore: {compared} files parsed alike, {refused} that it refuses"
    );
    assert!(compared > FILES / 4, "{compared}");
}

#[test]
fn each_partition_has_the_endpoints_that_botocore_knows() {
    let pattern = venv().join("lib");
    let data = std::fs::read_dir(pattern)
        .ok()
        .and_then(|mut it| it.next()?.ok());
    let data = data.map(|python| {
        python
            .path()
            .join("site-packages/botocore/data/partitions.json")
    });
    let Some(Ok(text)) = data.map(std::fs::read_to_string) else {
        return skip("target/venv is not there; run scripts/setup python");
    };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let partitions = json["partitions"].as_array().unwrap();
    assert!(partitions.len() >= 8);
    for partition in partitions {
        let (id, outputs) = (partition["id"].as_str().unwrap(), &partition["outputs"]);
        for (dual_stack, suffix) in [(false, "dnsSuffix"), (true, "dualStackDnsSuffix")] {
            let options = EndpointOptions {
                partition: id,
                region: Some("x-y-1"),
                dual_stack,
                ..EndpointOptions::default()
            };
            let endpoint = Endpoint::find(&options).unwrap();
            let suffix = outputs[suffix].as_str().unwrap();
            assert_eq!(endpoint.url, format!("https://sts.x-y-1.{suffix}/"), "{id}");
        }
    }
}
