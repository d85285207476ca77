//! Simulates a fleet's calls to STS with the real schedule. Also checks the shortest and the longest wait before a retry and
//! before a refresh. The pseudo-random numbers are the same in each run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use ec2_role::supervisor::schedule;

const HOSTS: usize = 10_000;
const HOUR: u64 = 3600;
const LIFETIME: Duration = Duration::from_secs(HOUR);
const OUTAGE: std::ops::Range<u64> = 6 * HOUR..7 * HOUR;
const END: u64 = 12 * HOUR;

/// Pseudo-random numbers (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to 1.
    fn next(&mut self) -> f64 {
        self.bits() as f64 / u64::MAX as f64
    }
}

/// Returns the number of STS calls in each second. All hosts boot in the first second, and each call fails or succeeds at once.
fn calls_of_a_fleet(seed: u64) -> Vec<u32> {
    let mut jitter = Chance(seed);
    let mut calls = vec![0; END as usize];
    // Each entry is a host: the time of its next call in milliseconds, the number of its failures in a row, and `is_fresh`, which
    // is true until the first success after the start or the outage.
    let mut due: BinaryHeap<Reverse<(u64, u32, bool)>> = (0..HOSTS)
        .map(|_| Reverse(((jitter.next() * 999.0) as u64, 0, true)))
        .collect();
    while let Some(Reverse((now, failures, is_fresh))) = due.pop() {
        let second = now / 1000;
        let Some(count) = calls.get_mut(second as usize) else {
            continue;
        };
        *count += 1;
        let (wait, failures, is_fresh) = if OUTAGE.contains(&second) {
            (
                schedule::retry(failures + 1, jitter.next()),
                failures + 1,
                true,
            )
        } else if is_fresh {
            (schedule::spread(LIFETIME, jitter.next()), 0, false)
        } else {
            (schedule::steady(LIFETIME, jitter.next()), 0, false)
        };
        due.push(Reverse((now + wait.as_millis() as u64, failures, is_fresh)));
    }
    calls
}

/// Checks that no minute has more than 1.5 times the mean rate, and no second more than 4 times.
#[track_caller]
fn check_even(what: &str, calls: &[u32]) {
    let mean = f64::from(calls.iter().sum::<u32>()) / calls.len() as f64;
    let second = f64::from(*calls.iter().max().unwrap()) / mean;
    let minutes = calls.chunks(60).map(|minute| minute.iter().sum::<u32>());
    let minute = f64::from(minutes.max().unwrap()) / 60.0 / mean;
    println!(
        "{what}: {mean:.2} calls a second; the busiest minute {minute:.2} times that, the busiest second {second:.2} times"
    );
    assert!(minute <= 1.5, "{what}: a minute {minute:.2} times the mean");
    assert!(second <= 4.0, "{what}: a second {second:.2} times the mean");
}

#[test]
fn a_fleet_spreads_its_calls_after_boot_and_after_an_outage() {
    for seed in 1..=3 {
        let calls = calls_of_a_fleet(seed);
        let part = |from: u64, to: u64| &calls[from as usize..to as usize];
        check_even("from the second hour on", part(HOUR, OUTAGE.start));
        let (begin, end) = (OUTAGE.start, OUTAGE.end);
        let during = *part(begin, end).iter().max().unwrap();
        let after = *part(end, end + 2 * HOUR).iter().max().unwrap();
        let most = 2.0 * HOSTS as f64 / 60.0;
        println!(
            "an hour's outage: the busiest second {during} calls, after it {after}, of at most {most:.0}"
        );
        assert!(f64::from(during.max(after)) <= most, "{during}, {after}");
        check_even("two hours after the outage", part(end + 2 * HOUR, END));
    }
}

#[test]
fn refreshes_are_neither_at_once_nor_late() {
    let mut jitter = Chance(1);
    for seconds in 1..=12 * HOUR {
        let lifetime = Duration::from_secs(seconds);
        let due = schedule::due(lifetime);
        for jitter in [0.0, 1.0, jitter.next()] {
            for wait in [
                schedule::steady(lifetime, jitter),
                schedule::spread(lifetime, jitter),
            ] {
                assert!(
                    wait >= due / 10 && wait <= due,
                    "{wait:?} of {lifetime:?} at {jitter}"
                );
            }
            if seconds >= 900 {
                let least = Duration::from_secs(200);
                assert!(
                    schedule::steady(lifetime, jitter) >= least,
                    "{lifetime:?} at {jitter}"
                );
                assert!(lifetime - due >= Duration::from_secs(600), "{lifetime:?}");
            }
        }
    }
}

#[test]
fn retries_are_half_a_second_to_a_minute_apart() {
    let mut jitter = Chance(2);
    for failures in (0..100).chain([u32::MAX]) {
        for jitter in [0.0, 1.0, jitter.next()] {
            let wait = schedule::retry(failures, jitter);
            let (least, most) = (Duration::from_millis(500), Duration::from_secs(60));
            assert!(
                wait >= least && wait <= most,
                "{wait:?} after {failures} at {jitter}"
            );
        }
    }
}
