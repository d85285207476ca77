//! Entry point of every process: argument zero names the kind of process to run.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use ec2_role::cli::{self, Invocation};
use ec2_role::common::{
    Environment, Fault, ProcessKind, limit,
    log::{
        self, Format,
        writer::{self, LogWriter},
    },
};
use ec2_role::fetcher;
use ec2_role::server;
use ec2_role::supervisor;

/// Exit status for a permanent fault: only the user can correct it, so the systemd unit does not restart ec2-role.
const EXIT_PERMANENT: u8 = 2;
/// Exit status for a transient fault: a later try may succeed.
const EXIT_TRANSIENT: u8 = 1;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    log::log_panics();
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let kind = ProcessKind::from_name(&words.next().unwrap_or_default());
    kind.harden();
    if kind == ProcessKind::LogWriter {
        writer::run();
        return ExitCode::SUCCESS;
    }
    if kind == ProcessKind::Server {
        return match server::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("server: {}", limit::name(&error)), EXIT_TRANSIENT),
        };
    }
    let words: Vec<String> = words.collect();
    let environment = Environment::of_process();
    let mut format = Format {
        priority: log::is_journal(environment.get("JOURNAL_STREAM")),
        json: cli::asks_for_json(&words, &environment),
        ..Format::default()
    };
    log::set_format(format.clone());
    let invocation = match cli::parse(&words, &environment) {
        Ok(invocation) => invocation,
        Err(error) if cli::asks_for_json_check(&words) => {
            print(&format!("{}\n", cli::unhealthy(None, &error)));
            return ExitCode::from(EXIT_PERMANENT);
        }
        Err(error) => return fail(&error, EXIT_PERMANENT),
    };
    match invocation {
        Invocation::Print(text) => print(&text),
        Invocation::Check(check) => match check.run() {
            Ok(text) => print(&format!("{text}\n")),
            Err(text) if check.json => {
                print(&format!("{text}\n"));
                ExitCode::from(EXIT_TRANSIENT)
            }
            Err(error) => fail(&error, EXIT_TRANSIENT),
        },
        Invocation::CredentialProcess(config) => match fetcher::print(&config) {
            Ok(document) => print(&format!("{document}\n")),
            Err(Fault::Permanent(error)) => fail(&error, EXIT_PERMANENT),
            Err(Fault::Transient(error)) => fail(&error, EXIT_TRANSIENT),
        },
        Invocation::Serve(config) => {
            format.time = !format.priority;
            format.json = config.json_log;
            format.role = config.role.as_str().to_owned();
            log::set_format(format);
            if kind == ProcessKind::Fetcher {
                fetcher::run(&config);
                return ExitCode::SUCCESS;
            }
            let mut log_writer = LogWriter::default();
            log_writer.keep_running();
            let status = match supervisor::run(&config, &words, &mut log_writer) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error, EXIT_PERMANENT),
            };
            log_writer.finish();
            status
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("stdout: {error}"), EXIT_TRANSIENT),
    }
}

fn fail(error: &str, status: u8) -> ExitCode {
    log::error(error);
    ExitCode::from(status)
}
