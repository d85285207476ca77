//! Signals: a descriptor to poll for them, and the order that each of them gives.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::log;

/// Handled signals: SIGCHLD, and all signals that would end the process silently. A signal of a bug in the program, such as
/// SIGSEGV, still ends it.
const SIGNALS: [Signal; 14] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGCHLD,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGXCPU,
];

#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// End the program, because the signal with this name was received.
    End(&'static str),
    FetchNow,
}

pub struct Signals {
    /// Becomes readable when a signal is received.
    wake: UnixStream,
    came: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Signals {
    pub fn watch() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        // Make every descriptor before the first handler: if one cannot be made, SIGTERM must still end the process.
        let writes = SIGNALS.iter().map(|_| write.try_clone());
        let writes = writes.collect::<io::Result<Vec<_>>>()?;
        let mut came = Vec::new();
        for (signal, write) in SIGNALS.into_iter().zip(writes) {
            // Handlers run in the order of registration: the flag is set before the wake-up.
            let flag = Arc::default();
            signal_hook::flag::register(signal as i32, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal as i32, write)?;
            came.push((signal, flag));
        }
        Ok(Signals { wake, came })
    }

    /// Waits until a signal is received, one of `fds` is ready or `timeout` has passed.
    pub fn wait<'a>(&'a self, fds: impl Iterator<Item = PollFd<'a>>, timeout: Duration) {
        let wake = PollFd::new(&self.wake, PollFlags::IN);
        let mut fds: Vec<PollFd> = fds.chain([wake]).collect();
        // Round up, or the loop wakes just before the deadline and spins.
        let timeout = Timespec::try_from(timeout + Duration::from_micros(500)).ok();
        // The result is ignored, even EINTR: after each wait the poll loop checks everything.
        _ = poll(&mut fds, timeout.as_ref());
        let mut bytes = [0; 64];
        while (&self.wake).read(&mut bytes).is_ok_and(|length| length > 0) {}
    }

    /// Returns one order of the signals received so far; `End` takes precedence. A signal without an order is logged as
    /// ignored, except SIGCHLD.
    pub fn order(&self) -> Option<Order> {
        let came = self.came.iter();
        let mut came = came.filter(|(_, flag)| flag.swap(false, Ordering::Relaxed));
        came.find_map(|(signal, _)| match signal {
            Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT => Some(Order::End(signal.as_str())),
            Signal::SIGHUP => {
                log::event("SIGHUP: fetching now");
                Some(Order::FetchNow)
            }
            Signal::SIGCHLD => None,
            other => {
                log::warning(&format!("{other} ignored; send SIGHUP to fetch now, SIGTERM to end"));
                None
            }
        })
    }
}
