//! Measures the static binary under load and attacks: `hostile`, `crowd` and `soak`, each described by its script
//! (scripts/test-hostile and so on). Everything stays on this machine, and the number of connections is bounded.

// Each test program uses only a part of `support`.
#[allow(dead_code, unused_imports)]
#[path = "../support/mod.rs"]
mod support;

mod attack;
mod bounds;
mod client;
mod crowd;
mod hostile;
mod processes;
mod soak;
mod subject;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let missed = match words[..] {
        ["hostile", program, seconds, wait, only] => hostile::run(
            program,
            seconds.parse().unwrap(),
            wait.parse().unwrap(),
            only,
        ),
        ["crowd", program] => crowd::run(program),
        ["soak", program, minutes] => soak::run(program, minutes.parse().unwrap()),
        _ => vec!["load: to be run by scripts/test-hostile, test-crowd or test-soak".to_owned()],
    };
    missed.iter().for_each(|line| eprintln!("missed: {line}"));
    if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
