//! The bytes of a client: what passes the gate tiny_http takes as it is. Its beginning is waited for, or read as
//! the whole is.

#![no_main]

use std::cell::RefCell;

use ec2_role::server::head::{Asked, LEFT_OUT};
use ec2_role::server::reader::Reader;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static READER: RefCell<Reader> = RefCell::new(Reader::start().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let Some(asked) = Asked::read(data) else {
        return;
    };
    let Ok(head) = asked.head else { return };
    let sooner = Asked::read(&data[..data.len() * usize::from(data[0]) / 256]);
    assert!(sooner.is_none_or(|sooner| sooner.head.as_ref() == Ok(&head)));
    READER.with_borrow_mut(|reader| {
        let read = reader.read(&head).unwrap();
        let mut again = format!("{} {} HTTP/1.1\r\n", read.method(), read.url());
        for header in read.headers() {
            assert!(!LEFT_OUT.iter().any(|name| header.field.equiv(name)));
            again.push_str(&format!("{header}\r\n"));
        }
        again.push_str("\r\n");
        assert_eq!(again, head);
        drop(read.into_writer());
    });
});
