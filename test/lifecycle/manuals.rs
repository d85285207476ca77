//! The man pages and completions that scripts/manuals makes of the help texts.

use std::fs;
use std::process::Command;

use crate::support::Directory;

#[test]
fn man_pages_and_completions_name_every_option() {
    let files = Directory::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let made = Command::new(format!("{root}/scripts/manuals"))
        .arg(files.path("manuals"))
        .arg(env!("CARGO_BIN_EXE_ec2-role"))
        .status();
    assert!(made.unwrap().success());
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
    let read = |name: &str| fs::read_to_string(files.path("manuals").join(name)).unwrap();
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

#[test]
fn bash_completes_options_and_their_values() {
    let files = Directory::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let made = Command::new(format!("{root}/scripts/manuals"))
        .args([files.text(""), env!("CARGO_BIN_EXE_ec2-role").to_owned()])
        .status();
    assert!(made.unwrap().success());
    for (before, typed, completed) in [
        ("ec2-role", "--log", "--log-format"),
        ("--log-format", "", "text json"),
        ("--http-tokens", "r", "required"),
        ("--token-key-file", "", ""),
    ] {
        let script = format!(
            ". ./ec2-role.bash; _ec2_role ec2-role '{typed}' {before}; echo ${{COMPREPLY[*]}}"
        );
        let bash = Command::new("bash")
            .args(["-c", &script])
            .current_dir(files.path(""))
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&bash.stdout).trim(),
            completed,
            "{bash:?}"
        );
    }
}
