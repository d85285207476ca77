//! A text that is kept out of the log.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Placeholder for a secret in a log line.
pub const HIDDEN: &str = "(secret)";

/// A secret access key, a token, or a document that contains them. It has no `Display`, and its `Debug` form hides it, so that it
/// cannot reach a log line, an error or a panic message by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// Returns the text, for the few callers that sign with it, serve it or pass it on.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the lengths only, so that a client cannot guess the secret byte by byte.
    pub(crate) fn equals(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_form_hides_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("wJalrXUt")), "(secret)");
    }

    #[test]
    fn secret_equals_only_itself() {
        let secret = Secret::new("Bearer x");
        assert!(secret.equals("Bearer x"));
        for other in ["", "Bearer", "Bearer y", "bearer x", "Bearer x "] {
            assert!(!secret.equals(other), "{other:?}");
        }
    }
}
