//! Starts the ec2-role for the load tests. Its STS is called only once, so no refresh disturbs a measurement.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::support::http::{self, DOCUMENT_PATH};
use crate::support::{Ec2Role, Reply, Start, Sts, until};

/// Lifetime in seconds that STS grants. It must be an hour or more; ec2-role uses only the hour that it requested.
/// Its first refresh is due 3 to 30 minutes after the start, so STS is called only once during an attack of the usual 30 s.
const LIFETIME: i64 = 30 * 24 * 3600;

pub struct Subject {
    pub ec2_role: Ec2Role,
    pub sts: Sts,
}

impl Subject {
    /// Copies the binary's file and starts the copy, so that no other process shares its pages and all of its memory is counted.
    pub fn start(
        program: &str,
        before: &[String],
        stderr: Option<Stdio>,
        listen: Ipv4Addr,
    ) -> Self {
        let sts = Sts::start([Reply::good().valid_for(LIFETIME)]);
        let listener = TcpListener::bind((listen, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = (Ipv4Addr::LOCALHOST, port).into();
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
