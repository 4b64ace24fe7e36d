//! Admission of writes while a drain is under way: slowed early and evenly, so that the overlay never fills up and nothing
//! ever stalls.

use std::time::Duration;

use raftkv_raft::Time;

/// How fast drains are, bytes of overlay a second, until one was seen.
const FIRST_GUESS: u64 = 64 << 20;
/// So much may come at once: a batch is never cut into crumbs.
const BURST: Duration = Duration::from_millis(5);
const LEAST_BURST_BYTES: u64 = 64 << 10;

/// How fast the last drains were.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainRate {
    bytes_per_second: u64,
}

impl Default for DrainRate {
    fn default() -> Self {
        DrainRate {
            bytes_per_second: FIRST_GUESS,
        }
    }
}

impl DrainRate {
    /// A drain of so much took so long. The newest counts half.
    pub(super) fn observe(&mut self, bytes: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let seen = bytes.saturating_mul(1_000_000) / micros;
        // Of a tiny one the overhead was measured, not the speed.
        if bytes >= LEAST_BURST_BYTES {
            self.bytes_per_second = (self.bytes_per_second / 2 + seen / 2).max(LEAST_BURST_BYTES);
        }
    }

    /// What may be admitted a second when the active generation holds `filled` of its `limit` bytes beside a drain: anything
    /// up to the half, the drain's own rate at three quarters, and less and less up to the limit.
    fn admits(self, filled: u64, limit: u64) -> Option<u64> {
        let half = limit / 2;
        if filled < half {
            return None;
        }
        let room = u128::from(limit.saturating_sub(filled));
        let rate = u128::from(self.bytes_per_second) * 4 * room / u128::from(limit.max(1));
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// Counts what was admitted against what may be.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    credit_bytes: u64,
    counted_at: Time,
}

impl Throttle {
    /// Bytes that may be admitted now; `None`: as much as comes.
    pub(super) fn allowance(&mut self, now: Time, rate: DrainRate, filled: u64, limit: u64) -> Option<u64> {
        let Some(per_second) = rate.admits(filled, limit) else {
            self.credit_bytes = LEAST_BURST_BYTES;
            self.counted_at = now;
            return None;
        };
        let elapsed = now.since(self.counted_at).min(BURST * 4);
        self.counted_at = now;
        let earned = u128::from(per_second) * elapsed.as_micros() / 1_000_000;
        let most =
            (u128::from(per_second) * BURST.as_micros() / 1_000_000).max(u128::from(LEAST_BURST_BYTES));
        let credit = (u128::from(self.credit_bytes) + earned).min(most);
        self.credit_bytes = u64::try_from(credit).unwrap_or(u64::MAX);
        Some(self.credit_bytes)
    }

    pub(super) fn admitted(&mut self, bytes: u64) {
        self.credit_bytes = self.credit_bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 64 << 20;
    const RATE: DrainRate = DrainRate {
        bytes_per_second: 40 << 20,
    };

    #[test]
    fn nothing_is_slowed_below_the_half() {
        assert_eq!(
            Throttle::default().allowance(Time(0), RATE, LIMIT / 2 - 1, LIMIT),
            None
        );
    }

    #[test]
    fn at_three_quarters_as_much_comes_in_as_drains_and_at_the_limit_nothing_does() {
        assert_eq!(RATE.admits(LIMIT / 4 * 3, LIMIT), Some(40 << 20));
        assert_eq!(RATE.admits(LIMIT / 2, LIMIT), Some(80 << 20));
        assert_eq!(RATE.admits(LIMIT, LIMIT), Some(0));
    }

    #[test]
    fn over_a_second_as_much_is_admitted_as_the_rate_says_in_even_pieces() {
        let mut throttle = Throttle::default();
        let (mut admitted, mut most) = (0, 0);
        for millis in 0..1000 {
            let now = Time(millis * 1000);
            let allowance = throttle
                .allowance(now, RATE, LIMIT / 4 * 3, LIMIT)
                .expect("slowed");
            throttle.admitted(allowance);
            admitted += allowance;
            most = most.max(allowance);
        }
        let expected = 40 << 20;
        assert!(
            (expected * 9 / 10..=expected * 11 / 10).contains(&admitted),
            "{admitted}"
        );
        assert!(most <= 256 << 10, "{most} bytes came at once");
    }

    #[test]
    fn a_faster_drain_admits_more() {
        let mut rate = RATE;
        rate.observe(64 << 20, Duration::from_millis(500));
        assert_eq!(rate.bytes_per_second, 84 << 20);
        rate.observe(10, Duration::from_secs(5));
        assert_eq!(rate.bytes_per_second, 84 << 20, "a tiny drain says nothing");
    }
}
