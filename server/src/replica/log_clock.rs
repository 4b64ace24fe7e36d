//! The log time a leader stamps (R74), and when it has to speak up so that TTLs run on.

use std::collections::VecDeque;
use std::time::Duration;

use raftkv_protocol::CheckedCommand;
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Index, RoleName, Time, Write};

use super::formed::Formed;

/// While TTLs exist, log time moves at least this often.
pub(super) const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// Ticks for a deadline that has come are at least this far apart.
const DUE_TICK_INTERVAL: Duration = Duration::from_millis(20);

/// Log time: the highest in the log, and while this node leads, its monotonic time since then.
///
/// What is cut from the log was never seen: a leader that nobody hears goes on stamping, and if it led again with what it
/// had come to, time would leap for leases that were renewed under another leader meanwhile.
#[derive(Debug, Default)]
pub(super) struct LogClock {
    applied_us: u64,
    /// The first entries of each higher log time that are not applied yet.
    unapplied: VecDeque<(Index, u64)>,
    /// When the highest was seen.
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
    /// The log is cut, and goes on with these entries. The clock never runs behind one of them.
    pub(super) fn follow(&mut self, write: &Write, now: Time) {
        if let Some(from) = write.truncate_from {
            while self.unapplied.pop_back_if(|(index, _)| *index >= from).is_some() {}
        }
        for entry in &write.entries {
            if entry.stamp.log_time_us > self.seen_us() {
                self.unapplied
                    .push_back((entry.id.index, entry.stamp.log_time_us));
                self.seen_at = now;
            }
        }
        self.catch_up(now);
    }

    /// The state is that behind the entry at `index`, and has come to this log time.
    pub(super) fn applied(&mut self, index: Index, log_time_us: u64, now: Time) {
        if log_time_us > self.seen_us() {
            self.seen_at = now;
        }
        while self
            .unapplied
            .pop_front_if(|(first, _)| *first <= index)
            .is_some()
        {}
        self.applied_us = self.applied_us.max(log_time_us);
        self.catch_up(now);
    }

    /// A snapshot takes the place of the log.
    pub(super) fn log_is_dropped(&mut self) {
        self.unapplied.clear();
    }

    fn seen_us(&self) -> u64 {
        let last = self.unapplied.back().map_or(0, |(_, log_time_us)| *log_time_us);
        last.max(self.applied_us)
    }

    fn catch_up(&mut self, now: Time) {
        if self
            .running
            .is_some_and(|running| running.read_us(now) < self.seen_us())
        {
            self.start(now);
        }
    }

    /// What log time is now, as far as this node can tell. A follower counts on from what it has seen last: it is right as
    /// long as there was a leader all the while.
    pub(super) fn now_us(&self, now: Time) -> u64 {
        let seen = Running {
            from_us: self.seen_us(),
            since: self.seen_at,
        };
        self.running.unwrap_or(seen).read_us(now)
    }

    /// This node leads: time without a leader has not counted, so it goes on from the last log time seen.
    pub(super) fn start(&mut self, now: Time) {
        let ahead_us = if mutant("leases_end_at_an_election") {
            2_000_000
        } else {
            0
        };
        self.running = Some(Running {
            from_us: self.seen_us() + ahead_us,
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
        self.running
            .map_or(self.seen_us(), |running| running.read_us(now))
    }

    /// When the next tick must be proposed, given the log time of the next deadline.
    pub(super) fn next_tick(&self, next_deadline_us: u64) -> Time {
        let regular = self.stamped_at.after(TICK_INTERVAL);
        let Some(running) = self.running else {
            return regular;
        };
        if self.seen_us() >= next_deadline_us {
            // The log tells of it already: where commits are slow, a tick every few milliseconds would only make them slower.
            return regular;
        }
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
        // Refused: the next one is due half a second later, and log time waits, as it does without a leader.
        if self.propose_own(now, &CheckedCommand::tick()).is_ok() {
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

#[cfg(test)]
mod tests {
    use raftkv_raft::{Entry, EntryId, EntryKind, HardState, Stamp, Term, WriteNumber};

    use super::*;

    fn index(index: u64) -> Index {
        Index::new(index).expect("not 0")
    }

    fn write(truncate_from: Option<u64>, at: u64, log_time_us: u64) -> Write {
        let entry = Entry {
            id: EntryId {
                term: Term(1),
                index: index(at),
            },
            kind: EntryKind::Noop,
            stamp: Stamp {
                log_time_us,
                ..Stamp::default()
            },
            payload: bytes::Bytes::new(),
            configuration: None,
        };
        Write {
            number: WriteNumber(1),
            hard_state: HardState {
                term: Term(1),
                vote: None,
                commit: Index::FIRST,
            },
            truncate_from: truncate_from.map(index),
            entries: vec![entry],
        }
    }

    #[test]
    fn a_leader_goes_on_from_the_highest_log_time_in_its_log() {
        let mut clock = LogClock::default();
        clock.follow(&write(None, 1, 100), Time(10));
        clock.follow(&write(None, 2, 300), Time(20));
        clock.applied(index(1), 100, Time(30));
        assert_eq!(clock.now_us(Time(25)), 305);
        clock.start(Time(1_000));
        assert_eq!(clock.stamp_us(Time(1_007)), 307);
    }

    /// Found by seed 92231 of the simulator: with commits that took seconds a tick came every 20 ms, 1,400 of them in a log that no
    /// snapshot could keep up with.
    #[test]
    fn a_deadline_that_the_log_tells_of_already_brings_no_further_tick() {
        let mut clock = LogClock::default();
        clock.start(Time(0));
        let deadline_us = 5_000;
        assert_eq!(clock.stamp_us(Time(1_000)), 1_000);
        clock.follow(&write(None, 1, 1_000), Time(1_000));
        let spaced = Time(1_000).after(DUE_TICK_INTERVAL);
        assert_eq!(
            clock.next_tick(deadline_us),
            spaced,
            "the deadline is due before that"
        );
        let told_us = clock.stamp_us(spaced);
        clock.follow(&write(None, 2, told_us), spaced);
        assert_eq!(clock.next_tick(deadline_us), spaced.after(TICK_INTERVAL));
        let later_us = told_us + 1;
        assert_eq!(clock.next_tick(later_us), spaced.after(DUE_TICK_INTERVAL));
        // Another leader cut that entry away.
        clock.follow(&write(Some(2), 2, 1_001), spaced);
        assert_eq!(clock.next_tick(deadline_us), spaced.after(DUE_TICK_INTERVAL));
    }

    #[test]
    fn what_was_cut_from_the_log_was_never_seen() {
        let mut clock = LogClock::default();
        clock.follow(&write(None, 1, 100), Time(10));
        clock.follow(&write(None, 2, 5_000), Time(20));
        clock.follow(&write(Some(2), 2, 150), Time(30));
        clock.applied(index(2), 150, Time(40));
        clock.start(Time(1_000));
        assert_eq!(clock.stamp_us(Time(1_000)), 150);
    }
}
