//! Reads the environment variables once into a value. Tests make such a value without changing the variables of their process.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// The variables of a process. An empty variable counts as unset, as in every SDK.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads the variables of this process. A variable that is not UTF-8 is kept, with U+FFFD for its invalid bytes: dropping the
    /// variable would silently unset a setting.
    pub fn of_process() -> Self {
        let text = |bytes: OsString| bytes.to_string_lossy().into_owned();
        Environment(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// Names of the variables that begin with `prefix`.
    pub(crate) fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    /// Returns a variable's value, trimmed: env files and mounted secrets leave white space at its ends.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Parses a variable that is a switch: `true` or `false`, in any letter case; an unset one is off.
    pub(crate) fn is_on(&self, name: &str) -> Result<bool, String> {
        let is_on = self.get(name).map_or(Ok(false), |value| is_first(value, "true", "false"));
        is_on.map_err(|why| format!("{name}: {why}"))
    }
}

/// Returns true if the value is `first`, false if it is `second`, in any letter case. Any other value is an error, which the
/// caller prefixes with the name of the variable or setting.
pub fn is_first(value: &str, first: &str, second: &str) -> Result<bool, String> {
    match value {
        _ if value.eq_ignore_ascii_case(first) => Ok(true),
        _ if value.eq_ignore_ascii_case(second) => Ok(false),
        _ => Err(format!("it is {value:?}; set it to {first} or {second}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<const N: usize> From<[(&str, &str); N]> for Environment {
        fn from(pairs: [(&str, &str); N]) -> Self {
            let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            Environment(owned.into())
        }
    }

    #[test]
    fn a_switch_is_true_or_false_in_any_letter_case() {
        for (value, is_on) in [("true", true), ("True", true), ("false", false), ("FALSE", false)] {
            assert_eq!(Environment::from([("X", value)]).is_on("X"), Ok(is_on), "{value}");
        }
        assert!(Environment::from([("X", "0")]).is_on("X").is_err());
    }
}
