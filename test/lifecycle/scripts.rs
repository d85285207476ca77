//! Checks how the programs in scripts/ react to --help, to unknown arguments and to invalid ones.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{Directory, namespace};

/// The executable files in scripts/, without `manuals`, which has no --help.
fn scripts() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let scripts: Vec<PathBuf> = entries
        .filter(|entry| {
            let metadata = entry.metadata().unwrap();
            metadata.is_file() && metadata.permissions().mode() & 0o100 != 0
        })
        .map(|entry| entry.path())
        .filter(|path| !path.ends_with("manuals"))
        .collect();
    assert!(scripts.len() > 15, "{scripts:?}");
    scripts
}

#[track_caller]
fn assert_is_refused(output: &Output, named: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(2), 0),
        "{stderr}"
    );
    assert!(
        stderr.contains(named) && stderr.lines().count() == 1,
        "{named}: {stderr}"
    );
}

#[test]
fn each_script_prints_its_help_wherever_it_is_started() {
    let elsewhere = Directory::new();
    for script in scripts() {
        let link = elsewhere.path(script.file_name().unwrap().to_str().unwrap());
        symlink(&script, &link).unwrap();
        for option in ["--help", "-h"] {
            let mut command = Command::new(&link);
            let output = command.arg(option).current_dir("/").output().unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{script:?}: {output:?}"
            );
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(
                help.to_lowercase().starts_with("usage: "),
                "{script:?}: {help}"
            );
        }
    }
}

#[test]
fn each_script_refuses_unknown_arguments() {
    let as_ordinary_user = ["unshare", "--user"];
    if !namespace::can(&as_ordinary_user) {
        return;
    }
    for script in scripts() {
        for words in [&[][..], &as_ordinary_user] {
            let mut command = Command::new("env");
            let output = command.args(words).arg(&script).arg("--frob").output();
            assert_is_refused(&output.unwrap(), "--frob");
        }
    }
}

#[test]
fn invalid_arguments_of_developer_scripts_are_named() {
    for (script, arguments, named) in [
        ("bench", "--quick extra", "extra"),
        ("build", "--all extra", "extra"),
        ("fuzz", "arn 0", "0"),
        ("fuzz", "frob 1", "frob"),
        ("image", "--arch", "--arch: needs a value"),
        ("release", "--deb --rpm", "--deb --rpm: give one"),
        ("setup", "--all", "name a part"),
        ("setup", "build frob", "frob"),
        ("test", "--debian", "SUITE"),
        ("test-hostile", "--wait", "--wait: needs a value"),
        ("test-hostile", "--wait x", "--wait x"),
        ("test-hostile", "5x", "5x"),
        ("test-soak", "", "MINUTES"),
        ("test-soak", "1.2.3", "1.2.3"),
        ("test-soak", "1 --frob", "--frob"),
    ] {
        let path = format!("{}/scripts/{script}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(path)
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        assert_is_refused(&output, named);
    }
}
