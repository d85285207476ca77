//! Reads and parses the shared config and credentials files
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>), mostly as botocore does.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::common::{Environment, Fault, NamedFile, transient};

/// The byte order mark, which some editors write at the start of a file; `parse` ignores it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Root's home directory, by the Filesystem Hierarchy Standard.
const ROOT_HOME: &str = "/root";

/// The keys and values of a section. A key of a nested block is stored as `outer.inner`.
pub type Settings = BTreeMap<String, String>;

pub struct SharedFile {
    pub path: PathBuf,
    /// The sections. Keys with an empty value are left out, because they count as unset.
    pub sections: BTreeMap<String, Settings>,
    /// The error if the file has its default path and this process has no permission to read it. `sections` is empty then.
    pub access: Result<(), Fault>,
}

impl SharedFile {
    /// Reads the file that `variable` names, or else `default`. A missing file counts as empty, as in every SDK.
    pub fn read(environment: &Environment, variable: &str, default: &str) -> Result<Self, Fault> {
        let written = environment.get(variable).unwrap_or(default);
        // Expand `~` here, because no shell does it for a value in a unit or a compose file.
        let path = match written.strip_prefix("~/") {
            Some(below) => home(environment).join(below),
            None => PathBuf::from(written),
        };
        let file = NamedFile::new(variable, &path);
        let (is_default, mut access) = (environment.get(variable).is_none(), Ok(()));
        let bytes = match file.read() {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                // Report a path that is probably not the intended one. Otherwise the next source would be used, perhaps with
                // other rights. Unlike botocore, ec2-role expands no `$VARIABLE` or `~USER`, and needs UTF-8. In a path from an
                // env file, systemd leaves a `%d` and a comment as they are; Docker leaves quotes too.
                if written.contains(['$', '%', '"', '\'', '#'])
                    || written.trim_start_matches("~/").starts_with('~')
                    || path.to_string_lossy().contains(char::REPLACEMENT_CHARACTER)
                {
                    return transient(format!(
                        "{file}: only ~/ is expanded, and the path must be UTF-8; write the whole path, without quotes or a comment"
                    ));
                }
                Vec::new()
            }
            // Continue without a file that this process has no permission to read, for example because of systemd's ProtectHome=.
            // The environment variables may hold all that is needed. botocore ignores such a file.
            Err(error) if is_default && error.kind() == ErrorKind::PermissionDenied => {
                access = transient(format!("{error}; or set {variable}=/dev/null to do without"));
                Vec::new()
            }
            // Users set the variable to /dev/null to disable the file. The SDKs read /dev/null as an empty file, but
            // `NamedFile::read` refuses it, because it is not a regular file.
            _ if path.as_os_str() == "/dev/null" => Vec::new(),
            result => result.or_else(|error| transient(error.to_string()))?.bytes,
        };
        let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let Some(text) = text else {
            return transient(format!(
                "{file}: its encoding is not UTF-8 (UTF-16 or Latin-1?); save it as UTF-8"
            ));
        };
        let mut sections = parse(&text);
        for settings in sections.values_mut() {
            settings.retain(|_, value| !value.is_empty());
        }
        Ok(SharedFile { path, sections, access })
    }
}

/// Returns the directory that `~` stands for: HOME, or else `/`. For root without HOME, as in a systemd unit without User=,
/// the directory is [`ROOT_HOME`] if `.aws` exists there.
fn home(environment: &Environment) -> &Path {
    let of_root = Path::new(ROOT_HOME);
    let is_root = || rustix::process::geteuid().is_root() && of_root.join(".aws").exists();
    match environment.get("HOME") {
        Some(home) => Path::new(home),
        None if is_root() => of_root,
        None => Path::new("/"),
    }
}

/// Parses sections as botocore does with Python's configparser. Lines that are indented deeper than a key continue its value, or
/// form a nested block if the key's own line has no value. Lines of unknown form are ignored, because they may belong to another
/// tool.
pub fn parse(text: &str) -> BTreeMap<String, Settings> {
    let mut sections: BTreeMap<String, Settings> = BTreeMap::new();
    let mut section: Option<&mut Settings> = None;
    // The last key of `section` and its indent; `None` once no further line can continue its value.
    let mut key: Option<(String, usize)> = None;
    for line in text.trim_start_matches(BYTE_ORDER_MARK).lines() {
        let content = line.trim();
        if content.starts_with(['#', ';']) {
            continue;
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if let (Some(settings), Some((name, key_indent))) = (&mut section, &key)
            && (content.is_empty() || indent > *key_indent)
            && let Some(value) = settings.get_mut(name)
        {
            value.extend(["\n", without_comment(content).trim_end()]);
            continue;
        }
        key = None;
        if let Some(header) = content.strip_prefix('[') {
            section = header
                .split_once(']')
                .map(|(name, _)| sections.entry(section_name(name)).or_default());
        } else if let Some((name, value)) = content.split_once(['=', ':'])
            && let Some(settings) = &mut section
        {
            let name = name.trim().to_ascii_lowercase();
            settings.insert(name.clone(), without_comment(value).trim().to_owned());
            key = Some((name, indent));
        }
    }
    for settings in sections.values_mut() {
        *settings = settings.iter().flat_map(|(key, value)| flatten(key, value)).collect();
    }
    sections
}

/// Returns a key's setting, or all settings of the nested block that its value holds.
fn flatten(key: &str, value: &str) -> Vec<(String, String)> {
    let value = value.trim_end();
    if !value.starts_with('\n') {
        return vec![(key.to_owned(), value.to_owned())];
    }
    let inner = value.lines().filter_map(|line| line.split_once('='));
    inner
        .map(|(inner, value)| (format!("{key}.{}", inner.trim()), value.trim().to_owned()))
        .collect()
}

/// Normalizes white space in a section's name. A name with quotes is unquoted by the rules of a shell, as in botocore. A name
/// without quotes keeps its backslashes, unlike in botocore.
fn section_name(header: &str) -> String {
    let has_quotes = header.contains(['\'', '"']);
    let words = has_quotes.then(|| shlex::split(header)).flatten();
    match words {
        Some(words) => words.join(" "),
        None => header.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Removes a comment: `#` or `;` after white space, and the rest of the line. Other SDKs do so too; botocore does not. Inside
/// quotes, `#` and `;` are part of a command (`sh -c 'a ; b'`).
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
        assert_eq!(sections["services local"]["sts.endpoint_url"], "http://127.0.0.1:1/");
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

    #[test]
    fn nesting_is_relative_to_the_key_above() {
        let sections = parse(
            "  [default]\n  services = local\n  s3 =\n    endpoint_url = http://s3/\n  region = r\n  [services local]\n  sts =\n\
             \x20   endpoint_url = http://sts/\n",
        );
        assert_eq!(sections["default"]["s3.endpoint_url"], "http://s3/");
        assert_eq!(sections["default"].get("endpoint_url"), None);
        assert_eq!(sections["default"]["region"], "r");
        let local = &sections["services local"];
        assert_eq!(local["sts.endpoint_url"], "http://sts/");
    }

    #[test]
    fn value_continues_on_lines_that_are_indented_deeper() {
        let sections = parse(
            "[default]\ncredential_process = sh\n  -c # said\n\n  # between\n  'a b'\nregion = r\n",
        );
        let command = "sh\n-c\n\n'a b'";
        assert_eq!(sections["default"]["credential_process"], command);
        assert_eq!(shlex::split(command).unwrap(), ["sh", "-c", "a b"]);
        assert_eq!(sections["default"]["region"], "r");
    }
}
