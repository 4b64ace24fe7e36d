//! Latencies and counts.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer latencies are recorded as this long.
const LONGEST: Duration = Duration::from_secs(600);

/// Three digits: a percent of a percent is more than runs repeat to.
const DIGITS: u8 = 3;

/// Nanoseconds.
pub(crate) type Latencies = Histogram<u64>;

pub(crate) fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, DIGITS).expect("the bounds and digits are valid")
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) reads: Latencies,
    pub(crate) writes: Latencies,
    /// Answers that came within the measured time.
    pub(crate) answers: u64,
    /// Keys in the pages among them.
    pub(crate) scanned_keys: u64,
    /// Reads that found nothing.
    pub(crate) misses: u64,
    /// Compare and sets, and transactions, that found a key changed by another: answered, and without effect.
    pub(crate) conflicts: u64,
    /// Operations that were not answered as asked, by reason.
    pub(crate) errors: BTreeMap<&'static str, u64>,
}

impl Recorder {
    pub(crate) fn new() -> Recorder {
        Recorder {
            reads: latencies(),
            writes: latencies(),
            answers: 0,
            scanned_keys: 0,
            misses: 0,
            conflicts: 0,
            errors: BTreeMap::new(),
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Records within the bounds.
pub(crate) fn record(latencies: &mut Latencies, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
}

/// A percentile in microseconds.
pub(crate) fn percentile_us(latencies: &Latencies, percentile: f64) -> f64 {
    latencies.value_at_percentile(percentile) as f64 / 1_000.0
}
