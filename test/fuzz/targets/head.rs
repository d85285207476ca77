//! Parses any bytes as a client's request, and checks that tiny_http parses the normalized head unchanged. Also parses a prefix
//! of the bytes: if the prefix contains a complete head, parsing all the bytes must give the same head.

#![no_main]

#[path = "../../support/any_head.rs"]
mod any_head;

use std::cell::RefCell;

use any_head::check_are_parsed_unchanged;
use ec2_role::server::request_head::RequestHead;
use ec2_role::server::tiny_http_adapter::TinyHttpAdapter;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TINY_HTTP: RefCell<TinyHttpAdapter> = RefCell::new(TinyHttpAdapter::start().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let Some(request) = RequestHead::parse(data) else {
        return;
    };
    let Ok(head) = request.normalized else { return };
    let sooner = RequestHead::parse(&data[..data.len() * usize::from(data[0]) / 256]);
    assert!(sooner.is_none_or(|sooner| sooner.normalized.as_ref() == Ok(&head)));
    TINY_HTTP.with_borrow_mut(|tiny_http| check_are_parsed_unchanged(tiny_http, &[head]));
});
