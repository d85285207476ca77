//! Why something did not work, in one line, and whether waiting may help.

use serde::{Deserialize, Serialize};

/// A fault: the line names the thing first and the remedy last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Only the user can mend it: what they wrote, or a role's own settings. At the first start it ends the program.
    Permanent(String),
    /// It may heal by itself, and is tried again.
    Transient(String),
}

impl Fault {
    /// The line.
    pub fn text(&self) -> &str {
        match self {
            Fault::Permanent(text) | Fault::Transient(text) => text,
        }
    }
}

/// A permanent fault.
pub fn permanent<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Permanent(text.into()))
}

/// A transient fault.
pub fn transient<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Transient(text.into()))
}
