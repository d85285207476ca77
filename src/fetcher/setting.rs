//! A value that the user has set, with the option, variable or file that holds it.

use std::ops::RangeInclusive;

use crate::common::{Environment, Fault, NamedFile, is_first, transient};

pub struct Setting<'a> {
    pub value: &'a str,
    /// The option, variable, profile setting or file that holds the value. Errors about the value begin with this origin.
    pub origin: String,
    /// Makes the fault for a wrong value: permanent for an option or a variable, transient for a value in a file, which
    /// another program may still be writing.
    fault: fn(String) -> Fault,
}

/// Whether a text has the form of AWS's keys and tokens: at least one character, and only printable ASCII without spaces. A
/// header can carry such a text.
pub fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

impl<'a> Setting<'a> {
    /// The value of an option or a variable, if it is set.
    pub fn option(name: &str, value: Option<&'a str>) -> Option<Self> {
        Some(Setting { value: value?, origin: name.to_owned(), fault: Fault::Permanent })
    }

    /// Makes a setting from a name and a value; `Config` stores an option or variable as this pair.
    pub fn named(setting: &'a Option<(String, String)>) -> Option<Self> {
        setting.as_ref().and_then(|(origin, value)| Self::option(origin, Some(value)))
    }

    pub fn variable(environment: &'a Environment, name: &str) -> Option<Self> {
        Self::option(name, environment.get(name))
    }

    pub fn in_file(origin: String, value: &'a str) -> Self {
        Setting { value, origin, fault: Fault::Transient }
    }

    /// Returns the trimmed value if a header can carry it: it is not empty, all characters are printable ASCII, and no quotes
    /// enclose it. The error omits the value, because it may be secret.
    pub fn header_value(&self) -> Result<&'a str, Fault> {
        self.of_characters(' '..='~')
    }

    /// Returns the trimmed value if it has the form of an AWS key or token ([`is_key`]) and no quotes enclose it. The error omits
    /// the value, because it may be secret.
    pub fn key(&self) -> Result<&'a str, Fault> {
        self.of_characters('!'..='~')
    }

    fn of_characters(&self, allowed: RangeInclusive<char>) -> Result<&'a str, Fault> {
        let value = self.value.trim();
        if value.is_empty() {
            return self.wrong("it is empty; write a value");
        }
        if ['"', '\''].iter().any(|quote| value.starts_with(*quote) && value.ends_with(*quote)) {
            return self.wrong("the quotes around it are part of it; remove them");
        }
        let mut characters = value.chars().zip(1..);
        match characters.find(|(character, _)| !allowed.contains(character)) {
            None => Ok(value),
            Some((character, position)) => self.wrong(&format!(
                "character {position} is U+{:04X}, which it cannot hold; remove it",
                u32::from(character)
            )),
        }
    }

    /// Returns whether the value is `first` (`true`) or `second` (`false`), in any letter case; an error if it is neither.
    pub fn is_first(&self, first: &str, second: &str) -> Result<bool, Fault> {
        is_first(self.value, first, second).or_else(|why| self.wrong(&why))
    }

    /// Reads the token in the file that the value names.
    pub fn read_token(&self) -> Result<String, Fault> {
        let file = NamedFile::new(&self.origin, self.value);
        let text = file.read_text().or_else(|error| transient(error.to_string()))?;
        let token = Setting::in_file(file.to_string(), &text);
        token.header_value().map(str::to_owned)
    }

    /// Returns the error of a wrong value; `text` says what is wrong, and the remedy.
    pub fn wrong<T>(&self, text: &str) -> Result<T, Fault> {
        Err((self.fault)(format!("{}: {text}", self.origin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_refused_only_if_quotes_enclose_it() {
        for (key, is_refused) in [("'A'", true), ("\"A\"", true), ("'A", false), ("A\"", false)] {
            let setting = Setting::in_file("aws_access_key_id".to_owned(), key);
            assert_eq!(setting.key().is_err(), is_refused, "{key}");
        }
    }
}
