//! Tests one transient fault of a peer. Each failure must be logged in one line that names the cause, a valid credential must be
//! served until it expires and no longer, and ec2-role must recover without a restart.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::http::LIST_PATH;
use super::sts::{Call, access_key_id, request_id};
use super::{Ec2Role, Reply, Start, Sts};

/// Lifetime of the credential that is served when the fault is injected. Its refresh is due 1 to 2 s after its receipt.
const LIFETIME: Duration = Duration::from_secs(4);
/// Interval between two requests. Many faults are tested in parallel, and with shorter intervals they would use all processors.
const PACE: Duration = Duration::from_millis(50);
const SERVED: &str = "ec2-role: credential of ";
const EXPIRED: &str = " has expired; requests are answered 500 until there is a new one";
const FAILED: &str = "; next try in ";
/// The log line of a failure contains `KEPT` while there is a valid credential, and `NONE` while there is none.
const KEPT: &str = "; serving the credential valid until ";
const NONE: &str = "; no credential, requests are answered 500; ";

static STARTING: Mutex<()> = Mutex::new(());

pub struct Fault<'a> {
    /// Name of the fault in the message of a failed check.
    pub what: String,
    pub sts: &'a Sts,
    pub start: &'a (dyn Fn() -> Start + Sync),
    /// Injects the fault. The argument is the running ec2-role, or `None` if the fault is injected before the start.
    pub inject: &'a (dyn Fn(Option<Pid>) + Sync),
    pub repair: &'a (dyn Fn(Pid) + Sync),
    /// Texts that the log line of each failure must contain. A string `a…b` stands for the two texts `a` and `b`.
    pub expected: &'a [&'a str],
    /// Number of STS calls in each failed refresh.
    pub calls: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum When {
    AtTheFirstStart,
    DuringARefresh,
}

impl Fault<'_> {
    #[track_caller]
    pub fn check(&self, when: When) {
        match when {
            When::AtTheFirstStart => self.at_the_first_start(),
            When::DuringARefresh => self.during_a_refresh(),
        }
    }

    #[track_caller]
    fn at_the_first_start(&self) {
        (self.inject)(None);
        let calls = self.sts.calls().len();
        let ec2_role = self.start().start();
        let line = ec2_role.wait_for_line(FAILED);
        self.check_request_id(&line, calls);
        assert_eq!(ec2_role.get(LIST_PATH).status, 500, "{}", self.what);
        self.check_recovery(&ec2_role);
    }

    #[track_caller]
    fn during_a_refresh(&self) {
        self.sts
            .replies_now(Reply::good().valid_for(LIFETIME.as_secs() as i64));
        // Inject the fault before the first refresh, which can be due 1 s after the credential. Start one ec2-role at a time,
        // because parallel starts could delay the injection too long.
        let starting = STARTING.lock();
        let ec2_role = self.start().serving();
        assert_eq!(ec2_role.document().status, 200, "{}", self.what);
        (self.inject)(Some(ec2_role.pid));
        drop(starting);
        let calls = self.sts.calls();
        check_is_served_for(&ec2_role, calls.last().unwrap(), calls.len(), LIFETIME);
        ec2_role.wait_for_line(EXPIRED);
        let line = ec2_role.wait_for_line(FAILED);
        self.check_request_id(&line, calls.len());
        self.check_recovery(&ec2_role);
    }

    fn start(&self) -> Start {
        (self.start)().arguments(["--quiet"])
    }

    #[track_caller]
    fn check_request_id(&self, line: &str, calls_before: usize) {
        assert!(
            !line.contains("(request ") || line.contains(&request_id(calls_before + self.calls)),
            "{}: {line}",
            self.what
        );
    }

    /// Ends the fault, waits for a credential, and checks the whole log.
    #[track_caller]
    fn check_recovery(&self, ec2_role: &Ec2Role) {
        let before = ec2_role.lines().len();
        self.sts.replies_now(Reply::good());
        (self.repair)(ec2_role.pid);
        ec2_role.wait_for_line_after(before, SERVED);
        assert_eq!(ec2_role.document().status, 200, "{}", self.what);
        let lines = ec2_role.lines();
        let mut state = NONE;
        for line in &lines {
            let is_right = if line.contains(FAILED) {
                line.contains(state)
                    && self
                        .expected
                        .iter()
                        .flat_map(|expected| expected.split('…'))
                        .all(|expected| line.contains(expected))
            } else if line.contains(SERVED) {
                state = KEPT;
                true
            } else if line.contains(EXPIRED) {
                state = NONE;
                true
            } else {
                line.contains("ec2-role: listening on ")
            };
            assert!(is_right, "{}: {:?}: {line}", self.what, self.expected);
        }
    }
}

/// Checks that the credential of this STS call is served until it expires, and no longer. Returns when no credential is served.
///
/// ec2-role counts the lifetime from a moment between `ec2_role.started` and `call.at`. So that no check fails on a busy machine,
/// the check for an early end counts from `started`, and the check for a late end from `call.at`.
#[track_caller]
pub fn check_is_served_for(ec2_role: &Ec2Role, call: &Call, number: usize, lifetime: Duration) {
    loop {
        let asked = Instant::now();
        let answer = ec2_role.document();
        if answer.status != 200 {
            let served_for = ec2_role.started.elapsed();
            assert!(served_for >= lifetime, "withheld after {served_for:?}");
            return;
        }
        let age = asked - call.at;
        assert!(age < lifetime, "served expired, after {age:?}");
        assert_eq!(answer.field("AccessKeyId"), access_key_id(number));
        std::thread::sleep(PACE);
    }
}
