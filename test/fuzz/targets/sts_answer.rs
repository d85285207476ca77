//! Parses any response of STS, and checks that the credential's document has the same expiration as the response. The input is
//! two bytes of status and then the body. If it begins with the digit 2, the status is 200, so that the fuzzer tries 200 often.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use ec2_role::common::{BootTime, Credential, RoleArn, clock};
use ec2_role::fetcher::http_client::Answer;
use ec2_role::fetcher::sts;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(([high, low], body)) = data.split_first_chunk() else {
        return Corpus::Reject;
    };
    let status = match high {
        b'2' => 200,
        _ => u16::from_be_bytes([*high, *low]),
    };
    let date = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let answer = Answer {
        status,
        body: body.to_vec(),
        date: Some(date),
        ..Answer::default()
    };
    match sts::parse(answer) {
        Ok(issued) => {
            let credential = Credential {
                access_key_id: issued.access_key_id,
                secret_access_key: issued.secret_access_key,
                session_token: issued.session_token,
                last_updated: date,
                expiration: issued.expiration,
                deadline: BootTime(1),
            };
            let document = credential.ec2_document(None);
            let written = document.rsplit('"').nth(1).unwrap();
            let parsed = clock::parse_iso8601(written).expect(written);
            assert_eq!(
                clock::epoch_seconds(parsed),
                clock::epoch_seconds(credential.expiration)
            );
        }
        Err(error) => {
            let role = RoleArn::parse("arn:aws:iam::123456789012:role/exc_web").unwrap();
            _ = (error.describe(), error.judge(&role, "https://sts"));
        }
    }
    Corpus::Keep
});
