//! A text that must not be shown.

use std::fmt;

use ring::hmac;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

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

    /// Whether `given` is this text, in a time that tells nothing about where they differ: both are hashed under a key of the
    /// moment, and it is the hashes that are compared.
    pub fn equals(&self, settings: &str) -> bool {
        let Ok(key) = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()) else {
            return false;
        };
        hmac::verify(
            &key,
            settings.as_bytes(),
            hmac::sign(&key, self.0.as_bytes()).as_ref(),
        )
        .is_ok()
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
