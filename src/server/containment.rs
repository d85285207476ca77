//! What keeps a hostile client's damage within this process, and this process's end harmless.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use crate::heap;
use crate::own_door;

/// Each unwanted body, and each peer that goes too early, costs a thread and two descriptors until the process ends, which it
/// does at this many.
const MAX_LOST_THREADS: u32 = 384;
/// Two descriptors, a thread and some 12 KB for each connection: enough for a crowd of 1,000, and a bound for a hostile one.
/// The process goes when three of four are in use.
const MAX_DESCRIPTORS: u64 = 3000;
/// A connection needs some 3 KB of heap, a header line as much as its client sends. With so much in use the process goes by
/// itself …
const WORN_HEAP_BYTES: usize = 4 * 1024 * 1024;
/// … and with so much it is ended: a line's buffer doubles, and half of it is not yet touched.
const MAX_HEAP_BYTES: usize = 16 * 1024 * 1024;
/// When the process ends, the connections that were already accepted are still answered; it waits this long for one more …
pub const LAST_REQUEST: Duration = Duration::from_millis(20);
/// … and this long for all of them.
pub const LAST_REQUESTS: Duration = Duration::from_millis(200);
/// No honest client holds a connection for so long. What is held over all of it is lost, and given back by a fresh process.
const LONGEST_HELD: Duration = Duration::from_secs(10);

/// Lowers the limit of descriptors; a lower one that is there stays.
pub fn limit_descriptors() {
    if getrlimit(Resource::Nofile)
        .current
        .is_none_or(|present| present > MAX_DESCRIPTORS)
    {
        let limit = Rlimit {
            current: Some(MAX_DESCRIPTORS),
            maximum: Some(MAX_DESCRIPTORS),
        };
        _ = setrlimit(Resource::Nofile, limit);
    }
}

/// tiny_http's threads hand each request from one to the next and never work at one time. On several processors each hand-over
/// wakes another one, to meet at a lock that the giver still holds: half as much work again. Before there are threads, which
/// inherit it. Where a sandbox forbids it, it goes as it would.
pub fn stay_on_one_processor() {
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    _ = sched_setaffinity(None, &here);
}

/// Sets what can be set once threads run.
pub fn contain() {
    heap::limit(MAX_HEAP_BYTES);
    contain_panics();
}

/// Whether this process should be replaced: it holds much for clients that are hostile or broken.
pub fn is_worn(unwanted_bodies: u32) -> bool {
    unwanted_bodies + STOPPED.load(Ordering::Relaxed) >= MAX_LOST_THREADS
        || heap::in_use() > WORN_HEAP_BYTES
        || descriptors_run_out()
}

/// Whether three of four are in use. When none is left tiny_http drops the connection that it has just accepted, which may be
/// anyone's; so the process goes before. A new descriptor is the lowest that is free, which tells it in no time.
fn descriptors_run_out() -> bool {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .is_ok_and(|lowest| lowest.as_raw_fd() as u64 > limit / 4 * 3)
}

/// One more request was read that is to be answered.
pub fn count_request() {
    READ.fetch_add(1, Ordering::Relaxed);
}

/// What tiny_http has accepted and not read when the process ends would be cut off; what waits in the backlog is the next
/// server's. tiny_http accepts no more after an error, and a socket that does not block gives one as soon as no one waits. The
/// socket is shared: the keeper lets it block again for the next server. A connection from here ends the accept that waits now.
pub fn stop_accepting(own_address: Option<SocketAddr>) {
    _ = rustix::io::ioctl_fionbio(std::io::stdin(), true);
    _ = own_address.and_then(own_door::connect);
}

/// Frees who waits for a thread. Of connections that come at once tiny_http promises several to one idle thread; the rest wait
/// until its client goes, which may be one that holds it on purpose. Each connection that finds no thread idle is given a new
/// one, which then takes one of the rest: so as many of our own, that say nothing. Gives how many connections there are.
pub fn free_those_who_wait(own_address: Option<SocketAddr>) -> usize {
    let descriptors = entries("/proc/self/fd").saturating_sub(AT_START.load(Ordering::Relaxed));
    // Beside the loop's and the accepting thread each has one connection, of two descriptors.
    let threads = entries("/proc/self/task").saturating_sub(2);
    let connections = descriptors / 2;
    for _ in threads..connections {
        _ = own_address.and_then(own_door::connect);
    }
    connections
}

/// The least that were held since a moment.
pub struct LeastHeld {
    since: Instant,
    connections: usize,
}

impl LeastHeld {
    pub fn new() -> Self {
        LeastHeld {
            since: Instant::now(),
            connections: usize::MAX,
        }
    }

    /// Takes how many are held now. Whether there are some that are lost.
    pub fn is_lost(&mut self, connections: usize) -> bool {
        self.connections = self.connections.min(connections);
        if self.since.elapsed() < LONGEST_HELD {
            return false;
        }
        std::mem::replace(self, Self::new()).connections > 0
    }
}

/// The descriptors before there was any connection.
static AT_START: AtomicUsize = AtomicUsize::new(0);

/// Remembers how many descriptors there are without a connection.
pub fn count_descriptors() {
    AT_START.store(entries("/proc/self/fd"), Ordering::Relaxed);
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// The connections whose threads were stopped in a panic.
static STOPPED: AtomicU32 = AtomicU32::new(0);
/// The requests read, for whoever must know whether there are more.
static READ: AtomicU32 = AtomicU32::new(0);

/// A panic in client.rs is one connection's: its peer had gone before tiny_http asked for its address. Its thread is stopped
/// there, where it holds no lock; to unwind would cost 200 KB of tables, and to abort every other connection. Any other panic is
/// the accepting thread's, for want of descriptors, or unknown: the process ends when it has answered what it has read.
fn contain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let is_one_connection = panic
            .location()
            .is_some_and(|location| location.file().ends_with("client.rs"));
        if is_one_connection {
            STOPPED.fetch_add(1, Ordering::Relaxed);
            loop {
                std::thread::park();
            }
        }
        // The keeper then starts the next one, while this one answers what it has read.
        _ = rustix::io::write(std::io::stdout(), b".");
        let begun = Instant::now();
        loop {
            let before = READ.load(Ordering::Relaxed);
            std::thread::sleep(LAST_REQUEST);
            if READ.load(Ordering::Relaxed) == before || begun.elapsed() > LAST_REQUESTS {
                std::process::exit(0);
            }
        }
    }));
}
