//! Signals as a descriptor to poll: SIGTERM and SIGINT end the supervisor, SIGCHLD says that a child has ended.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

pub struct Signals {
    /// Readable when a signal has come.
    wake: UnixStream,
    ends: [(&'static str, Arc<AtomicBool>); 2],
}

impl Signals {
    pub fn watch() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let ends = [("SIGTERM", Arc::default()), ("SIGINT", Arc::default())];
        // Handlers run in the order of registration: the flag is set before the wake-up.
        for (signal, (_, flag)) in [SIGTERM, SIGINT].into_iter().zip(&ends) {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        for signal in [SIGTERM, SIGINT, SIGCHLD] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Signals { wake, ends })
    }

    /// Waits until a signal comes, one of `fds` is ready or the time is over.
    pub fn wait<'a>(&'a self, fds: impl Iterator<Item = PollFd<'a>>, timeout: Duration) {
        let wake = PollFd::new(&self.wake, PollFlags::IN);
        let mut fds: Vec<PollFd> = fds.chain([wake]).collect();
        // Round up, or the loop wakes just before the deadline and spins.
        let timeout = Timespec::try_from(timeout + Duration::from_micros(500)).ok();
        // An interruption counts as ready: the poll loop looks at everything.
        _ = poll(&mut fds, timeout.as_ref());
        let mut bytes = [0; 64];
        while (&self.wake).read(&mut bytes).is_ok_and(|length| length > 0) {}
    }

    /// The signal that ends the supervisor, if it has come.
    pub fn end(&self) -> Option<&'static str> {
        self.ends
            .iter()
            .find(|(_, flag)| flag.load(Ordering::Relaxed))
            .map(|(name, _)| *name)
    }
}
