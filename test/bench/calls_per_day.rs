//! Prints how often STS is called in a day, for credentials of 15 minutes to 12 hours: a line each, `MINUTES CALLS`.

use std::time::Duration;

use ec2_role::supervisor::schedule::steady;

fn main() {
    const DAY_SECONDS: f64 = 24.0 * 60.0 * 60.0;
    for minutes in [15, 60, 12 * 60] {
        let every = steady(Duration::from_secs(60 * minutes), 0.5);
        println!("{minutes} {:.0}", DAY_SECONDS / every.as_secs_f64());
    }
}
