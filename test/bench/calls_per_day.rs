//! Prints a table, separated by tabs, of the STS calls per day for one role whose containers request credentials all the time:
//! with ec2-role's schedule, and with those of other servers as in their sources (test/bench/README.md names the files).

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
