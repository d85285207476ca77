//! Parses any text as a shared config or credentials file, and checks the names of its sections, its keys and its values.

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
