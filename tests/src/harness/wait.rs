//! Waiting for conditions, never for time alone.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Until when something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(time: Duration) -> Deadline {
        Deadline(Instant::now() + time)
    }

    /// So many seconds from now.
    #[must_use]
    pub fn seconds(seconds: u64) -> Deadline {
        Deadline::after(Duration::from_secs(seconds))
    }

    /// Has it passed?
    #[must_use]
    pub fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }

    /// What is left of it.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Waits until `look` gives a value, and returns it; `look` says what it saw instead.
///
/// # Panics
/// When the deadline passes first: with `what`, and what was seen last.
#[track_caller]
pub fn wait_for<T, E: Display>(what: &str, deadline: Deadline, mut look: impl FnMut() -> Result<T, E>) -> T {
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if deadline.has_passed() => panic!("waited in vain for {what}: {seen}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}
