//! An error in one line, either permanent or transient.

use serde::{Deserialize, Serialize};

/// The text is one line, with the subject first and the remedy last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Only the user can correct the error. Before the first credential it ends the program.
    Permanent(String),
    /// The error may end by itself, so the call is retried.
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
