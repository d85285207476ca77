//! Checks the man pages and completions that scripts/manuals makes of the help texts.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Directory, skip};

fn make_manuals() -> Directory {
    let files = Directory::new();
    let made = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/manuals"))
        .args([&files.text(""), env!("CARGO_BIN_EXE_ec2-role")])
        .status();
    assert!(made.unwrap().success());
    files
}

#[test]
fn man_pages_and_completions_name_every_option() {
    let files = make_manuals();
    let help = Command::new(env!("CARGO_BIN_EXE_ec2-role"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  --")?.split(' ').next())
        .collect();
    assert!(options.len() > 20, "{help}");
    let read = |name: &str| fs::read_to_string(files.path(name)).unwrap();
    let page = read("man/ec2-role.8").replace("\\-", "-");
    let completions = [
        (read("ec2-role.bash"), "--"),
        (read("_ec2-role"), "--"),
        (read("ec2-role.fish"), " -l "),
    ];
    for option in options {
        let paragraph = format!("\n.TP\n.B   --{option}");
        assert!(page.contains(&paragraph), "{option}: {page}");
        for (text, before) in &completions {
            assert!(
                text.contains(&format!("{before}{option}")),
                "{option}: {text}"
            );
        }
    }
}

/// Types command lines with tabs into an interactive shell, and checks how the shell completes them. In this shell `ec2-role` is
/// a function that prints its arguments.
fn complete(shell: &str, set_up: &str) {
    let rows = [
        ("--log-f\t", "--log-format"),
        ("--log-format j\t", "--log-format json"),
        ("--log-format=j\t", "--log-format=json"),
        ("--log-format=\tj\t --quie\t", "--log-format=json --quiet"),
        ("--http-tokens=r\t", "--http-tokens=required"),
        (
            "--tags=a=b --tags c=d --js\t",
            "--tags=a=b --tags c=d --json",
        ),
        ("--token-key-file=/dev/nul\t", "--token-key-file=/dev/null"),
        ("--token-key-file /dev/nul\t", "--token-key-file /dev/null"),
    ];
    let files = make_manuals();
    let script = Command::new("script")
        .args(["--quiet", "--command", shell, "/dev/null"])
        .envs([("TERM", "dumb"), ("HOME", &files.text(""))])
        .current_dir(files.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut script = script.unwrap();
    let typed = rows
        .map(|(typed, _)| format!("ec2-role {typed}\n"))
        .concat();
    let mut stdin = script.stdin.take().unwrap();
    write!(stdin, "{set_up}\n{typed}exit\n").unwrap();
    drop(stdin);
    let shown = String::from_utf8(script.wait_with_output().unwrap().stdout).unwrap();
    for (typed, completed) in rows {
        let expected = format!("<{completed}>");
        assert!(shown.contains(&expected), "{typed:?}: {shown}");
    }
}

fn is_installed(shell: &str) -> bool {
    let found = Command::new(shell).args(["-c", "true"]).status().is_ok();
    if !found {
        skip(&format!("needs {shell}"));
    }
    found
}

#[test]
fn bash_completes_options_and_their_values() {
    complete(
        "bash --norc --noprofile -i",
        ". ./ec2-role.bash; ec2-role() { echo \"<$*>\"; }",
    );
}

#[test]
fn zsh_completes_options_and_their_values() {
    if is_installed("zsh") {
        let set_up = "fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; ec2-role() { echo \"<$*>\" }";
        complete("zsh -f -i", set_up);
    }
}

#[test]
fn fish_completes_options_and_their_values() {
    if is_installed("fish") {
        let set_up = "source ec2-role.fish; function ec2-role; echo \"<$argv>\"; end";
        complete("fish --no-config -i", set_up);
    }
}
