//! Prints the number of STS calls per day with the schedule of ec2-role and of other programs, as a table separated by tabs. It
//! assumes one role whose containers request credentials all the time. test/bench/README.md names the source files of the
//! schedules.

use std::time::Duration;

use ec2_role::supervisor::schedule::steady;

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

const DAY: Duration = minutes(24 * 60);
const LIFETIMES: [(&str, Duration); 3] = [
    ("15 minutes", minutes(15)),
    ("1 hour", minutes(60)),
    ("12 hours", minutes(12 * 60)),
];

/// Returns how long a credential of this lifetime is used before it is replaced.
type Schedule = fn(Duration) -> Duration;

const SCHEDULES: [(&str, Schedule); 7] = [
    ("ec2-role, a host", |lifetime| steady(lifetime, 0.5)),
    ("kube2iam, a host", |lifetime| lifetime / 2),
    ("kiam, a server of the cluster's", |lifetime| {
        lifetime - minutes(5)
    }),
    ("rolesanywhere serve, a process", |lifetime| {
        lifetime - minutes(10)
    }),
    ("botocore's own AssumeRole, a process", |lifetime| {
        lifetime - minutes(15)
    }),
    ("Java v2's and JavaScript v3's, a process", |lifetime| {
        lifetime - minutes(5)
    }),
    ("Rust's, a process", |lifetime| {
        lifetime - Duration::from_secs(10)
    }),
];

fn main() {
    println!("\t{}", LIFETIMES.map(|(name, _)| name).join("\t"));
    for (name, used) in SCHEDULES {
        let calls = LIFETIMES.map(|(_, lifetime)| match used(lifetime).as_secs_f64() {
            0.0 => "each request".to_owned(),
            used => format!("{:.0}", DAY.as_secs_f64() / used),
        });
        println!("{name}\t{}", calls.join("\t"));
    }
}
