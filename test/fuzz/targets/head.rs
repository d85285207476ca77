//! The bytes of a client: what passes the gate tiny_http takes as it is. Its beginning is waited for, or read as
//! the whole is.

#![no_main]

#[path = "../../support/any_head.rs"]
mod any_head;

use std::cell::RefCell;

use any_head::check_is_taken_as_it_is;
use ec2_role::server::request_head::RequestHead;
use ec2_role::server::tiny_http_adapter::TinyHttpAdapter;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static READER: RefCell<TinyHttpAdapter> = RefCell::new(TinyHttpAdapter::start().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let Some(request) = RequestHead::parse(data) else {
        return;
    };
    let Ok(head) = request.normalized else { return };
    let sooner = RequestHead::parse(&data[..data.len() * usize::from(data[0]) / 256]);
    assert!(sooner.is_none_or(|sooner| sooner.normalized.as_ref() == Ok(&head)));
    READER.with_borrow_mut(|reader| check_is_taken_as_it_is(reader, &head));
});
