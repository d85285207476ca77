//! A long run with many faults at once: see scripts/test-soak.
//!
//! A failed fetch is excused if the server was killed during it, or if STS failed for so long that no credential was valid. Any
//! other failure fails the run.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ec2_role::common::clock;
use rustix::process::{Signal, kill_process};

use crate::client;
use crate::processes::{self, Held};
use crate::support::ec2_role::is_alive;
use crate::support::http::{self, Answer};
use crate::support::{Reply, Start, Sts, until};

const LIFETIME_SECONDS: i64 = 15;
const CLIENTS: usize = 4;
/// Pause of a client between two fetches.
const PERIOD: Duration = Duration::from_millis(40);
/// Interval between kills of the server. Before each kill, STS's behaviour is chosen at random.
const BETWEEN_KILLS: Duration = Duration::from_secs(1);
/// Tolerance for delays on a busy machine, when a client's time is compared with a credential's expiration.
const LATE: Duration = Duration::from_millis(500);
/// Time limit for the slowest fetch: most SDKs give up after one or two seconds.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Allowed growth of the supervisor's memory from the first quarter of the run to the last.
const MAX_GROWTH_KIB: u64 = 64;

/// Transient faults only: ec2-role must recover when STS answers again.
fn fault(number: u64) -> Reply {
    match number % 9 {
        0 => Reply::error(503, "ServiceUnavailable", "oh"),
        1 => Reply::error(400, "Throttling", "Rate exceeded"),
        2 => Reply::error(403, "AccessDenied", "not authorized"),
        3 => Reply::error(400, "ExpiredToken", "the source has expired"),
        4 => Reply::bytes(200, "{\"truncated"),
        5 => Reply::bytes(200, vec![b'x'; 100_000]),
        6 => Reply::cut_mid_body(),
        7 => Reply::close_at_once(),
        _ => Reply::good()
            .valid_for(LIFETIME_SECONDS)
            .after(Duration::from_millis(700)),
    }
}

#[derive(Default)]
struct Seen {
    fetches: usize,
    slowest: Duration,
    /// Begin, end and error of each fetch whose connection was cut.
    cut: Vec<(Instant, Instant, String)>,
    /// Number of fetches answered 500 while no credential was valid.
    expired: usize,
    /// A text for each wrong answer: an expired document, or an error that `expired` does not count.
    wrong: Vec<String>,
    /// Expiration of the newest document that a client was given.
    valid_until: Option<SystemTime>,
}

pub fn run(program: &str, minutes: f64) -> Vec<String> {
    let sts = Sts::start([Reply::good().valid_for(LIFETIME_SECONDS)]);
    let ec2_role = Start::with(&sts)
        .arguments(["--quiet"])
        .program(program.to_owned())
        .serving();
    let (address, supervisor) = (ec2_role.address, ec2_role.pid);
    let (seen, ended) = (Mutex::new(Seen::default()), AtomicBool::new(false));
    let begun = Instant::now();
    let end = Duration::from_secs_f64(minutes * 60.0);
    // For each kill of the server, the times of the signal and of the server's end. A cut fetch is excused if it was running
    // between these times.
    let mut kills: Vec<(Instant, Instant)> = Vec::new();
    let mut held: Vec<Held> = Vec::new();
    let mut number: u64 = begun.elapsed().as_nanos() as u64;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (seen, ended) = (&seen, &ended);
            let from = Ipv4Addr::new(127, 0, 0, 2 + client as u8);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    fetch(from, address, seen);
                    std::thread::sleep(PERIOD);
                }
            });
        }
        while begun.elapsed() < end {
            std::thread::sleep(BETWEEN_KILLS);
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let choice = number >> 33;
            sts.replies_now(match choice % 2 {
                0 => fault(choice / 2),
                _ => Reply::good().valid_for(LIFETIME_SECONDS),
            });
            held.push(processes::of(supervisor));
            let server = ec2_role.server();
            let killed = Instant::now();
            _ = kill_process(server, Signal::KILL);
            until("its end", || (!is_alive(server)).then_some(()));
            kills.push((killed, Instant::now()));
        }
        ended.store(true, Ordering::Relaxed);
    });
    report(
        &seen.into_inner().unwrap(),
        &kills,
        &held,
        &sts,
        &ec2_role.lines(),
    )
}

fn fetch(from: Ipv4Addr, address: SocketAddr, seen: &Mutex<Seen>) {
    let begun = Instant::now();
    let answer = http::fetch_on(
        || client::connect(from, address, Duration::from_secs(5)),
        address,
    );
    let (ended, now) = (Instant::now(), SystemTime::now());
    let mut seen = seen.lock().unwrap();
    seen.fetches += 1;
    seen.slowest = seen.slowest.max(ended - begun);
    match answer {
        Ok(Answer {
            status: 200, body, ..
        }) => {
            let document: serde_json::Value = serde_json::from_str(&body).unwrap();
            let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
            let expiration = clock::parse_iso8601(&text("Expiration")).unwrap();
            // Expirations are whole seconds, so allow one second more than `LATE`.
            if expiration + LATE + Duration::from_secs(1) < now {
                seen.wrong
                    .push(format!("{} was served expired", text("AccessKeyId")));
            }
            seen.valid_until = seen.valid_until.max(Some(expiration));
        }
        Ok(Answer { status: 500, .. }) if seen.valid_until <= Some(now + LATE) => seen.expired += 1,
        Ok(answer) => {
            let until = seen.valid_until.map(clock::iso8601);
            seen.wrong.push(format!(
                "status {} with a credential valid until {until:?}",
                answer.status
            ));
        }
        Err(error) => seen.cut.push((begun, ended, error.to_string())),
    }
}

fn report(
    seen: &Seen,
    kills: &[(Instant, Instant)],
    held: &[Held],
    sts: &Sts,
    lines: &[String],
) -> Vec<String> {
    let mut missed = seen.wrong.clone();

    let (killed, other): (Vec<_>, Vec<_>) = seen.cut.iter().partition(|(begun, ended, _)| {
        kills
            .iter()
            .any(|(killed, gone)| killed <= ended && begun <= gone)
    });
    missed.extend(
        other
            .iter()
            .map(|(.., why)| format!("cut off, and no server was killed: {why}")),
    );
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    let part = held.len().div_ceil(4);
    // Compare the minimums of the first quarter and of the last: a leak raises the minimum. Resources that the supervisor holds
    // only briefly, for a fetcher or a new server, do not raise the minimum.
    let least = |part: &[Held]| part.iter().copied().reduce(Held::min).unwrap_or_default();
    let (first, last) = (least(&held[..part]), least(&held[held.len() - part..]));
    println!(
        "{} fetches; the server killed {} times; STS called {} times, {} of them failed.\n\
         {} fetches failed because their server was killed, {} because STS had given no credential in time, {} without a reason. \
         Slowest {:.0?}.\n\
         The supervisor, at least in the first quarter and in the last: {} and {} KiB of its own, {} and {} descriptors, {} and {} threads.",
        seen.fetches,
        kills.len(),
        sts.calls().len(),
        count("next try in "),
        killed.len(),
        seen.expired,
        missed.len(),
        seen.slowest,
        first.anonymous,
        last.anonymous,
        first.descriptors,
        last.descriptors,
        first.threads,
        last.threads,
    );
    let bars = [
        (
            last.anonymous <= first.anonymous + MAX_GROWTH_KIB,
            "the supervisor's memory grows",
        ),
        (
            last.descriptors <= first.descriptors,
            "the supervisor's descriptors grow",
        ),
        (
            last.threads <= first.threads,
            "the supervisor's threads grow",
        ),
        (seen.slowest <= TIMEOUT, "an answer was too slow"),
        (
            count("server replaced") + 2 >= kills.len(),
            "a killed server was not noticed",
        ),
    ];
    missed.extend(
        bars.iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, what)| (*what).to_owned()),
    );
    missed
}
