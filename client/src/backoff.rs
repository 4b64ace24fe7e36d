//! How long to wait before trying again.

use std::time::Duration;

/// Doubles from `first` to `longest`, each wait drawn from its upper half, so that many clients that lost the same
/// server do not come back in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        assert!(
            first <= longest,
            "a back-off must not shrink: first {first:?}, longest {longest:?}"
        );
        Backoff {
            first,
            longest,
            failures: 0,
        }
    }

    /// The wait after one more failure; `random` is any number.
    pub(crate) fn next(&mut self, random: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        let half = doubled.min(self.longest) / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_stay_within_their_bounds_and_start_over() {
        let (first, longest) = (Duration::from_millis(10), Duration::from_millis(100));
        let mut backoff = Backoff::new(first, longest);
        let waits: Vec<u128> = (0..6).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 100, 100]);
        assert_eq!(backoff.next(0), longest / 2);
        backoff.reset();
        assert_eq!(backoff.next(0), first / 2);
    }
}
