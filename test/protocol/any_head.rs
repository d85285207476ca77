//! Normalizes the heads of random requests with `RequestHead`, and checks that tiny_http parses the normalized heads in order and
//! unchanged.

use std::sync::mpsc;
use std::time::Duration;

use ec2_role::server::request_head::RequestHead;
use ec2_role::server::tiny_http_adapter::TinyHttpAdapter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::any_head::check_are_parsed_unchanged;

/// Parsing takes microseconds; the timeout is long, so that a busy machine does not reach it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Parts of random requests. Most of them have a meaning to httparse or to tiny_http.
#[rustfmt::skip]
const PIECES: [&str; 38] = [
    "GET", "PUT", "PROPFIND", "x", " ", "/", "/latest", "*", "é", "\u{1b}", "\0", "\"", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "\r\n", "\n",
    "\r", ":", ": ", "\t", "Host", "Connection", "close", "upgrade", "Content-Length", "0", "5", "1025", "Transfer-Encoding", "chunked",
    "Expect", "100-continue", "Upgrade", "\u{7f}", "Origin", "Authorization", "X-Forwarded-For",
];

fn pieces(most: usize) -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), 0..most).prop_map(|pieces| pieces.concat())
}

/// Random text; half of the texts have a valid request line and nearly valid headers.
fn any_request() -> impl Strategy<Value = String> {
    let headers = vec((select(&PIECES[..]), pieces(4)), 0..5);
    prop_oneof![
        pieces(16).prop_map(|text| text + "\r\n\r\n"),
        headers.prop_map(|headers| {
            let lines = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"));
            format!("GET / HTTP/1.1\r\n{}\r\n", lines.collect::<String>())
        }),
    ]
}

/// Whether tiny_http parses all heads unchanged before the timeout. The timeout is for a head that announces a body: only heads
/// are sent, so tiny_http would wait for that body forever.
fn all_are_parsed(heads: Vec<String>) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut tiny_http = TinyHttpAdapter::start().unwrap();
        check_are_parsed_unchanged(&mut tiny_http, &heads);
        _ = sender.send(());
    });
    receiver.recv_timeout(TIMEOUT).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Shrink in few steps, because each failing case can take the whole timeout.
        max_shrink_iters: 10,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn tiny_http_parses_every_normalized_head_unchanged(
        requests in vec(any_request(), 1..20),
    ) {
        let heads = requests.iter().filter_map(|request| RequestHead::parse(request.as_bytes())?.normalized.ok());
        prop_assert!(all_are_parsed(heads.collect()));
    }
}
