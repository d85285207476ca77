//! Reads what STS answers, in JSON or XML. Both forms are sniffed, not negotiated: moto, LocalStack, MinIO and proxies answer in
//! XML whatever is asked of them, and an error before STS in neither.

use std::time::SystemTime;

use roxmltree::Document;
use serde_json::Value;

use super::error::StsError;
use crate::common::clock;
use crate::common::secret::Secret;
use crate::fetcher::http_client::Answer;

/// A field that is longer is none. STS's session tokens have up to some 4 KiB, without a limit that AWS would promise; what is read
/// here must also fit on the way from the supervisor to a server, which takes 208 KiB at a time.
const MAX_FIELD_BYTES: usize = 16 * 1024;

/// A good answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// The access key's id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The session token.
    pub session_token: Secret,
    /// When the credential ends, by STS's clock.
    pub expiration: SystemTime,
    /// STS's clock, from the `Date` header.
    pub date: Option<SystemTime>,
}

/// Reads a whole answer: a credential, an error of STS's, or something that is neither.
pub fn read(answer: &Answer) -> Result<Answered, StsError> {
    let (status, date, body) = (answer.status, answer.date, answer.text());
    let fields = Fields::read(&body);
    let field = |name: &str| {
        let text = fields.get(name);
        text.filter(|text| !text.is_empty() && text.len() <= MAX_FIELD_BYTES)
    };
    let request_id = || field("RequestId").or(answer.request_id.clone());
    if let Some(code) = field("Code") {
        return Err(StsError::Refused {
            status,
            code,
            message: field("Message").unwrap_or_default(),
            request_id: request_id(),
            date,
        });
    }
    let credential = || {
        Some(Answered {
            access_key_id: field("AccessKeyId")
                .filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric()))?,
            secret_access_key: Secret::new(field("SecretAccessKey")?),
            session_token: Secret::new(field("SessionToken")?),
            expiration: time(&field("Expiration")?)?,
            date,
        })
    };
    match credential() {
        Some(answered) if status == 200 => Ok(answered),
        _ => Err(StsError::Unreadable {
            status,
            what: fields.describe(&body),
            request_id: request_id(),
            date,
        }),
    }
}

/// Seconds since 1970 as STS's JSON has them (`1.7E9`), or an RFC 3339 date. Not one after the year 9999, as milliseconds give:
/// the documents could not say it.
fn time(text: &str) -> Option<SystemTime> {
    let time = match text.parse::<f64>() {
        Ok(seconds) => clock::from_epoch_seconds(seconds),
        Err(_) => clock::parse_iso8601(text),
    };
    time.filter(|time| !clock::iso8601(*time).is_empty())
}

enum Fields<'a> {
    Json(Value),
    Xml(Document<'a>),
    Neither,
}

impl<'a> Fields<'a> {
    fn read(body: &'a str) -> Self {
        let body = body.trim_start_matches('\u{feff}').trim();
        match body.as_bytes().first() {
            Some(b'{') => serde_json::from_str(body).map_or(Fields::Neither, Fields::Json),
            Some(b'<') => Document::parse(body).map_or(Fields::Neither, Fields::Xml),
            _ => Fields::Neither,
        }
    }

    /// The text of the first field with this name, at any depth: both forms nest the same few names differently.
    fn get(&self, name: &str) -> Option<String> {
        match self {
            Fields::Json(value) => find(value, name),
            Fields::Xml(document) => {
                let element = document
                    .descendants()
                    .find(|node| node.is_element() && node.tag_name().name() == name)?;
                Some(element.text().unwrap_or_default().trim().to_owned())
            }
            Fields::Neither => None,
        }
    }

    /// What an unreadable answer looks like, without its text: it might hold a secret.
    fn describe(&self, body: &str) -> String {
        match self {
            _ if body.trim().is_empty() => "an empty answer".to_owned(),
            Fields::Json(_) => "JSON without a whole credential".to_owned(),
            Fields::Xml(document) => format!(
                "XML (<{}>) without a whole credential",
                document.root_element().tag_name().name()
            ),
            Fields::Neither => "neither JSON nor XML".to_owned(),
        }
    }
}

fn find(value: &Value, name: &str) -> Option<String> {
    let object = value.as_object()?;
    match object.get(name) {
        Some(Value::String(text)) => return Some(text.clone()),
        Some(Value::Number(number)) => return Some(number.to_string()),
        _ => {}
    }
    object.values().find_map(|inner| find(inner, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<Answered, StsError> {
        let body = body.as_bytes().to_vec();
        super::read(&Answer {
            status,
            body,
            request_id: Some("from a header".to_owned()),
            ..Answer::default()
        })
    }

    const XML: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
        <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s/k</SecretAccessKey><SessionToken>t==</SessionToken>\
        <Expiration>2023-06-01T12:06:40Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

    fn json(expiration: &str) -> String {
        format!(
            "{{\"AssumeRoleResponse\":{{\"AssumeRoleResult\":{{\"AssumedRoleUser\":{{\"Arn\":\"a\"}},\"Credentials\":{{\"AccessKeyId\":\"ASIA1\",\
             \"SecretAccessKey\":\"s/k\",\"SessionToken\":\"t==\",\"Expiration\":{expiration}}},\"PackedPolicySize\":null}}}}}}"
        )
    }

    #[test]
    fn json_and_xml_with_every_form_of_expiration_give_the_same_credential() {
        let from_xml = read(200, XML).unwrap();
        assert_eq!(
            (
                from_xml.access_key_id.as_str(),
                from_xml.secret_access_key.expose()
            ),
            ("ASIA1", "s/k")
        );
        for expiration in [
            "1.6856212E9",
            "1685621200",
            "\"1685621200\"",
            "\"2023-06-01T12:06:40Z\"",
            "\"2023-06-01T12:06:40.000000Z\"",
        ] {
            assert_eq!(
                read(200, &json(expiration)).unwrap(),
                from_xml,
                "{expiration}"
            );
        }
    }

    #[test]
    fn an_error_is_read_in_both_forms() {
        let xml = "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>\
                   <RequestId>r1</RequestId></ErrorResponse>";
        let json = "{\"Error\":{\"Code\":\"AccessDenied\",\"Message\":\"no\",\"Type\":\"Sender\"},\"RequestId\":\"r1\"}";
        for body in [xml, json] {
            let error = read(403, body).unwrap_err();
            assert!(
                matches!(&error, StsError::Refused { code, message, request_id, .. }
                if code == "AccessDenied" && message == "no" && request_id.as_deref() == Some("r1"))
            );
        }
    }

    #[test]
    fn what_is_not_an_answer_of_sts_is_described_and_not_repeated() {
        for (body, what) in [
            ("", "an empty answer"),
            ("<html><body>secret</body></html>", "XML (<html>)"),
            ("<html><br></html>", "neither"),
            ("{\"SecretAccessKey\":\"secret\"}", "JSON without"),
            ("{\"trunc", "neither"),
            ("secret", "neither"),
            (&json("\"never\""), "JSON without"),
            (&json("1685621200000"), "JSON without"),
            (&XML.replace("ASIA1", "A\"x"), "XML"),
            (&XML.replace("t==", &"t".repeat(16 * 1024 + 1)), "XML"),
        ] {
            let error = read(200, body).unwrap_err();
            assert!(
                matches!(&error, StsError::Unreadable { what: described, .. } if described.contains(what)),
                "{body}: {error:?}"
            );
            assert!(!format!("{error:?}").contains("secret"));
            assert!(error.describe().ends_with("(request from a header)"));
        }
        assert!(read(500, XML).is_err());
    }
}
