//! Receives signals through a descriptor that can be polled, and translates them into orders.

use std::io;
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal::{self, *};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stderr;
use rustix::termios::tcgetattr;

use crate::common::{SUPERVISOR_SIGNALS, log};

/// Pause after a failed poll, so that the poll loop does not spin. Poll fails if memory is short or RLIMIT_NOFILE was lowered.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// End the program, because the signal with this name was received.
    End(&'static str),
    FetchNow,
    ShareAddress,
}

pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals, so that they are received through the descriptor. A child inherits the signal mask, and replaces it
    /// ([`ProcessKind::harden`]).
    ///
    /// [`ProcessKind::harden`]: crate::common::ProcessKind::harden
    pub fn watch() -> io::Result<Self> {
        let signals = SigSet::from_iter(SUPERVISOR_SIGNALS);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&signals, flags)?;
        // Block the signals only after the descriptor exists: if it cannot be created, signals must still end the process.
        signals.thread_block()?;
        Ok(Signals(descriptor))
    }

    /// Waits until a signal is received, one of `fds` is ready or `timeout` has passed.
    pub fn wait<'a>(&'a self, fds: impl Iterator<Item = PollFd<'a>>, timeout: Duration) {
        let signals = PollFd::new(&self.0, PollFlags::IN);
        let mut fds: Vec<PollFd> = fds.chain([signals]).collect();
        let timeout = Timespec::try_from(timeout).ok();
        // A poll that a signal interrupts need not be repeated, because the poll loop checks everything after each wait.
        if poll(&mut fds, timeout.as_ref()).is_err_and(|error| error != Errno::INTR) {
            std::thread::sleep(ERROR_PAUSE);
        }
    }

    /// Reads the received signals up to the first one that is an order, and returns this order. Signals that are no order are
    /// logged as ignored, except SIGCHLD.
    pub fn order(&self) -> Option<Order> {
        while let Ok(Some(signal)) = self.0.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(SIGCHLD) | Err(_) => {}
                Ok(end @ (SIGTERM | SIGINT | SIGQUIT)) => return Some(Order::End(end.as_str())),
                // If a user started ec2-role in a terminal and has closed the terminal, tcgetattr fails with EIO. Then end, as
                // after Ctrl-C.
                Ok(SIGHUP) if tcgetattr(stderr()).err() == Some(Errno::IO) => {
                    return Some(Order::End("SIGHUP"));
                }
                Ok(SIGHUP) => return Some(Order::FetchNow),
                Ok(SIGUSR2) => return Some(Order::ShareAddress),
                Ok(other) => log::warning(&format!(
                    "{other} ignored; send SIGHUP to fetch now, SIGTERM to end"
                )),
            }
        }
        None
    }
}
