//! Leader leases (thesis 6.4.1): reads that the leader serves without asking anyone, while no other node can be elected.
//!
//! A voter that answered a heartbeat gives no vote to anyone else for an election time-out. So once a quorum has answered
//! a round, no other leader can be elected until that time after the round was *sent*, as clocks go. The lease lasts a
//! little shorter than that, by the bound on how far two clocks drift apart (R70). Nothing but these reads depends on any
//! clock, and they are off by default.
//!
//! One thing is stricter here than in the thesis: a leader that has sent a `TimeoutNow` has no lease any more in its term,
//! even when the transfer is aborted. That message overrides all promises of voters, and may arrive arbitrarily late.

use std::collections::VecDeque;
use std::time::Duration;

use crate::raft::Raft;
use crate::role::Role;
use crate::simulation::{mark, mutant};
use crate::{Index, Round, Term, Time, Transition};

/// Whether leaders serve reads by lease. Must agree across the cluster: voters that restart keep a promise only if on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderLeases {
    /// Every linearizable read asks a quorum. Safe whatever clocks do.
    Off,
    /// Leases are kept.
    On {
        /// The bound: how far the rate of any node's monotonic clock (one that counts suspended time) may differ from true
        /// time, in millionths. Quartz is within 200; virtual machines that are moved may need more. Beyond it a lease
        /// read may be stale.
        max_clock_drift_ppm: u32,
    },
}

impl LeaderLeases {
    /// More drift than this is no clock.
    pub(crate) const MOST_DRIFT_PPM: u32 = 200_000;

    /// How long a lease lasts on the leader's clock. The voter's clock may be fast, the leader's slow: both cost. A
    /// twentieth is taken off besides, for whatever a caller's reading of its clock is late by.
    fn length(self, election_timeout: Duration) -> Option<Duration> {
        let LeaderLeases::On { max_clock_drift_ppm } = self else {
            return None;
        };
        let by_drift =
            election_timeout * (1_000_000 - max_clock_drift_ppm) / (1_000_000 + max_clock_drift_ppm);
        Some(by_drift.saturating_sub(election_timeout / 20))
    }

    pub(crate) fn are_on(self) -> bool {
        self != LeaderLeases::Off
    }
}

/// Proof of a lease at one moment: reads of the state as of `index` are linearizable while [`Raft::still_holds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderLease {
    /// The term it belongs to.
    pub term: Term,
    /// Serve once applied up to here.
    pub index: Index,
}

/// The leader's account of its lease.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    /// `None`: leases are off, or given up for the rest of the term.
    length: Option<Duration>,
    /// Rounds that no quorum has answered, and when they were sent.
    sent: VecDeque<(Round, Time)>,
    /// The lease: from when a round was sent until it expires.
    held: Option<(Time, Time)>,
}

impl LeaseKeeper {
    pub(crate) fn new(leases: LeaderLeases, election_timeout: Duration) -> LeaseKeeper {
        LeaseKeeper {
            length: leases.length(election_timeout),
            sent: VecDeque::new(),
            held: None,
        }
    }

    pub(crate) fn round_sent(&mut self, round: Round, now: Time) {
        let Some(length) = self.length else { return };
        // What was sent that long ago gives no lease any more.
        while self
            .sent
            .front()
            .is_some_and(|(_, sent)| sent.after(length) <= now)
        {
            self.sent.pop_front();
        }
        self.sent.push_back((round, now));
    }

    /// A quorum has answered `round` or a later one, which was just heard at `now`.
    pub(crate) fn confirmed(&mut self, round: Round, now: Time) {
        let Some(length) = self.length else { return };
        while let Some((_, sent)) = self.sent.pop_front_if(|(sent, _)| *sent <= round) {
            let start = if mutant("X24_lease_counted_from_the_ack") {
                now
            } else {
                sent
            };
            self.held = Some((start, start.after(length)));
        }
    }

    fn is_held(&self, now: Time) -> bool {
        self.held.is_some_and(|(start, end)| start <= now && now < end)
    }

    /// Only a round that is sent from now on gives a lease again. Was there one?
    fn drop_held(&mut self) -> bool {
        self.sent.clear();
        self.held.take().is_some()
    }

    /// No lease any more in this term.
    pub(crate) fn give_up(&mut self) {
        if self.length.take().is_some() {
            mark("lease given up for a transfer");
        }
        self.drop_held();
    }
}

impl Raft {
    /// A lease, if this node leads, has committed in its term, and holds one at `now`. Serve the read from the state as of
    /// its index, and ask [`Raft::still_holds`] with a fresh time *after* the state was read: a pause in between would make
    /// it stale (R70). Without a lease, [`Raft::read`] does.
    #[must_use]
    pub fn lease(&self, now: Time) -> Option<LeaderLease> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        if !leader.has_committed_in_term(&self.shared) || !leader.lease().is_held(now) {
            return None;
        }
        Some(LeaderLease {
            term: self.shared.term(),
            index: self.shared.commit(),
        })
    }

    /// Did the lease hold all the while until `now`, after the state was read?
    #[must_use]
    pub fn still_holds(&self, now: Time, lease: LeaderLease) -> bool {
        if mutant("X24_no_check_after_the_read") {
            return true;
        }
        let holds = self.lease(now).is_some_and(|held| held.term == lease.term);
        if !holds {
            mark("lease read refused by the second check");
        }
        holds
    }

    /// The clock was found to have jumped beyond the bound: the lease is dropped, and what was sent before gives none (R72).
    pub fn clock_jumped(&mut self) {
        if let Role::Leader(leader) = &mut self.role
            && leader.lease_mut().drop_held()
        {
            mark("lease dropped, the clock jumped");
            self.shared.report(Transition::LeaseDropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    fn keeper() -> LeaseKeeper {
        let leases = LeaderLeases::On {
            max_clock_drift_ppm: 500,
        };
        LeaseKeeper::new(leases, TIMEOUT)
    }

    #[test]
    fn r70_lease_is_shorter_than_the_time_out_by_drift_and_margin() {
        let leases = LeaderLeases::On {
            max_clock_drift_ppm: 100_000,
        };
        // 300 ms * 0.9 / 1.1 - 15 ms
        assert_eq!(leases.length(TIMEOUT).map(|length| length.as_millis()), Some(230));
        assert_eq!(LeaderLeases::Off.length(TIMEOUT), None);
    }

    #[test]
    fn r70_lease_counts_from_the_sending_of_the_answered_round() {
        let mut keeper = keeper();
        keeper.round_sent(Round(1), Time(0));
        keeper.round_sent(Round(2), Time(100_000));
        keeper.confirmed(Round(1), Time(200_000));
        assert!(keeper.is_held(Time(284_000)));
        assert!(!keeper.is_held(Time(285_000)));
        keeper.confirmed(Round(2), Time(200_000));
        assert!(keeper.is_held(Time(384_000)));
    }

    #[test]
    fn r70_time_before_the_round_proves_nothing() {
        let mut keeper = keeper();
        keeper.round_sent(Round(1), Time(50_000));
        keeper.confirmed(Round(1), Time(60_000));
        assert!(!keeper.is_held(Time(49_000)), "a clock that ran backwards");
    }

    #[test]
    fn r72_dropped_lease_comes_back_only_with_a_round_sent_later() {
        let mut keeper = keeper();
        keeper.round_sent(Round(1), Time(0));
        keeper.confirmed(Round(1), Time(1000));
        keeper.round_sent(Round(2), Time(2000));
        assert!(keeper.drop_held());
        keeper.confirmed(Round(2), Time(3000));
        assert!(!keeper.is_held(Time(3000)));
        keeper.round_sent(Round(3), Time(4000));
        keeper.confirmed(Round(3), Time(5000));
        assert!(keeper.is_held(Time(5000)));
    }

    #[test]
    fn rounds_without_an_answer_are_forgotten() {
        let mut keeper = keeper();
        for round in 0..1000 {
            keeper.round_sent(Round(round), Time(round * 50_000));
        }
        assert!(keeper.sent.len() < 10);
    }
}
