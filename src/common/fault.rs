//! An error in one line, either permanent or transient.

use serde::{Deserialize, Serialize};

/// An error for the user. Its text is one line, with the subject first and the remedy last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Only the user can correct the error. It can end the program, but only before the first credential.
    Permanent(String),
    /// Every other error. Its cause may end, or be corrected, while the program runs, so a later try may succeed.
    Transient(String),
}

impl Fault {
    pub(crate) fn text(&self) -> &str {
        match self {
            Fault::Permanent(text) | Fault::Transient(text) => text,
        }
    }
}

pub fn permanent<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Permanent(text.into()))
}

pub fn transient<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Transient(text.into()))
}
