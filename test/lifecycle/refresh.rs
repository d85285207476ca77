//! When STS is called, what is served meanwhile, and what when it fails.

use std::time::{Duration, Instant};

use crate::support::http::{self, DOCUMENT_PATH, LIST_PATH};
use crate::support::sts::access_key_id;
use crate::support::{Reply, Start, Sts, until};

/// What a busy machine may add to a time.
const LATE: Duration = Duration::from_millis(800);

#[test]
fn a_short_credential_is_refreshed_at_half_its_life_and_the_first_one_anywhere_before() {
    let sts = Sts::start([Reply::good().valid_for(4)]);
    let ec2_role = Start::with(&sts).serving();
    let calls = sts.wait_for_calls(4);
    let gaps: Vec<Duration> = calls
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    let within = |gap: Duration, from: u64, to: u64| {
        assert!(
            gap >= Duration::from_millis(from) && gap <= Duration::from_millis(to) + LATE,
            "{gaps:?}"
        );
    };
    within(gaps[0], 1000, 2000);
    // A tenth earlier at most, and never later.
    within(gaps[1], 1800, 2000);
    within(gaps[2], 1800, 2000);
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
    for (lifetime, least, most) in [(3600, "1 s", 30), (900, "1 s", 4)] {
        let sts = Sts::start([Reply::good().valid_for(lifetime)]);
        let ec2_role = Start::with(&sts).serving();
        let line = ec2_role.wait_for_line("next refresh in ");
        let words: Vec<&str> = line.rsplit(' ').take(2).collect();
        let number: u64 = words[1].parse().unwrap();
        let is_good = match words[0] {
            "min" => number <= most,
            unit => unit == "s" && number >= 1,
        };
        assert!(is_good, "{line}: from {least} to {most} min");
    }
}

#[test]
fn a_credential_is_kept_when_its_refresh_fails_never_served_expired_and_well_again_by_itself() {
    let lifetime = Duration::from_secs(3);
    let sts = Sts::start([
        Reply::good().valid_for(3),
        Reply::error(503, "ServiceUnavailable", "oh"),
    ]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).serving();
    let received = sts.calls()[0].at;
    let mut last_served = Instant::now();
    until("the end of the credential", || {
        let asked = Instant::now();
        let answer = ec2_role.document();
        if answer.status == 200 {
            assert!(answer.body.contains(&access_key_id(1)));
            last_served = asked;
            return None;
        }
        Some(())
    });
    // Its life began when STS had the call, and counts on from there.
    let served_for = last_served - received;
    assert!(
        served_for + Duration::from_millis(500) > lifetime,
        "served for {served_for:?}"
    );
    assert!(served_for < lifetime + LATE, "served for {served_for:?}");
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
fn a_credential_that_came_slowly_is_not_served_past_its_end() {
    let lifetime = Duration::from_secs(5);
    let sts = Sts::start([
        Reply::good().valid_for(5).drip(Duration::from_millis(2)),
        Reply::error(503, "ServiceUnavailable", "oh"),
    ]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).start();
    let begun = sts.wait_for_calls(1)[0].at;
    ec2_role.wait_for_document_of_call(1);
    assert!(begun.elapsed() > LATE, "it came at once");
    until("the end of the credential", || {
        let asked = Instant::now();
        (ec2_role.document().status == 500)
            .then_some(())
            .or_else(|| {
                let served_after = asked - begun;
                assert!(
                    served_after < lifetime + LATE,
                    "served after {served_after:?}"
                );
                None
            })
    });
}

#[test]
fn a_failing_sts_is_left_alone_for_as_long_as_the_line_says() {
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
    for (wait, pair) in waits.zip(calls.windows(2)) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= wait, "{gap:?} after {wait:?}");
    }
}

#[test]
fn however_many_clients_wait_for_it_sts_is_called_once() {
    let sts = Sts::start([Reply::good().after(Duration::from_millis(300))]);
    let ec2_role = Start::with(&sts).arguments(["--quiet"]).start();
    let address = ec2_role.address;
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(move || assert_eq!(http::get(address, DOCUMENT_PATH).unwrap().status, 200));
        }
    });
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn an_errand_that_is_killed_is_a_failure_like_any_other() {
    let sts = Sts::start([Reply::hang(), Reply::good()]);
    let ec2_role = Start::with(&sts).start();
    sts.wait_for_calls(1);
    rustix::process::kill_process(ec2_role.fetcher().unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    ec2_role.wait_for_line("fetcher killed by signal 9 without a result");
    ec2_role.wait_for_document_of_call(2);
}
