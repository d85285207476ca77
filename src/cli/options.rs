//! The names of all options, by kind. `help.txt` explains them, and a test compares the two.

pub(super) const HELP: &str = include_str!("help.txt");

/// Options with a value.
pub(super) const VALUES: [&str; 14] = [
    "role-session-name", "external-id", "duration-seconds", "policy", "source-identity", "profile",
    "region", "endpoint-url", "listen", "role-name", "http-tokens", "token-key-file",
    "container-token-file", "log-format",
];
/// Options with a value; each option may be given several times.
pub(super) const REPEATED: [&str; 4] = ["policy-arns", "tags", "transitive-tag-keys", "allow-host"];
/// Options without a value.
pub(super) const SWITCHES: [&str; 7] = [
    "both-forms", "pass-through", "pass-through-user-data", "pass-through-identity-signature",
    "same-network", "metrics", "quiet",
];
/// Switches that no variable can set: actions other than serving, and `json`, which makes `--check` print JSON.
pub(super) const ACTIONS: [&str; 5] = ["credential-process", "check", "json", "help", "version"];

/// Iterates over the options that a variable can set too, such as `EC2_ROLE_LOG_FORMAT` for `log-format`.
pub(super) fn settings() -> impl Iterator<Item = &'static str> {
    VALUES.into_iter().chain(REPEATED).chain(SWITCHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maximum length of a line of the help text, in characters.
    const WIDTH: usize = 100;

    #[test]
    fn help_explains_every_option_as_its_kind() {
        let (mut values, mut repeated, mut switches) = (Vec::new(), Vec::new(), Vec::new());
        for definition in HELP.split("\n  --").skip(1) {
            let paragraph = definition.split("\n\n").next().unwrap();
            let (name, rest) = paragraph.split_once([' ', '\n']).unwrap();
            match paragraph.ends_with("repeated)") {
                true => repeated.push(name),
                // One space and a placeholder follow the name of an option with a value. More white space follows the name of a
                // switch.
                false if !rest.starts_with(' ') => values.push(name),
                false => switches.push(name),
            }
        }
        assert_eq!(values, VALUES);
        assert_eq!(repeated, REPEATED);
        assert_eq!(switches, [&SWITCHES[..], &ACTIONS].concat());
    }

    #[test]
    fn help_fits_a_terminal() {
        for line in HELP.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        let quiet = format!("\n{:<36}do not log requests\n", "  --quiet");
        assert!(HELP.contains(&quiet), "{HELP}");
    }
}
