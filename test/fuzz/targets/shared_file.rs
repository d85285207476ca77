//! Parses any text as a shared config or credentials file. Checks that section names and keys have no white space at either end,
//! and that values have none at their end. A section name must not contain `]`, a key must not contain `=`, and neither may
//! contain a newline.

#![no_main]

use ec2_role::fetcher::shared_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for (name, settings) in shared_file::parse(text) {
        assert!(!name.contains([']', '\n']) && name.trim() == name);
        for (key, value) in settings {
            assert!(!key.contains(['=', '\n']) && key.trim() == key, "{key:?}");
            assert!(value.trim_end() == value, "{value:?}");
        }
    }
});
