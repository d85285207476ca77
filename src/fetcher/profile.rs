//! The shared config and credentials files
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>), and the one profile of them that is in use.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::common::environment::Environment;
use crate::common::fault::{Fault, transient};
use crate::common::file::NamedFile;
use crate::fetcher::setting::Setting;

/// Some editors write it at the start of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

type Settings = BTreeMap<String, String>;

/// The settings of one profile. Those of the credentials file win.
#[derive(Default)]
pub struct Profile {
    pub name: String,
    config: Settings,
    credentials: Settings,
    /// The `[services …]` section that the profile names.
    services: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `~/.aws/config`
    Config,
    /// `~/.aws/credentials`
    Credentials,
}

impl fmt::Display for File {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            File::Config => "config",
            File::Credentials => "credentials",
        })
    }
}

impl Profile {
    /// Reads the profile that `--profile` (`option`), `AWS_PROFILE` or `AWS_DEFAULT_PROFILE` names, which must exist, or else
    /// `default`, which need not.
    pub fn load(environment: &Environment, option: Option<&str>) -> Result<Self, Fault> {
        let named = option
            .or(environment.get("AWS_PROFILE"))
            .or(environment.get("AWS_DEFAULT_PROFILE"));
        let name = named.unwrap_or("default");
        let config = SharedFile::read(environment, "AWS_CONFIG_FILE", "config")?;
        let credentials =
            SharedFile::read(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let in_config = match name {
            // The config file may have either; the longer one wins.
            "default" => config
                .section("profile default")
                .or(config.section("default")),
            name => config.section(&format!("profile {name}")),
        };
        let in_credentials = credentials.section(name);
        if in_config.is_none() && in_credentials.is_none() && named.is_some() {
            return transient(format!(
                "profile {name:?}: it is neither in {} nor in {}; name an existing one with --profile or AWS_PROFILE",
                config.path.display(),
                credentials.path.display()
            ));
        }
        let mut profile = Profile {
            name: name.to_owned(),
            config: in_config.cloned().unwrap_or_default(),
            credentials: in_credentials.cloned().unwrap_or_default(),
            services: Settings::new(),
        };
        let services = profile
            .get("services")
            .and_then(|services| config.section(&format!("services {services}")));
        profile.services = services.cloned().unwrap_or_default();
        Ok(profile)
    }

    /// The value of a key, unless it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_in(File::Credentials, key)
            .or(self.get_in(File::Config, key))
    }

    /// The value of a key in one of the files, unless it is empty.
    pub fn get_in(&self, file: File, key: &str) -> Option<&str> {
        let settings = match file {
            File::Config => &self.config,
            File::Credentials => &self.credentials,
        };
        non_empty(settings, key)
    }

    pub fn setting(&self, key: &str) -> Option<Setting<'_>> {
        Setting::in_file(self.origin(key), self.get(key))
    }

    /// The `endpoint_url` of STS in the `[services …]` section.
    pub fn sts_endpoint_url(&self) -> Option<Setting<'_>> {
        let url = non_empty(&self.services, "sts.endpoint_url");
        Setting::in_file(self.origin("services: sts: endpoint_url"), url)
    }

    /// What errors about a key begin with.
    pub fn origin(&self, key: &str) -> String {
        format!("profile {:?}: {key}", self.name)
    }
}

fn non_empty<'a>(settings: &'a Settings, key: &str) -> Option<&'a str> {
    settings
        .get(key)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

struct SharedFile {
    path: PathBuf,
    sections: BTreeMap<String, Settings>,
}

impl SharedFile {
    /// Reads a file; one that does not exist counts as empty, as for every SDK.
    fn read(environment: &Environment, variable: &str, default: &str) -> Result<Self, Fault> {
        let home = PathBuf::from(environment.get("HOME").unwrap_or("/"));
        let path = match environment.get(variable) {
            None => home.join(".aws").join(default),
            // No shell expands `~` in a unit or a compose file.
            Some(path) => path
                .strip_prefix("~/")
                .map_or_else(|| PathBuf::from(path), |below| home.join(below)),
        };
        let text = match NamedFile::new(variable, &path).read_text() {
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                String::new()
            }
            result => result.or_else(|error| transient(error.text))?,
        };
        let sections = parse(&text);
        Ok(SharedFile { path, sections })
    }

    fn section(&self, name: &str) -> Option<&Settings> {
        self.sections.get(name)
    }
}

/// Parses sections of settings. A key without a value opens a nested block, whose indented lines become `outer.inner`. Other
/// lines are ignored, as SDKs ignore them, because the file belongs to other tools too.
pub fn parse(text: &str) -> BTreeMap<String, Settings> {
    let mut sections: BTreeMap<String, Settings> = BTreeMap::new();
    let mut section: Option<String> = None;
    let mut outer = String::new();
    for line in text.trim_start_matches(BYTE_ORDER_MARK).lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = content.strip_prefix('[') {
            section = header.split_once(']').map(|(name, _)| section_name(name));
            if let Some(name) = &section {
                sections.entry(name.clone()).or_default();
            }
            outer.clear();
            continue;
        }
        let (Some(section), Some((key, value))) = (&section, content.split_once(['=', ':'])) else {
            continue;
        };
        let value = without_comment(value).trim();
        let key = key.trim().to_ascii_lowercase();
        let is_nested = line.starts_with([' ', '\t']);
        if !is_nested {
            outer = if value.is_empty() {
                key.clone()
            } else {
                String::new()
            };
        }
        let key = if is_nested && !outer.is_empty() {
            format!("{outer}.{key}")
        } else {
            key
        };
        if let Some(settings) = sections.get_mut(section) {
            settings.insert(key, value.to_owned());
        }
    }
    sections
}

/// Normalizes white space in a section's name, and removes quotes as botocore does, by a shell's rules. Without quotes a backslash
/// is part of the name.
fn section_name(header: &str) -> String {
    let has_quotes = header.contains(['\'', '"']);
    let words = has_quotes.then(|| shlex::split(header)).flatten();
    match words {
        Some(words) => words.join(" "),
        None => header.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Removes a comment, which is `#` or `;` after white space. botocore keeps it in the value, other SDKs remove it. Inside quotes it
/// is part of a command (`sh -c 'a ; b'`).
fn without_comment(value: &str) -> &str {
    let mut quote = None;
    let mut characters = value.char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (None | Some('"'), '\\') => _ = characters.next(),
            (None, '\'' | '"') => quote = Some(character),
            (None, '#' | ';') if value[..at].ends_with([' ', '\t']) => return &value[..at],
            (Some(opening), _) if opening == character => quote = None,
            _ => {}
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_spaces_and_nested_blocks_are_parsed() {
        let sections = parse(
            "# a comment\nregion = lost\n[default]\nRegion=eu-west-1 # where\n\n[profile  web]\n; another\naws_access_key_id = AKIA\n\
             s3 =\n  max_queue = 10\nservices = local\n[services local]\nsts =\n  endpoint_url = http://127.0.0.1:1/\nnonsense\n[broken\nx=y\n",
        );
        assert_eq!(sections["default"]["region"], "eu-west-1");
        assert_eq!(sections["profile web"]["aws_access_key_id"], "AKIA");
        assert_eq!(sections["profile web"]["s3.max_queue"], "10");
        assert_eq!(sections["profile web"]["services"], "local");
        assert_eq!(
            sections["services local"]["sts.endpoint_url"],
            "http://127.0.0.1:1/"
        );
        assert_eq!(sections.len(), 3);
    }

    #[test]
    fn colons_quotes_and_byte_order_mark_are_parsed_as_botocore() {
        let sections = parse(
            "\u{feff}[default]\nregion: eu-west-1\nendpoint_url = http://h:1/\nca_bundle:/a=b\n\
             [profile 'a  b'] # said\nx=1\n[profile \"web\"]\nx=2\n[services 'local']\nx=3\n[profile D\\u]\nx=4\n[it's]\nx=5\n",
        );
        assert_eq!(sections["default"]["region"], "eu-west-1");
        assert_eq!(sections["default"]["endpoint_url"], "http://h:1/");
        assert_eq!(sections["default"]["ca_bundle"], "/a=b");
        for (name, x) in [
            ("profile a  b", "1"),
            ("profile web", "2"),
            ("services local", "3"),
            ("profile D\\u", "4"),
            ("it's", "5"),
        ] {
            assert_eq!(sections[name]["x"], x, "{name}");
        }
    }

    #[test]
    fn a_comment_ends_a_value_except_inside_quotes() {
        for (value, read) in [
            ("a # b", "a"),
            ("a\t; b", "a"),
            ("# b", ""),
            ("a#b;c", "a#b;c"),
            ("sh -c 'a ; b # c' # d", "sh -c 'a ; b # c'"),
            (r#"sh -c "a \" ; b" ; c"#, r#"sh -c "a \" ; b""#),
            (r"a\' ; b", r"a\'"),
        ] {
            let sections = parse(&format!("[default]\nx = {value}\n"));
            assert_eq!(sections["default"]["x"], read, "{value}");
        }
    }
}
