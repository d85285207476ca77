//! Parses the answers of STS. Those of AWS, moto, LocalStack, MinIO and Ceph are XML; a proxy or load balancer in front of STS
//! may answer in another format.

use std::time::SystemTime;

use roxmltree::Document;

use super::error::StsError;
use crate::common::{Secret, clock};
use crate::fetcher::http_client::Answer;
use crate::fetcher::setting::is_key;

/// Maximum size of a field, so that a credential and the metadata snapshot fit into one message to the server (at most 208 KiB,
/// the socket's buffer). The longest field is `SessionToken`: about 4 KiB, but AWS documents no limit.
const MAX_FIELD_BYTES: usize = 16 * 1024;

/// The names of the XML elements that make up a credential.
const PARTS: [&str; 4] = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"];

/// The credential that STS issues for a successful call.
#[derive(Debug, PartialEq, Eq)]
pub struct Issued {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    /// The time at which the credential expires, by the clock of STS.
    pub expiration: SystemTime,
    /// The time of the answer by the clock of STS, from the `Date` header.
    pub date: Option<SystemTime>,
}

/// Parses a complete answer: a credential, an error of STS, or something else.
pub fn parse(answer: Answer) -> Result<Issued, StsError> {
    let mut answer = Box::new(answer);
    // Take the body out of the answer, because errors keep the answer and the body may hold a secret.
    let body = std::mem::take(&mut answer.body);
    let body = String::from_utf8_lossy(&body);
    let body = body.trim_start_matches('\u{feff}').trim();
    let document = Document::parse(body).ok();
    let field = |name: &str| document.as_ref().and_then(|document| field(document, name));
    answer.request_id = field("RequestId").or(answer.request_id.take());
    if let Some(code) = field("Code") {
        return Err(StsError::Refused {
            code,
            message: field("Message").unwrap_or_default(),
            answer,
        });
    }
    let secret = |name: &str| field(name).filter(|text| is_key(text)).map(Secret::new);
    let credential = || {
        Some(Issued {
            access_key_id: field("AccessKeyId")
                .filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric()))?,
            secret_access_key: secret("SecretAccessKey")?,
            session_token: secret("SessionToken")?,
            // Reject years before 1 and after 9999, which the time format of EC2's documents cannot express.
            expiration: clock::parse_iso8601(&field("Expiration")?)
                .filter(|time| !clock::iso8601(*time).is_empty())?,
            date: answer.date,
        })
    };
    match credential() {
        Some(issued) if answer.status == 200 => Ok(issued),
        _ => Err(StsError::NotFromSts { what: describe(document.as_ref(), body), answer }),
    }
}

/// Returns the text of the first element with this name, at any depth, because answers and errors nest the same elements
/// differently. `None` if the element contains anything besides text, for example a comment, which would split the value.
fn field(document: &Document, name: &str) -> Option<String> {
    let element =
        document.descendants().find(|node| node.is_element() && node.tag_name().name() == name)?;
    let mut children = element.children();
    let (text, more) = (children.next()?.text()?.trim(), children.next());
    let is_whole = more.is_none() && (1..=MAX_FIELD_BYTES).contains(&text.len());
    is_whole.then(|| text.to_owned())
}

/// Describes an answer that is neither a credential nor an error of STS. The description omits the answer's text, because that
/// may hold a secret.
fn describe(document: Option<&Document>, body: &str) -> String {
    match document {
        _ if body.is_empty() => "an empty body".to_owned(),
        None => "a body that is not XML".to_owned(),
        Some(document) => {
            let missing = PARTS.iter().filter(|name| field(document, name).is_none());
            let missing: Vec<&str> = missing.copied().collect();
            let root = document.root_element().tag_name().name();
            match missing.as_slice() {
                [] => format!("XML (<{root}>) whose credential is malformed"),
                missing => format!("XML (<{root}>) without {}", missing.join(", ")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(status: u16, body: &str) -> Result<Issued, StsError> {
        let body = body.as_bytes().to_vec();
        super::parse(Answer {
            status,
            body,
            request_id: Some("from a header".to_owned()),
            ..Answer::default()
        })
    }

    const XML: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
        <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s/k</SecretAccessKey><SessionToken>t==</SessionToken>\
        <Expiration>2023-06-01T12:06:40Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

    #[test]
    fn every_form_of_expiration_gives_the_same_credential() {
        let issued = parse(200, XML).unwrap();
        assert_eq!(
            (issued.access_key_id.as_str(), issued.secret_access_key.expose()),
            ("ASIA1", "s/k")
        );
        for expiration in ["2023-06-01T12:06:40.000000Z", "2023-06-01T14:06:40+02:00"] {
            let body = XML.replace("2023-06-01T12:06:40Z", expiration);
            assert_eq!(parse(200, &body).unwrap(), issued, "{expiration}");
        }
    }

    #[test]
    fn a_session_token_of_16_kib_is_accepted() {
        let token = "t".repeat(16 * 1024);
        let issued = parse(200, &XML.replace("t==", &token)).unwrap();
        assert_eq!(issued.session_token.expose(), token);
    }

    #[test]
    fn an_error_has_its_code_message_and_request_id() {
        let body = "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>\
                   <RequestId>r1</RequestId></ErrorResponse>";
        assert!(matches!(
            parse(403, body).unwrap_err(),
            StsError::Refused { code, message, answer }
            if code == "AccessDenied" && message == "no" && answer.request_id.as_deref() == Some("r1")
        ));
    }

    #[test]
    fn an_answer_that_is_not_of_sts_is_described_and_not_repeated() {
        for (body, what) in [
            ("", "an empty body"),
            ("<html><body>secret</body></html>", "XML (<html>) without AccessKeyId"),
            ("<html><br></html>", "not XML"),
            ("{\"SecretAccessKey\":\"secret\"}", "not XML"),
            ("secret", "not XML"),
            (&XML.replace("2023-06", "never"), "malformed"),
            (&XML.replace("2023-06", "12023-06"), "malformed"),
            (&XML.replace("ASIA1", "A\"x"), "malformed"),
            (
                &XML.replace("t==", &"t".repeat(16 * 1024 + 1)),
                "XML (<AssumeRoleResponse>) without SessionToken",
            ),
        ] {
            let error = parse(200, body).unwrap_err();
            assert!(
                matches!(&error, StsError::NotFromSts { what: described, .. } if described.contains(what)),
                "{body}: {error:?}"
            );
            assert!(!format!("{error:?}").contains("secret"));
            assert!(error.describe().ends_with("(request from a header)"));
        }
        assert!(parse(500, XML).is_err());
    }
}
