//! Signals as something to poll: SIGTERM and SIGINT end the supervisor, SIGCHLD says that a child has ended.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

pub struct Signals {
    /// Readable when a signal has come.
    pub wake: UnixStream,
    ends: [(&'static str, Arc<AtomicBool>); 2],
}

impl Signals {
    pub fn watch() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let ends = [("SIGTERM", Arc::default()), ("SIGINT", Arc::default())];
        // The flag first: whoever is woken finds it set.
        for (signal, (_, flag)) in [SIGTERM, SIGINT].into_iter().zip(&ends) {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        for signal in [SIGTERM, SIGINT, SIGCHLD] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Signals { wake, ends })
    }

    /// Forgets the wake-ups so far; what they were for is asked below.
    pub fn clear(&mut self) {
        let mut bytes = [0; 64];
        while self.wake.read(&mut bytes).is_ok_and(|length| length > 0) {}
    }

    /// The signal that ends the supervisor, if it has come.
    pub fn end(&self) -> Option<&'static str> {
        self.ends
            .iter()
            .find(|(_, flag)| flag.load(Ordering::Relaxed))
            .map(|(name, _)| *name)
    }
}
