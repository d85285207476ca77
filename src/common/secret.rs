//! A text that must not be shown.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// A secret access key, a session token, a key: it has no `Display`, and its `Debug` form hides it, so that no log line,
/// error or panic message can carry it by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be shown.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the few places that sign with it, serve it or hand it over.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the lengths alone, so that a client cannot guess the secret byte by byte.
    pub fn equals(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_hides_itself_when_printed() {
        assert_eq!(format!("{:?}", Secret::new("wJalrXUt")), "(secret)");
    }

    #[test]
    fn a_secret_equals_itself_and_nothing_else() {
        let secret = Secret::new("Bearer x");
        assert!(secret.equals("Bearer x"));
        for other in ["", "Bearer", "Bearer y", "bearer x", "Bearer x "] {
            assert!(!secret.equals(other), "{other:?}");
        }
    }
}
