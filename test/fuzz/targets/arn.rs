//! Parses any text as a role's ARN and as a role's name. Checks the parts and characters of each accepted ARN or name. Checks
//! that the error of a rejected ARN has no line break and no escape character.

#![no_main]

use ec2_role::common::{RoleArn, RoleName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match RoleArn::parse(text) {
        Ok(arn) => {
            assert_eq!(arn.as_str(), text);
            assert!(arn.partition().starts_with("aws") && arn.account().len() == 12);
            assert!(RoleName::parse(arn.name().as_str()).is_ok());
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Err(error) => assert!(!error.contains(['\n', '\r', '\u{1b}'])),
    }
    if let Ok(name) = RoleName::parse(text) {
        assert!(!name.as_str().contains(['/', '%', '?', ' ']));
    }
});
