//! Responds to any request. The input's first byte chooses the server's state; the lines after it are method, target and headers.

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
