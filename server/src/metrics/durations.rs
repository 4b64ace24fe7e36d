//! How long things took: counts in buckets. Written by one thread without locks, copied when somebody asks.

use std::time::Duration;

/// Upper bounds of the buckets, microseconds; what took longer is in one more. A sync takes tenths of a millisecond, a read from
/// memory less, and nothing waits for longer than the last: so from one to the next is about twice.
pub(super) const BOUNDS_US: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durations {
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Durations {
    /// One more took so long.
    pub(crate) fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many there were.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All together.
    #[must_use]
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// Each bucket's upper bound, seconds, and how many are in that bucket alone.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_US
            .iter()
            .map(|us| Duration::from_micros(*us).as_secs_f64());
        bounds
            .chain([f64::INFINITY])
            .zip(self.counts.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_the_last_of_its_bucket() {
        let mut durations = Durations::default();
        for us in [0, 50, 51, 10_000_000, 10_000_001, u64::MAX] {
            durations.record(Duration::from_micros(us));
        }
        let filled: Vec<_> = durations
            .buckets()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            filled,
            [(0.000_05, 2), (0.000_1, 1), (10.0, 1), (f64::INFINITY, 2)]
        );
        assert_eq!(durations.count(), 6);
        assert_eq!(durations.sum(), Duration::from_micros(u64::MAX));
    }
}
