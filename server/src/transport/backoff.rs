//! How long to wait before the next attempt to connect.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from attempt to attempt; what is waited is drawn from the upper half, so that nodes that lost each other at
/// the same moment do not come back at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: SHORTEST }
    }

    /// The wait before the next attempt; `draw` is uniform in [0, 1).
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let wait = self.next.mul_f64(0.5 + draw / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// The connection works again.
    pub(crate) fn reset(&mut self) {
        self.next = SHORTEST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), SHORTEST / 2);
    }
}
