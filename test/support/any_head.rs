//! Checks normalized request heads, for the property test and the fuzz target.

use ec2_role::server::request_head::is_relevant;
use ec2_role::server::tiny_http_adapter::TinyHttpAdapter;

/// Panics unless tiny_http parses the pipelined heads in order and unchanged. Also panics if a head still has a header
/// that is not relevant (`is_relevant`), because the normalization should have dropped it.
pub fn check_are_parsed_unchanged(tiny_http: &mut TinyHttpAdapter, heads: &[String]) {
    tiny_http.send(heads.iter().map(String::as_str)).unwrap();
    for head in heads {
        check_is_parsed_unchanged(tiny_http, head);
    }
}

fn check_is_parsed_unchanged(tiny_http: &mut TinyHttpAdapter, head: &str) {
    let parsed = tiny_http.receive(head).unwrap();
    let mut head_again = format!("{} {} HTTP/1.1\r\n", parsed.method(), parsed.url());
    for header in parsed.headers() {
        assert!(
            is_relevant(header.field.as_str().as_str(), header.value.as_str()),
            "{head:?}"
        );
        head_again.push_str(&format!("{header}\r\n"));
    }
    head_again.push_str("\r\n");
    assert_eq!(head_again, head);
    drop(parsed.into_writer());
}
