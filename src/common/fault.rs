//! Why something did not work, in one line, and whether waiting may help.

/// A fault: the line names the thing first and the remedy last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Only the user can mend it: what they wrote, or a role's own settings. At the first start it ends the program.
    Lasting(String),
    /// It may heal by itself, and is tried again.
    Passing(String),
}

impl Fault {
    /// The line.
    pub fn text(&self) -> &str {
        match self {
            Fault::Lasting(text) | Fault::Passing(text) => text,
        }
    }
}

/// A lasting fault.
pub fn lasting<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Lasting(text.into()))
}

/// A passing fault.
pub fn passing<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Passing(text.into()))
}
