//! A value that the user has set, and where.

use crate::common::environment::Environment;
use crate::common::fault::{Fault, permanent};

pub struct Setting<'a> {
    pub value: &'a str,
    /// The option, variable or profile setting that holds the value. An error begins with it.
    pub origin: String,
}

impl<'a> Setting<'a> {
    pub fn option(name: &str, value: Option<&'a str>) -> Option<Self> {
        Some(Setting {
            value: value?,
            origin: name.to_owned(),
        })
    }

    pub fn variable(environment: &'a Environment, name: &str) -> Option<Self> {
        Self::option(name, environment.get(name))
    }

    /// The fault of a wrong value; `text` says what is wrong, and the remedy.
    pub fn wrong<T>(&self, text: &str) -> Result<T, Fault> {
        permanent(format!("{}: {text}", self.origin))
    }
}
