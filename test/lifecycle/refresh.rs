//! Checks when ec2-role calls STS, and which credential it serves during a call and after a failed one.

use std::process::Command;
use std::time::Duration;

use crate::support::fault::check_is_served_for;
use crate::support::http::{self, DOCUMENT_PATH, LIST_PATH};
use crate::support::sts::access_key_id;
use crate::support::{Directory, Reply, Start, Sts, skip};

/// A library for LD_PRELOAD. The variable STEP is the path of a file. As soon as this file exists, the process sees a wall clock
/// that is two minutes ahead. No other clock changes.
const STEPPING_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME && access(getenv("STEP"), F_OK) == 0)
        time->tv_sec += 120;
    return result;
}
"#;

#[test]
fn a_short_credential_is_refreshed_at_half_its_lifetime() {
    let sts = Sts::start([Reply::good().valid_for(4)]);
    let ec2_role = Start::with(&sts).serving();
    let calls = sts.wait_for_calls(4);
    let gaps: Vec<Duration> = calls
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    // The first refresh comes at least 1 s after the first credential (`schedule::spread`). Each later refresh comes after 1.8 to
    // 2 s: half of the lifetime, or up to a tenth earlier. This test checks only the minimum, because a busy machine can make
    // refreshes late. schedule.rs checks the maximum.
    for (gap, least) in gaps.iter().zip([1000, 1800, 1800]) {
        assert!(*gap >= Duration::from_millis(least), "{gaps:?}");
    }
    ec2_role.wait_for_document_of_call(4);
    assert!(
        !ec2_role
            .lines()
            .iter()
            .any(|line| line.contains("failed") || line.contains("expired"))
    );
}

#[test]
fn a_long_credential_is_not_refreshed_at_once() {
    for (lifetime, least, most) in [(3600, 180, 1800), (900, 24, 240)] {
        let sts = Sts::start([Reply::good().valid_for(lifetime)]);
        let ec2_role = Start::with(&sts).serving();
        let line = ec2_role.wait_for_line("next refresh in ");
        let words: Vec<&str> = line.rsplit(' ').take(2).collect();
        let unit = if words[0] == "min" { 60 } else { 1 };
        let seconds = words[1].parse::<u64>().unwrap() * unit;
        assert!(
            (least..=most).contains(&seconds),
            "{line}: {least} to {most} s"
        );
    }
}

#[test]
fn a_failed_refresh_keeps_the_credential_until_it_expires() {
    let lifetime = Duration::from_secs(3);
    let sts = Sts::start([
        Reply::good().valid_for(3),
        Reply::error(503, "ServiceUnavailable", "oh"),
    ]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).serving();
    check_is_served_for(&ec2_role, &sts.calls()[0], 1, lifetime);
    ec2_role.wait_for_line("; serving the credential valid until ");
    ec2_role.wait_for_line("has expired; requests are answered 500 until there is a new one");
    assert_eq!(ec2_role.get(LIST_PATH).status, 500);
    let failed = sts.calls().len();
    sts.replies_now(Reply::good());
    ec2_role.wait_for_line_after(3, "ec2-role: credential of ");
    let key = ec2_role.document().field("AccessKeyId");
    assert!(
        (failed + 1..=sts.calls().len()).any(|number| key == access_key_id(number)),
        "{key}"
    );
}

#[test]
fn a_slowly_received_credential_is_not_served_expired() {
    let lifetime = Duration::from_secs(12);
    let sts = Sts::start([
        Reply::good().valid_for(12).drip(Duration::from_millis(2)),
        Reply::error(503, "ServiceUnavailable", "oh"),
    ]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).start();
    let call = sts.wait_for_calls(1).remove(0);
    ec2_role.wait_for_document_of_call(1);
    check_is_served_for(&ec2_role, &call, 1, lifetime);
}

#[test]
fn the_next_try_is_not_before_the_logged_time() {
    let sts = Sts::start([Reply::error(400, "Throttling", "Rate exceeded")]);
    let ec2_role = Start::with(&sts).start();
    let calls = sts.wait_for_calls(4);
    let lines = ec2_role.lines();
    let waits = lines.iter().filter_map(|line| {
        let (_, wait) = line.split_once("next try in ")?;
        let (number, unit) = wait.split_once(' ')?;
        let unit = if unit == "ms" { 1 } else { 1000 };
        Some(Duration::from_millis(number.parse::<u64>().unwrap() * unit))
    });
    let waits: Vec<Duration> = waits.collect();
    assert!(waits.len() >= 3, "{lines:?}");
    for (wait, pair) in waits.into_iter().zip(calls.windows(2)) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= wait, "{gap:?} after {wait:?}");
    }
}

#[test]
fn a_hundred_waiting_clients_cause_one_sts_call() {
    let sts = Sts::start([Reply::good().after(Duration::from_millis(300))]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).start();
    let address = ec2_role.address;
    std::thread::scope(|scope| {
        for _ in 0..100 {
            // The server starts when the first fetch has ended, but at the latest after 400 ms. If the fetch takes longer, as it
            // can on a busy machine, the server answers 500 until it has the credential.
            scope.spawn(move || {
                let status = http::get(address, DOCUMENT_PATH).unwrap().status;
                assert!([200, 500].contains(&status), "{status}");
            });
        }
    });
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn a_killed_fetcher_is_logged_and_retried() {
    let sts = Sts::start([Reply::hang(), Reply::good()]);
    let ec2_role = Start::with(&sts).start();
    sts.wait_for_calls(1);
    rustix::process::kill_process(ec2_role.fetcher().unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    ec2_role.wait_for_line("fetcher killed by signal 9 while calling AssumeRole of");
    ec2_role.wait_for_document_of_call(2);
}

/// While a laptop sleeps, Docker Desktop's virtual machine is paused. After the pause, the virtual machine's wall clock is set
/// ahead, but its other clocks have not counted the pause.
#[test]
fn a_fetch_begins_when_the_wall_clock_is_set_ahead() {
    let files = Directory::new();
    let source = files.write("clock.c", STEPPING_CLOCK);
    let (library, step) = (files.text("clock.so"), files.text("step"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o", &library, &source]);
    if !compiler.status().is_ok_and(|status| status.success()) {
        return skip("there is no C compiler");
    }
    let sts = Sts::start([Reply::good()]);
    let start = Start::with(&sts).variable("LD_PRELOAD", &library);
    let ec2_role = start.variable("STEP", &step).serving();
    files.write("step", "");
    ec2_role.wait_for_line("the wall clock was set ahead: fetching now");
    ec2_role.wait_for_document_of_call(2);
    assert_eq!(sts.calls().len(), 2);
}
