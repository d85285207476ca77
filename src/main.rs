//! Picks the part to play.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use ec2_role::cli::{self, Invocation};
use ec2_role::common::environment::Environment;
use ec2_role::common::fault::Fault;
use ec2_role::common::log;
use ec2_role::common::process::ProcessKind;
use ec2_role::fetcher;
use ec2_role::messages::fetch_report::FetchReport;
use ec2_role::server;
use ec2_role::supervisor;

/// Something to correct: a supervisor need not start it again.
const EXIT_TO_CORRECT: u8 = 2;
/// It failed, and may work later.
const EXIT_FAILED: u8 = 1;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let part = ProcessKind::from_name(&words.next().unwrap_or_default());
    part.harden();
    if part == ProcessKind::Server {
        return match server::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("server: {error}"), EXIT_FAILED),
        };
    }
    let words: Vec<String> = words.collect();
    let environment = Environment::of_process();
    let invocation = match cli::parse(&words, &environment) {
        Ok(invocation) => invocation,
        Err(error) if part == ProcessKind::Fetcher => {
            fetcher::report(FetchReport::Failed(Fault::Permanent(error)));
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error, EXIT_TO_CORRECT),
    };
    match invocation {
        Invocation::Help(text) => print(&text),
        Invocation::Version(text) => print(&format!("{text}\n")),
        Invocation::Check(check) => match check.run() {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => fail(&error, EXIT_FAILED),
        },
        Invocation::CredentialProcess(arguments) => {
            match fetcher::print(&arguments, &environment) {
                Ok(document) => print(&format!("{document}\n")),
                Err(Fault::Permanent(error)) => fail(&error, EXIT_TO_CORRECT),
                Err(Fault::Transient(error)) => fail(&error, EXIT_FAILED),
            }
        }
        Invocation::Serve(arguments) if part == ProcessKind::Fetcher => {
            fetcher::run(&arguments, &environment);
            ExitCode::SUCCESS
        }
        Invocation::Serve(arguments) => match supervisor::run(&arguments, &words, &environment) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, EXIT_TO_CORRECT),
        },
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("stdout: {error}"), EXIT_FAILED),
    }
}

fn fail(error: &str, status: u8) -> ExitCode {
    log::event(error);
    ExitCode::from(status)
}
