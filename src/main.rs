//! Entry point of every process: argument zero names the kind of process to run.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use ec2_role::cli::{self, Invocation};
use ec2_role::common::log::{self, Format, writer, writer::LogWriter};
use ec2_role::common::{Environment, Fault, ProcessKind, limit, permanent, transient};
use ec2_role::{fetcher, server, supervisor};

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
    match kind {
        ProcessKind::LogWriter => {
            writer::run();
            ExitCode::SUCCESS
        }
        ProcessKind::Server => exit_code(
            server::run().or_else(|error| transient(format!("server: {}", limit::name(&error)))),
        ),
        ProcessKind::Fetcher | ProcessKind::Supervisor => invoke(kind, &words.collect::<Vec<_>>()),
    }
}

/// Runs a process that parses the user's command line: the supervisor, a command such as --check, or a fetcher. A fetcher parses
/// the supervisor's arguments again, to get the same settings.
fn invoke(kind: ProcessKind, words: &[String]) -> ExitCode {
    let environment = Environment::of_process();
    let mut format = Format {
        priority: log::is_journal(environment.get("JOURNAL_STREAM")),
        json: cli::asks_for_json(words, &environment),
        ..Format::default()
    };
    log::set_format(format.clone());
    match cli::parse(words, &environment) {
        Err(error) if cli::asks_for_json_check(words) => {
            exit_code(print(&cli::unhealthy(None, &error)));
            ExitCode::from(EXIT_PERMANENT)
        }
        Err(error) => exit_code(permanent(error)),
        Ok(Invocation::Print(text)) => exit_code(print(text.trim_end())),
        Ok(Invocation::Check(mut check)) => match check.run() {
            Err(text) if check.json => {
                exit_code(print(&text));
                ExitCode::from(EXIT_TRANSIENT)
            }
            result => exit_code(result.or_else(transient).and_then(|text| print(&text))),
        },
        Ok(Invocation::CredentialProcess(config)) => {
            exit_code(fetcher::print(&config).and_then(|document| print(&document)))
        }
        Ok(Invocation::Serve(config)) => {
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
            let result = supervisor::run(&config, &mut log_writer);
            let status = exit_code(result.or_else(permanent));
            log_writer.finish();
            status
        }
    }
}

fn print(text: &str) -> Result<(), Fault> {
    writeln!(std::io::stdout(), "{text}").or_else(|error| transient(format!("stdout: {error}")))
}

/// Logs the error of a result, and returns the exit status.
fn exit_code(result: Result<(), Fault>) -> ExitCode {
    let (error, status) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Fault::Permanent(error)) => (error, EXIT_PERMANENT),
        Err(Fault::Transient(error)) => (error, EXIT_TRANSIENT),
    };
    log::error(&error);
    ExitCode::from(status)
}
