//! What must hold of every head that passes the gate: for the property test and the fuzz target alike.

use ec2_role::server::request_head::REMOVED_HEADERS;
use ec2_role::server::tiny_http_adapter::TinyHttpAdapter;

/// Has tiny_http read a head, and panics unless that gives it back to the byte, with nothing that tiny_http would act on.
pub fn check_is_taken_as_it_is(tiny_http: &mut TinyHttpAdapter, head: &str) {
    let read = tiny_http.parse(head).unwrap();
    let mut again = format!("{} {} HTTP/1.1\r\n", read.method(), read.url());
    for header in read.headers() {
        assert!(
            !REMOVED_HEADERS.iter().any(|name| header.field.equiv(name)),
            "{head:?}"
        );
        again.push_str(&format!("{header}\r\n"));
    }
    again.push_str("\r\n");
    assert_eq!(again, head);
    drop(read.into_writer());
}
