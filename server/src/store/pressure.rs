//! How much a drain hurries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A drain goes at this speed while there is plenty of room in the overlay, and as fast as it can when there is none.
const LEISURELY_BYTES_PER_SECOND: u64 = 48 << 20;

/// How full the overlay is, in thousandths: a drain hurries when it fills.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<AtomicU64>);

impl Pressure {
    /// The generation that is written to holds `filled` of the `limit` bytes it may.
    pub fn set(&self, filled: u64, limit: u64) {
        self.0
            .store(filled.saturating_mul(1000) / limit.max(1), Ordering::Relaxed);
    }

    /// How long a drain rests that has just written so many bytes in this time.
    #[must_use]
    pub fn rest(&self, bytes: u64, took: Duration) -> Duration {
        let leisure = 1000_u64.saturating_sub(self.0.load(Ordering::Relaxed).saturating_mul(2));
        let wanted = Duration::from_micros(bytes.saturating_mul(1_000_000) / LEISURELY_BYTES_PER_SECOND);
        wanted.saturating_sub(took) * u32::try_from(leisure).unwrap_or(0) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_rests_while_there_is_room_and_hurries_when_there_is_none() {
        let pressure = Pressure::default();
        let second = LEISURELY_BYTES_PER_SECOND;
        let took = Duration::from_millis(200);
        assert_eq!(pressure.rest(second, took), Duration::from_millis(800));
        pressure.set(25, 100);
        assert_eq!(pressure.rest(second, took), Duration::from_millis(400));
        pressure.set(50, 100);
        assert_eq!(pressure.rest(second, took), Duration::ZERO);
        pressure.set(0, 100);
        assert_eq!(pressure.rest(second, Duration::from_secs(2)), Duration::ZERO);
    }
}
