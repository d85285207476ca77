//! What the keeper hands over to the server: all that it serves, in one line of JSON on their channel.

use serde_json::{Value, json};

use crate::credential::Credential;
use crate::imds::HttpTokens;
use crate::role::{RoleArn, RoleName};
use crate::token::TokenKey;

/// All that the server knows. It never learns more: it has no environment, and opens no file.
#[derive(Clone)]
pub struct HandOver {
    /// The role.
    pub role: RoleArn,
    /// The name that the list shows.
    pub role_name: RoleName,
    /// Whether requests without a token are served.
    pub http_tokens: HttpTokens,
    /// What session tokens are sealed with.
    pub token_key: TokenKey,
    /// The boot that session tokens belong to.
    pub boot_id: String,
    /// The path by which the keeper knocks at the front door; a secret, not logged.
    pub knock: String,
    /// Whether to leave the access log out.
    pub quiet: bool,
    /// The credential, if there is one yet.
    pub credential: Option<Credential>,
}

impl HandOver {
    /// One line, with its end.
    pub fn to_line(&self) -> String {
        let json = json!({
            "role": self.role.as_str(),
            "role_name": self.role_name.as_str(),
            "tokens_required": self.http_tokens == HttpTokens::Required,
            "token_key": self.token_key.to_hex(),
            "boot_id": self.boot_id,
            "knock": self.knock,
            "quiet": self.quiet,
            "credential": self.credential.as_ref().map(Credential::to_json),
        });
        format!("{json}\n")
    }

    /// Reads what [`HandOver::to_line`] wrote.
    pub fn from_line(line: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| json[key].as_str();
        Some(HandOver {
            role: RoleArn::parse(text("role")?).ok()?,
            role_name: RoleName::parse(text("role_name")?).ok()?,
            http_tokens: if json["tokens_required"].as_bool()? {
                HttpTokens::Required
            } else {
                HttpTokens::Optional
            },
            token_key: TokenKey::from_hex(text("token_key")?)?,
            boot_id: text("boot_id")?.to_owned(),
            knock: text("knock")?.to_owned(),
            quiet: json["quiet"].as_bool()?,
            credential: match &json["credential"] {
                Value::Null => None,
                credential => Some(Credential::from_json(credential)?),
            },
        })
    }
}
