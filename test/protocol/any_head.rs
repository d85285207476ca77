//! Any bytes whatever, as a client sends them: what passes the gate tiny_http takes as it is, one after the other.

use std::sync::mpsc;
use std::time::Duration;

use ec2_role::server::request_head::RequestHead;
use ec2_role::server::tiny_http_adapter::TinyHttpAdapter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::any_head::check_is_taken_as_it_is;

/// It takes microseconds, on a machine that has a processor for it.
const TIMEOUTS: Duration = Duration::from_secs(5);

/// What means something to one of the two that read it.
#[rustfmt::skip]
const PIECES: [&str; 35] = [
    "GET", "PUT", "PROPFIND", "x", " ", "/", "/latest", "*", "é", "\u{1b}", "\0", "\"", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "\r\n", "\n",
    "\r", ":", ": ", "\t", "Host", "Connection", "close", "upgrade", "Content-Length", "0", "5", "1025", "Transfer-Encoding", "chunked",
    "Expect", "100-continue", "Upgrade", "\u{7f}",
];

fn pieces(most: usize) -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), 0..most).prop_map(|pieces| pieces.concat())
}

/// Half of them with a first line as it should be, and headers that are nearly.
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

/// Has tiny_http read one after the other. In a thread: what it would wait for never comes.
fn all_are_taken(heads: Vec<String>) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = TinyHttpAdapter::start().unwrap();
        heads
            .iter()
            .for_each(|head| check_is_taken_as_it_is(&mut reader, head));
        _ = sender.send(());
    });
    receiver.recv_timeout(TIMEOUTS).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Each that fails may take all of the patience.
        max_shrink_iters: 10,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn tiny_http_parses_every_accepted_head_unchanged(
        requests in vec(any_request(), 1..20),
    ) {
        let heads = requests.iter().filter_map(|request| RequestHead::read(request.as_bytes())?.head.ok());
        prop_assert!(all_are_taken(heads.collect()));
    }
}
