//! Admission of writes while a drain is under way: slowed early and evenly, so that the overlay never fills up and nothing
//! ever stalls.

use std::time::Duration;

use raftkv_raft::Time;

use crate::store::GenerationNumber;

/// How fast drains are, bytes of overlay a second, until one was seen.
const FIRST_GUESS: u64 = 64 << 20;
/// So much may come at once: a batch is never cut into crumbs.
const BURST: Duration = Duration::from_millis(5);
const LEAST_BURST_BYTES: u64 = 64 << 10;
/// Growth is measured over so long.
const GROWTH_WINDOW: Duration = Duration::from_millis(20);
/// What comes is taken to grow the overlay by at least this part, so that a load which turns to new keys all at once can not
/// bring in more than a few bursts before it is seen.
const LEAST_GROWTH_PER_MILLE: u64 = 100;

/// How fast the last drains were.
#[derive(Clone, Copy, Debug)]
pub struct DrainRate {
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
    pub fn observe(&mut self, bytes: u64, took: Duration) {
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

/// How much the overlay grows by what is admitted: a put over what the generation holds already replaces it, and costs the
/// drain nothing. Measured over windows, for keys come as they come; what is admitted in one shows in its growth but for the
/// few milliseconds until it is applied.
#[derive(Debug, Default)]
struct Growth {
    generation: Option<GenerationNumber>,
    filled: u64,
    /// In this window.
    grown: u64,
    admitted: u64,
    began_at: Time,
    /// Of the window before; `None`: not known.
    per_mille: Option<u64>,
}

impl Growth {
    /// The active generation holds so much now.
    fn observe(&mut self, now: Time, generation: GenerationNumber, filled: u64) {
        if self.generation == Some(generation) {
            self.grown += filled.saturating_sub(self.filled);
        } else {
            // It begins empty: each key is new to it.
            *self = Growth {
                generation: Some(generation),
                began_at: now,
                ..Growth::default()
            };
        }
        self.filled = filled;
        if now.since(self.began_at) >= GROWTH_WINDOW && self.admitted >= LEAST_BURST_BYTES {
            let seen = self.grown.saturating_mul(1000) / self.admitted;
            self.per_mille = Some(seen.clamp(LEAST_GROWTH_PER_MILLE, 1000));
            (self.grown, self.admitted, self.began_at) = (0, 0, now);
        }
    }

    fn per_mille(&self) -> u64 {
        self.per_mille.unwrap_or(1000)
    }
}

/// Counts what was admitted against what may be.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Of growth.
    credit_bytes: u64,
    counted_at: Time,
    growth: Growth,
}

impl Throttle {
    /// The active generation holds so much now; called before each batch that is to be admitted.
    pub fn observe(&mut self, now: Time, generation: GenerationNumber, filled: u64) {
        self.growth.observe(now, generation, filled);
    }

    /// Bytes that may be admitted now; `None`: as much as comes.
    pub fn allowance(&mut self, now: Time, rate: DrainRate, filled: u64, limit: u64) -> Option<u64> {
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
        Some(self.credit_bytes.saturating_mul(1000) / self.growth.per_mille())
    }

    /// So much was admitted, as if all of it were new.
    pub fn admitted(&mut self, bytes: u64) {
        self.growth.admitted += bytes;
        let growth = bytes.saturating_mul(self.growth.per_mille()) / 1000;
        self.credit_bytes = self.credit_bytes.saturating_sub(growth);
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
    fn what_replaces_is_charged_by_what_the_overlay_grows() {
        let mut throttle = Throttle::default();
        let generation = GenerationNumber(1);
        let mut filled = LIMIT / 4 * 3;
        let mut admitted = 0;
        for millis in 0..1000 {
            let now = Time(millis * 1000);
            throttle.observe(now, generation, filled);
            // The rate of the drain, whatever the overlay holds by then.
            let allowance = throttle
                .allowance(now, RATE, LIMIT / 4 * 3, LIMIT)
                .expect("slowed");
            throttle.admitted(allowance);
            admitted += allowance;
            filled += allowance / 4;
        }
        let grown = filled - LIMIT / 4 * 3;
        let drained = 40 << 20;
        assert!((drained * 9 / 10..=drained * 11 / 10).contains(&grown), "{grown}");
        assert!(admitted > drained * 7 / 2, "{admitted}");
    }

    #[test]
    fn in_a_new_generation_each_key_is_new() {
        let mut throttle = Throttle::default();
        for millis in 0..100 {
            throttle.observe(Time(millis * 1000), GenerationNumber(1), 0);
            throttle.admitted(LEAST_BURST_BYTES);
        }
        assert_eq!(throttle.growth.per_mille(), LEAST_GROWTH_PER_MILLE);
        throttle.observe(Time(100_000), GenerationNumber(2), 0);
        assert_eq!(throttle.growth.per_mille(), 1000);
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
