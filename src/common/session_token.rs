//! IMDSv2 session tokens. A token contains its expiry and a MAC, so the server has no table of tokens that a client could fill.
//!
//! A token stays valid when the server restarts with the same key. SDKs need this: aws-sdk-rust, for example, retries with the
//! old token after a 401.
//!
//! Format: 3 bytes 01 00 04; 5 bytes expiry (milliseconds on CLOCK_BOOTTIME, big-endian); 32 bytes HMAC-SHA-256 of the first 8
//! bytes. In base64url, a token begins with `AQAE`, as EC2's tokens do.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::clock::BootTime;

/// A token's lifetime, 1 to 21,600 seconds
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(u32);

/// Six hours, EC2's maximum.
const MAX_TTL_SECONDS: u32 = 21_600;

impl Ttl {
    /// Parses the value of the TTL header; decimal digits only.
    pub fn parse(text: &str) -> Option<Self> {
        // Check the digits first, because `u32::from_str` accepts "+5".
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds)).map(Ttl)
    }

    pub(crate) fn seconds(self) -> u32 {
        self.0
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Generates a key. The error is one line for the user.
    pub fn random() -> Result<Self, String> {
        match ring::rand::generate(&ring::rand::SystemRandom::new()) {
            Ok(random) => Ok(TokenKey(random.expose())),
            Err(_) => Err("the kernel gives no random numbers; check /dev/urandom".to_owned()),
        }
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::FromHex::from_hex(text).ok().map(TokenKey)
    }

    pub(crate) fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Derives a key for one purpose from this key.
    pub(crate) fn derive(&self, purpose: &str) -> Self {
        let mut key = [0; 32];
        key.copy_from_slice(hmac::sign(&self.hmac_key(), purpose.as_bytes()).as_ref());
        TokenKey(key)
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

/// Issues tokens and verifies them.
pub struct TokenAuthority(hmac::Key);

const PREFIX: [u8; 3] = [1, 0, 4];
const HEAD_LENGTH: usize = 8;
const TOKEN_LENGTH: usize = HEAD_LENGTH + 32;

impl TokenAuthority {
    pub fn new(key: &TokenKey) -> Self {
        TokenAuthority(key.hmac_key())
    }

    pub fn issue(&self, ttl: Ttl, now: BootTime) -> String {
        let expiry = now.0 + u64::from(ttl.0) * 1000;
        let mut token = [0; TOKEN_LENGTH];
        token[..3].copy_from_slice(&PREFIX);
        // Five bytes of milliseconds are enough for 34 years of uptime.
        token[3..HEAD_LENGTH].copy_from_slice(&expiry.to_be_bytes()[3..]);
        let seal = hmac::sign(&self.0, &token[..HEAD_LENGTH]);
        token[HEAD_LENGTH..].copy_from_slice(seal.as_ref());
        BASE64_URL_SAFE.encode(token)
    }

    /// Verifies a token and returns its remaining seconds, rounded up; `None` if this key did not seal the token
    /// or if the token has expired.
    pub(crate) fn check(&self, text: &str, now: BootTime) -> Option<u32> {
        let left = self.open(text)?.left(now).as_millis().div_ceil(1000);
        u32::try_from(left).ok().filter(|seconds| *seconds > 0)
    }

    /// Returns the expiry of a token that this key sealed, even if it is past; `None` for other tokens.
    pub(crate) fn open(&self, text: &str) -> Option<BootTime> {
        let token = BASE64_URL_SAFE.decode(text).ok()?;
        let (head, seal) = token.split_at_checked(HEAD_LENGTH)?;
        // ring compares MACs in constant time, so response times say nothing about the seal.
        hmac::verify(&self.0, head, seal).ok()?;
        let mut expiry = [0; 8];
        expiry[3..].copy_from_slice(&head[3..]);
        Some(BootTime(u64::from_be_bytes(expiry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: &str) -> TokenKey {
        TokenKey::from_hex(&byte.repeat(32)).unwrap()
    }

    fn authority(byte: &str) -> TokenAuthority {
        TokenAuthority::new(&key(byte))
    }

    #[test]
    fn token_is_valid_until_its_expiry() {
        let tokens = authority("a1");
        let token = tokens.issue(Ttl::parse("60").unwrap(), BootTime(5_000));
        assert_eq!(tokens.check(&token, BootTime(5_000)), Some(60));
        assert_eq!(tokens.check(&token, BootTime(5_001)), Some(60));
        assert_eq!(tokens.check(&token, BootTime(64_999)), Some(1));
        assert_eq!(tokens.check(&token, BootTime(65_000)), None);
    }

    #[test]
    fn token_looks_like_ec2s() {
        let token = authority("a1").issue(Ttl::parse("21600").unwrap(), BootTime(1));
        assert_eq!(token.len(), 56);
        assert!(token.starts_with("AQAE") && token.ends_with("=="));
    }

    #[test]
    fn token_is_verified_by_the_same_key_and_boot_only() {
        let of_boot = |byte, boot| TokenAuthority::new(&key(byte).derive(boot));
        let token = of_boot("a1", "first").issue(Ttl::parse("60").unwrap(), BootTime(0));
        assert_eq!(of_boot("a1", "first").check(&token, BootTime(0)), Some(60));
        assert_eq!(of_boot("a2", "first").check(&token, BootTime(0)), None);
        assert_eq!(of_boot("a1", "second").check(&token, BootTime(0)), None);
    }

    #[test]
    fn token_with_one_character_changed_is_refused() {
        let tokens = authority("a1");
        let token = tokens.issue(Ttl::parse("60").unwrap(), BootTime(0));
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(tokens.check(&changed, BootTime(0)), None, "{position}");
        }
        for other in ["", "INVALID", &token[..55], &format!("{token}=")] {
            assert_eq!(tokens.check(other, BootTime(0)), None, "{other:?}");
        }
    }

    #[test]
    fn ttl_is_whole_seconds_from_1_to_21600() {
        for (text, seconds) in [("1", Some(1)), ("21600", Some(21600)), ("007", Some(7))] {
            assert_eq!(Ttl::parse(text).map(Ttl::seconds), seconds, "{text}");
        }
        for wrong in ["", "0", "-1", "+5", "abc", "21601", "1.5", " 60", "99999999999"] {
            assert_eq!(Ttl::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn key_survives_its_hexadecimal_form() {
        let key = TokenKey::random().unwrap();
        assert!(TokenKey::from_hex(&key.to_hex()) == Some(key));
        for wrong in ["", "a1", &"g".repeat(64), &"é".repeat(32)] {
            assert!(TokenKey::from_hex(wrong).is_none());
        }
    }
}
