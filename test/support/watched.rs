//! Waiting for an event, with a timeout.

use std::fmt::Debug;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a test waits for an event before it fails. Far longer than any event takes on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A value that one thread changes and another waits for.
#[derive(Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T: Debug> Watched<T> {
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Waits until `look` returns a value; fails the test after the timeout.
    #[track_caller]
    pub fn wait<R>(&self, what: &str, mut look: impl FnMut(&T) -> Option<R>) -> R {
        let begun = Instant::now();
        let mut value = self.lock();
        loop {
            if let Some(found) = look(&value) {
                return found;
            }
            let left = TIMEOUT.saturating_sub(begun.elapsed());
            assert!(
                !left.is_zero(),
                "{what}: it did not come; there is {value:#?}"
            );
            value = match self.changed.wait_timeout(value, left) {
                Ok((value, _)) => value,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls until `ask` returns a value, for conditions without an event; fails the test after the timeout.
#[track_caller]
pub fn until<R>(what: &str, mut ask: impl FnMut() -> Option<R>) -> R {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < TIMEOUT, "{what}: it did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Calls `check` for all rows (test cases) in parallel, because a check mostly waits. If one check fails, the test fails.
pub fn each<Row: Send>(rows: impl IntoIterator<Item = Row>, check: impl Fn(Row) + Sync) {
    std::thread::scope(|scope| {
        for row in rows {
            scope.spawn(|| check(row));
        }
    });
}
