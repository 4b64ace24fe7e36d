//! The log time a leader stamps (R74), and when it has to speak up so that TTLs run on.

use std::time::Duration;

use raftkv_protocol::CheckedCommand;
use raftkv_raft::simulation::mark;
use raftkv_raft::{EntryKind, Proposal, RoleName, Stamp, Time};

use super::formed::Formed;

/// While TTLs exist, log time moves at least this often.
pub(super) const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// Ticks for a deadline that has come are at least this far apart.
const DUE_TICK_INTERVAL: Duration = Duration::from_millis(20);

/// Log time: the highest seen in the log, and while this node leads, its monotonic time since then.
#[derive(Debug, Default)]
pub(super) struct LogClock {
    seen_us: u64,
    /// When that was seen.
    seen_at: Time,
    /// Since when this node leads, and the log time then.
    running: Option<Running>,
    /// When something was last stamped.
    stamped_at: Time,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    from_us: u64,
    since: Time,
}

impl Running {
    fn read_us(self, now: Time) -> u64 {
        self.from_us.saturating_add(now.0.saturating_sub(self.since.0))
    }
}

impl LogClock {
    /// An entry with this log time is in the log. The clock never runs behind one.
    pub(super) fn observe(&mut self, log_time_us: u64, now: Time) {
        if log_time_us > self.seen_us {
            (self.seen_us, self.seen_at) = (log_time_us, now);
        }
        if self
            .running
            .is_some_and(|running| running.read_us(now) < log_time_us)
        {
            self.start(now);
        }
    }

    /// What log time is now, as far as this node can tell. A follower counts on from what it has seen last: it is right as
    /// long as there was a leader all the while.
    pub(super) fn now_us(&self, now: Time) -> u64 {
        let seen = Running {
            from_us: self.seen_us,
            since: self.seen_at,
        };
        self.running.unwrap_or(seen).read_us(now)
    }

    /// This node leads: time without a leader has not counted, so it goes on from the last log time seen.
    pub(super) fn start(&mut self, now: Time) {
        self.running = Some(Running {
            from_us: self.seen_us,
            since: now,
        });
    }

    /// This node leads no more.
    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    /// The log time for a batch proposed now.
    pub(super) fn stamp_us(&mut self, now: Time) -> u64 {
        if self.running.is_none() {
            // The core leads already, its transition is not taken yet.
            self.start(now);
        }
        self.stamped_at = now;
        self.running.map_or(self.seen_us, |running| running.read_us(now))
    }

    /// When the next tick must be proposed, given the log time of the next deadline.
    pub(super) fn next_tick(&self, next_deadline_us: u64) -> Time {
        let regular = self.stamped_at.after(TICK_INTERVAL);
        let Some(running) = self.running else {
            return regular;
        };
        let due = Time(
            running
                .since
                .0
                .saturating_add(next_deadline_us.saturating_sub(running.from_us)),
        );
        regular.min(due.max(self.stamped_at.after(DUE_TICK_INTERVAL)))
    }
}

impl Formed {
    /// Keeps log time going while keys wait to expire.
    pub(super) fn propose_tick(&mut self, now: Time) {
        if now < self.next_tick() {
            return;
        }
        let stamp = Stamp {
            log_time_us: self.clock.stamp_us(now),
            ..Stamp::default()
        };
        let payload = CheckedCommand::tick().encoded().clone();
        let tick = Proposal {
            kind: EntryKind::Command,
            stamp,
            payload,
        };
        // Refused: the next one is due half a second later, and log time waits, as it does without a leader.
        if self.raft.propose(now, vec![tick]).is_ok() {
            mark("tick proposed");
        }
    }

    /// The log time that it is now.
    pub(super) fn log_time_now_us(&self, now: Time) -> u64 {
        self.clock.now_us(now).max(self.store.log_time_us())
    }

    /// When log time must be told again; never, unless this node leads and keys wait to expire.
    pub(super) fn next_tick(&self) -> Time {
        match self.store.next_deadline_us() {
            Some(deadline_us) if self.raft.role() == RoleName::Leader => self.clock.next_tick(deadline_us),
            Some(_) | None => Time::NEVER,
        }
    }
}
