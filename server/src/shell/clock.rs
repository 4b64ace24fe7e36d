//! The monotonic clock that everything deterministic is told the time by.

use std::time::{Duration, Instant};

use raftkv_raft::Time;

/// Counts microseconds since the server's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Time {
        Time::default().after(self.origin.elapsed())
    }

    /// When `time` is, on the runtime's clock; far in the future for [`Time::NEVER`].
    pub(crate) fn instant(self, time: Time) -> tokio::time::Instant {
        const FAR: Duration = Duration::from_secs(365 * 86_400);
        let since_origin = time.since(Time::default());
        let instant = self.origin + since_origin.min(self.origin.elapsed() + FAR);
        tokio::time::Instant::from_std(instant)
    }
}
