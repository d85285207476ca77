//! A text that must not be shown.

use std::fmt;

/// A secret access key, a session token, a key: it has no `Display`, and its `Debug` form hides it, so that no log line,
/// error or panic message can carry it by accident.
#[derive(Clone, PartialEq, Eq)]
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
}
