//! CPU time of threads, by what it was spent on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// What CPU is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Making the entries: not the store's.
    Load,
    Apply,
    /// Reads beside the writes, and records that deletes depend on.
    Reads,
    /// History's events: written and sealed.
    Events,
    Sort,
    /// Old rows in the base.
    Lookups,
    Images,
    /// New rows, encoded.
    Rows,
    Ingest,
    Compaction,
    /// The memory of generations.
    Release,
}

/// All of them, with their names.
pub(crate) const PARTS: [(Part, &str); 11] = [
    (Part::Load, "load"),
    (Part::Apply, "apply"),
    (Part::Reads, "reads"),
    (Part::Events, "events"),
    (Part::Sort, "sort"),
    (Part::Lookups, "lookups"),
    (Part::Images, "images"),
    (Part::Rows, "rows"),
    (Part::Ingest, "ingest"),
    (Part::Compaction, "compaction"),
    (Part::Release, "release"),
];

/// Nanoseconds, by part.
#[derive(Default)]
pub(crate) struct Spending([AtomicU64; PARTS.len()]);

impl Spending {
    pub(crate) fn of(&self, part: Part) -> u64 {
        self.0[part as usize].load(Ordering::Relaxed)
    }
}

/// Charges one thread's time.
pub(crate) struct Meter {
    spending: Arc<Spending>,
    at: u64,
}

impl Meter {
    /// Of the calling thread, from now on.
    pub(crate) fn start(spending: &Arc<Spending>) -> Meter {
        Meter {
            spending: Arc::clone(spending),
            at: thread_cpu_ns(),
        }
    }

    /// Everything since the last charge was for `part`.
    pub(crate) fn charge(&mut self, part: Part) {
        let now = thread_cpu_ns();
        self.spending.0[part as usize].fetch_add(now - self.at, Ordering::Relaxed);
        self.at = now;
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
