//! When operations are due in an open loop.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// The evenly spaced moments at which one connection's operations are due. All connections together make the rate: the
/// n-th operation of the whole is due n intervals after the begin, and belongs to connection n modulo their number.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    begin: Instant,
    rate: NonZeroU32,
    /// Place in the whole of this connection's next operation.
    next: u64,
    /// Distance to the one after it.
    stride: u64,
}

impl Schedule {
    /// The share of connection `index` of `connections`.
    pub(crate) fn new(begin: Instant, rate: NonZeroU32, index: usize, connections: usize) -> Schedule {
        Schedule {
            begin,
            rate,
            next: index as u64,
            stride: connections as u64,
        }
    }

    /// When this connection's next operation is due. Computed from the begin each time, so that rounding does not add up.
    pub(crate) fn next_due(&self) -> Instant {
        due(self.begin, self.rate, self.next)
    }

    /// Takes the next operation, if it is due: the moment from which its latency counts, however late it is started.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due();
        if due > now {
            return None;
        }
        self.next += self.stride;
        Some(due)
    }

    /// How many operations became due before `end` and were not taken.
    pub(crate) fn untaken_before(&self, end: Instant) -> u64 {
        let mut rest = self.clone();
        let mut count = 0;
        while rest.next_due() < end {
            rest.next += rest.stride;
            count += 1;
        }
        count
    }
}

/// When the n-th operation of the whole is due.
pub(crate) fn due(begin: Instant, rate: NonZeroU32, n: u64) -> Instant {
    let rate = u64::from(rate.get());
    let rest = Duration::from_nanos((n % rate) * 1_000_000_000 / rate);
    begin + Duration::from_secs(n / rate) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU32 = NonZeroU32::new(300).expect("not 0");

    #[test]
    fn the_connections_together_make_the_rate_with_even_gaps() {
        let begin = Instant::now();
        let end = begin + Duration::from_secs(2);
        let mut due: Vec<Instant> = Vec::new();
        for index in 0..7 {
            let mut schedule = Schedule::new(begin, RATE, index, 7);
            assert_eq!(
                schedule.untaken_before(end),
                600_u64.saturating_sub(index as u64).div_ceil(7)
            );
            while let Some(moment) = schedule.take_due(end - Duration::from_nanos(1)) {
                due.push(moment);
            }
            assert_eq!(schedule.untaken_before(end), 0);
        }
        due.sort_unstable();
        assert_eq!(due.len(), 600);
        let gaps = due.windows(2).map(|pair| (pair[1] - pair[0]).as_nanos());
        assert!(gaps.into_iter().all(|gap| gap.abs_diff(1_000_000_000 / 300) <= 1));
    }

    #[test]
    fn a_late_start_counts_from_when_it_was_due() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(begin, RATE, 0, 1);
        assert_eq!(schedule.take_due(begin), Some(begin));
        assert_eq!(schedule.take_due(begin), None, "the next is due later");
        // One second of standstill: what became due meanwhile is taken now, each with its own due time.
        let now = begin + Duration::from_secs(1);
        let late: Vec<Instant> = std::iter::from_fn(|| schedule.take_due(now)).collect();
        assert_eq!(late.len(), 300);
        assert!(now - late[0] > Duration::from_millis(990));
        assert_eq!(late.last(), Some(&now));
    }
}
