//! Checks the router's response to any request. The first byte of the input chooses the server's state. The rest is text: a line
//! with the method, a line with the target, and a line for each header.

#![no_main]

#[path = "../../support/any_answer.rs"]
mod any_answer;

use any_answer::{CONTAINER_TOKEN, World};
use ec2_role::server::protocol::http::Request;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, rest)) = data.split_first() else {
        return Corpus::Reject;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return Corpus::Reject;
    };
    let world = World::new(*choice);
    // A fuzzer cannot guess valid tokens, so the input has placeholders for them.
    let text = text
        .replace("$TOKEN", &world.token)
        .replace("$CONTAINER", CONTAINER_TOKEN);
    let mut lines = text.split('\n');
    let (method, target) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    world.check(&Request {
        method,
        target,
        headers: &headers,
        is_to_loopback: false,
    });
    Corpus::Keep
});
