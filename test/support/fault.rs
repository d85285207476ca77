//! A fault of something outside that comes and passes, and what holds for every one of them: each failure is one line that names
//! the cause, no valid credential is withheld, nothing expired is served, and it is well again by itself.

use std::time::{Duration, Instant};

use super::http::LIST_PATH;
use super::sts::{access_key_id, request_id};
use super::{Ec2Role, Reply, Start, Sts};

/// Of the credential that is there when the fault comes: it is due to be renewed after 1 to 2 s.
const LIFETIME: Duration = Duration::from_secs(4);
/// What a busy machine may add to a time.
const LATE: Duration = Duration::from_millis(800);
/// How often clients ask; oftener, those of a table at once would take the processors from it.
const PACE: Duration = Duration::from_millis(20);
const SERVED: &str = "ec2-role: credential of ";
const EXPIRED: &str = " has expired; requests are answered 500 until there is a new one";
const FAILED: &str = "; next try in ";
/// What a failure means, with a credential and without.
const KEPT: &str = "; serving the credential valid until ";
const NONE: &str = "; no credential, requests are answered 500; ";

pub struct Fault<'a> {
    /// What it is, for whoever reads of a test that fails.
    pub what: String,
    pub sts: &'a Sts,
    pub start: &'a (dyn Fn() -> Start + Sync),
    pub comes: &'a (dyn Fn() + Sync),
    pub passes: &'a (dyn Fn() + Sync),
    /// What stands in each line, and how many calls of STS each tells of.
    pub said: &'a [&'a str],
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
        (self.comes)();
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
        let ec2_role = self.start().serving();
        (self.comes)();
        let calls = self.sts.calls();
        let key = access_key_id(calls.len());
        let served_for = last_served(&ec2_role, &key) - calls.last().unwrap().at;
        assert!(
            served_for + LATE > LIFETIME && served_for < LIFETIME + LATE,
            "{}: served for {served_for:?}",
            self.what
        );
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

    /// Lets it pass, waits for a credential, and looks at all that was said since the start.
    #[track_caller]
    fn check_recovery(&self, ec2_role: &Ec2Role) {
        let before = ec2_role.lines().len();
        (self.passes)();
        ec2_role.wait_for_line_after(before, SERVED);
        assert_eq!(ec2_role.document().status, 200, "{}", self.what);
        let lines = ec2_role.lines();
        let mut state = NONE;
        for line in &lines {
            let is_right = if line.contains(FAILED) {
                line.contains(state) && self.said.iter().all(|said| line.contains(said))
            } else if line.contains(SERVED) {
                state = KEPT;
                true
            } else if line.contains(EXPIRED) {
                state = NONE;
                true
            } else {
                line.contains("ec2-role: listening on ")
            };
            assert!(is_right, "{}: {:?}: {line}", self.what, self.said);
        }
    }
}

/// Asks until there is no credential any more, and gives when it was last there. Until then it is this one.
#[track_caller]
fn last_served(ec2_role: &Ec2Role, key: &str) -> Instant {
    let mut last = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = ec2_role.document();
        if answer.status != 200 {
            return last;
        }
        assert_eq!(answer.field("AccessKeyId"), key);
        last = asked;
        std::thread::sleep(PACE);
    }
}
