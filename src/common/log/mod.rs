//! Writes log lines to stderr without blocking.

mod format;
mod sink;
pub mod writer;

pub(crate) use format::{Access, format, printable};
pub use format::{Format, Level, set_format};
pub use sink::{is_journal, open};

use std::time::SystemTime;

pub(crate) fn event(text: &str) {
    at(Level::Info, text);
}

pub(crate) fn warning(text: &str) {
    at(Level::Warning, text);
}

pub fn error(text: &str) {
    at(Level::Error, text);
}

pub(crate) fn at(level: Level, text: &str) {
    let format = format();
    write_line(&format, level, format::event_line(&format, level, text, SystemTime::now()));
}

/// Logs each later panic of this process as one error line. The line omits the panic's message, which may hold a secret.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or(String::new(), |it| format!(" (at {}:{})", it.file(), it.line()));
        error(&format!("internal error{place}; report this line"));
    }));
}

pub(crate) fn access(access: &Access) {
    let format = format();
    write_line(&format, Level::Info, format::access_line(&format, access));
}

fn write_line(format: &Format, level: Level, line: String) {
    sink::write(&match format.priority {
        true => format!("<{}>{line}\n", level as u8),
        false => line + "\n",
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs this test again in a second process, which panics because the variable `TESTED_PANIC` is set there.
    #[test]
    fn a_panic_is_one_line_without_its_message() {
        const HERE: &str = "common::log::tests::a_panic_is_one_line_without_its_message";
        const PANIC: &str = "TESTED_PANIC";
        if std::env::var_os(PANIC).is_some() {
            set_format(Format { json: true, ..Format::default() });
            log_panics();
            panic!("SECRET\nforged line");
        }
        let ran = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", HERE])
            .env(PANIC, "1")
            .output()
            .unwrap();
        let log = String::from_utf8(ran.stderr).unwrap();
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["level"], "error", "{log}");
        let message = line["message"].as_str().unwrap();
        assert!(message.starts_with("internal error (at src/common/log/mod.rs:"), "{log}");
        assert!(!log.contains("SECRET"), "{log}");
    }
}
