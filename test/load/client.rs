//! A client with its own address that makes the three requests of an SDK, and measures how long they take and how many fail.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::support::http;

/// Interval between the starts of two fetches.
const PERIOD: Duration = Duration::from_millis(10);
/// Maximum concurrent fetches. With 50, a fetch can start every [`PERIOD`] even if each takes 500 ms, the timeout of Go's SDK.
pub const FETCHES: u32 = 50;

pub fn connect(from: Ipv4Addr, to: SocketAddr, timeouts: Duration) -> io::Result<TcpStream> {
    let (inet, cloexec) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(inet, SocketType::STREAM, cloexec, None)?;
    for limit in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, limit, Some(timeouts))?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(from.into(), 0))?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

#[derive(Default)]
pub struct Figures {
    pub times: Vec<Duration>,
    /// Count of failures for each reason.
    pub failures: BTreeMap<String, usize>,
}

impl Figures {
    pub fn count(&mut self, outcome: Result<(), String>, took: Duration) {
        self.times.push(took);
        if let Err(why) = outcome {
            *self.failures.entry(why).or_default() += 1;
        }
    }

    /// Percentage of fetches that succeeded.
    pub fn success(&self) -> f64 {
        let failed: usize = self.failures.values().sum();
        100.0 * (1.0 - failed as f64 / self.times.len().max(1) as f64)
    }

    /// The percentile of the times; `part` is from 0 to 1.
    pub fn within(&self, part: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len().saturating_sub(1) as f64 * part).ceil() as usize;
        times.get(at).copied().unwrap_or_default()
    }
}

/// Fetches the document once; its access key id must be `key`.
pub fn fetch(from: Ipv4Addr, address: SocketAddr, key: &str) -> Result<(), String> {
    let timeouts = Duration::from_secs(5);
    match http::fetch_on(|| connect(from, address, timeouts), address) {
        Ok(answer) if answer.status == 200 && answer.body.contains(key) => Ok(()),
        Ok(answer) => Err(format!("status {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}

/// Starts a fetch every [`PERIOD`] until `ended` is set.
pub fn fetch_until(ended: &AtomicBool, from: Ipv4Addr, address: SocketAddr, key: &str) -> Figures {
    let (begun, number) = (Instant::now(), AtomicU32::new(0));
    let figures = Mutex::new(Figures::default());
    std::thread::scope(|scope| {
        for _ in 0..FETCHES {
            scope.spawn(|| {
                loop {
                    let due = begun + PERIOD * number.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let begun = Instant::now();
                    let outcome = fetch(from, address, key);
                    let took = begun.elapsed();
                    figures.lock().unwrap().count(outcome, took);
                }
            });
        }
    });
    figures.into_inner().unwrap()
}
