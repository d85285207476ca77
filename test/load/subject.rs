//! An ec2-role to be put under load, with an STS that is called once.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::support::http::{self, DOCUMENT_PATH};
use crate::support::{Ec2Role, Reply, Start, Sts, until};

/// Long enough that the first refresh, which falls anywhere in the first half of it, does not come by chance meanwhile.
const LIFETIME: i64 = 30 * 24 * 3600;

pub struct Subject {
    pub ec2_role: Ec2Role,
    pub sts: Sts,
}

impl Subject {
    /// Starts one from a copy of the program, so that it shares its pages with no other and all of its memory is counted.
    pub fn start(program: &str, before: &[String], stderr: Option<Stdio>) -> Self {
        let sts = Sts::start([Reply::good().valid_for(LIFETIME)]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut start = Start::with(&sts)
            .listen("-")
            .stdin(OwnedFd::from(listener))
            .before(before.iter().map(String::as_str));
        let copy = start.home.text("ec2-role");
        std::fs::copy(program, &copy).unwrap();
        start = start.program(copy);
        if let Some(stderr) = stderr {
            start = start.stderr(stderr);
        }
        let mut ec2_role = start.spawn();
        ec2_role.address = address;
        until("the first document", || {
            http::get(address, DOCUMENT_PATH)
                .ok()
                .filter(|answer| answer.status == 200)
        });
        Subject { ec2_role, sts }
    }
}
