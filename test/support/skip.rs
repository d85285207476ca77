//! Reports tests that cannot run on this machine.

use std::io::Write;

/// Prints why a test is skipped; the caller then returns. If the environment variable CI is set, fails the test instead, because
/// CI must run every test.
#[track_caller]
pub fn skip(why: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!is_ci, "it would be skipped, and CI must run it: {why}");
    // Not println!: libtest hides its output for tests that pass.
    _ = writeln!(std::io::stderr(), "skipped: {why}");
}
