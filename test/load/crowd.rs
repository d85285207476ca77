//! Clients that begin at the same moment: see scripts/test-crowd.

use std::net::Ipv4Addr;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use crate::client::{self, Figures};
use crate::processes;
use crate::subject::Subject;
use crate::support::sts::access_key_id;

/// Number of clients, and the time limit for the slowest.
const CROWDS: [(usize, Duration); 5] = [
    (1, Duration::from_millis(500)),
    (16, Duration::from_millis(500)),
    (64, Duration::from_millis(500)),
    (256, Duration::from_millis(500)),
    (1_000, Duration::from_secs(1)),
];
/// Repetitions for each number of clients.
const REPEATS: usize = 3;
const STACK_BYTES: usize = 128 * 1024;

/// Prints the table and returns the limits that were exceeded.
pub fn run(program: &str) -> Vec<String> {
    println!(
        "Clients that begin at the same moment, each with an SDK's three requests; {REPEATS} times.\n"
    );
    println!("| Clients | Served | median | slowest | Memory after |\n|---|---|---|---|---|");
    let mut missed = Vec::new();
    for (clients, most) in CROWDS {
        let subject = Subject::start(program, &[], None, Ipv4Addr::LOCALHOST);
        let figures = Mutex::new(Figures::default());
        for _ in 0..REPEATS {
            let start = Barrier::new(clients);
            std::thread::scope(|scope| {
                for _ in 0..clients {
                    let client = || {
                        start.wait();
                        let begun = Instant::now();
                        let from = Ipv4Addr::new(127, 0, 0, 2);
                        let outcome =
                            client::fetch(from, subject.ec2_role.address, &access_key_id(1));
                        let took = begun.elapsed();
                        figures.lock().unwrap().count(outcome, took);
                    };
                    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                    thread.spawn_scoped(scope, client).unwrap();
                }
            });
        }
        let figures = figures.into_inner().unwrap();
        let (success, slowest) = (figures.success(), figures.within(1.0));
        println!(
            "| {clients} | {success:.2} % | {:.1} ms | {:.0} ms | {:.1} MB |",
            figures.within(0.5).as_secs_f64() * 1e3,
            slowest.as_secs_f64() * 1e3,
            processes::held(subject.ec2_role.pid).memory as f64 / 1024.0
        );
        let crowd = format!("a crowd of {clients}");
        missed.extend(
            figures
                .failures
                .iter()
                .map(|(why, count)| format!("{crowd}: {count} not served: {why}")),
        );
        if slowest > most {
            missed.push(format!(
                "{crowd}: the slowest after {slowest:.0?}, not {most:?}"
            ));
        }
    }
    missed
}
