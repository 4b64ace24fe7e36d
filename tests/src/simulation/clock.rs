//! A node's own clock: an offset, a rate that is not quite one, and jumps.

use raftkv_raft::Time;

use super::queue::Micros;

/// Parts per million of true speed.
pub(crate) const TRUE_RATE_PPM: u64 = 1_000_000;

/// The monotonic clock of one machine as a function of the world's time. It never runs backwards: that is what
/// "monotonic" promises, and wall clocks are not used at all. It goes on while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    world_origin: Micros,
    local_origin: u64,
    rate_ppm: u64,
}

impl Clock {
    pub(crate) fn new(offset_us: u64, rate_ppm: u64) -> Clock {
        Clock {
            world_origin: 0,
            local_origin: offset_us,
            rate_ppm: rate_ppm.max(1),
        }
    }

    /// What the clock shows at a moment of the world.
    pub(crate) fn local(&self, world: Micros) -> Time {
        let passed = u128::from(world - self.world_origin) * u128::from(self.rate_ppm);
        let passed =
            u64::try_from(passed / u128::from(TRUE_RATE_PPM)).expect("a run is far shorter than 2^64 µs");
        Time(self.local_origin + passed)
    }

    /// The first moment of the world at which the clock shows `local` or later; at least `now`.
    pub(crate) fn world(&self, local: Time, now: Micros) -> Micros {
        let wait = u128::from(local.0.saturating_sub(self.local_origin)) * u128::from(TRUE_RATE_PPM);
        let wait = wait.div_ceil(u128::from(self.rate_ppm));
        let wait = u64::try_from(wait).unwrap_or(Micros::MAX);
        self.world_origin.saturating_add(wait).max(now)
    }

    /// Runs at another rate from now on.
    pub(crate) fn set_rate(&mut self, now: Micros, rate_ppm: u64) {
        self.local_origin = self.local(now).0;
        self.world_origin = now;
        self.rate_ppm = rate_ppm.max(1);
    }

    /// Jumps forward.
    pub(crate) fn jump(&mut self, now: Micros, by_us: u64) {
        self.local_origin = self.local(now).0 + by_us;
        self.world_origin = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_world_says_so() {
        for rate in [500_000, 999_999, 1_000_000, 1_300_001] {
            let mut clock = Clock::new(77, rate);
            clock.set_rate(1_000, rate + 3);
            clock.jump(2_000, 12_345);
            let deadline = Time(clock.local(5_000).0 + 300_000);
            let at = clock.world(deadline, 5_000);
            assert!(clock.local(at) >= deadline, "rate {rate}: reached");
            assert!(clock.local(at - 1) < deadline, "rate {rate}: not before");
        }
    }
}
