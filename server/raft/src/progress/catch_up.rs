//! Whether a peer has caught up with the log (thesis 4.2.1): replication goes in rounds, each up to where the log ended when
//! the round began. A peer that needs less than an election time-out for a round would, as a voter, hold nobody up longer.

use std::time::Duration;

use crate::{Index, Time};

#[derive(Debug)]
pub(super) struct CatchUp {
    /// The end of the present round; `None` before the first ack.
    target: Option<Index>,
    started: Time,
    /// It held everything when the round began: the round's time counts from when there is something to send.
    is_idle: bool,
    was_last_round_short: bool,
}

impl CatchUp {
    /// The first round ends with the first ack: before it nothing is known of the peer.
    pub(super) fn starting(now: Time) -> CatchUp {
        CatchUp {
            target: None,
            started: now,
            is_idle: false,
            was_last_round_short: false,
        }
    }

    /// The peer holds the log up to `matched`; it ends at `last`.
    pub(super) fn reached(&mut self, matched: Index, last: Index, now: Time, timeout: Duration) {
        match self.target {
            Some(target) if matched < target => return,
            Some(_) => self.was_last_round_short = self.is_idle || now.since(self.started) < timeout,
            None => self.was_last_round_short = matched >= last,
        }
        self.target = Some(last);
        self.started = now;
        self.is_idle = matched >= last;
    }

    /// A heartbeat goes out: the clock of an idle round starts, if there is something to wait for now.
    pub(super) fn beat(&mut self, matched: Option<Index>, last: Index, now: Time) {
        if self.is_idle && matched.is_none_or(|matched| matched < last) {
            self.is_idle = false;
            self.started = now;
        }
    }

    /// Was the last round short, and is the present one over or still young?
    pub(super) fn is_done(&self, matched: Option<Index>, last: Index, now: Time, timeout: Duration) -> bool {
        let is_level = matched.is_some_and(|matched| matched >= last);
        let is_young = self.is_idle || now.since(self.started) < timeout;
        is_level || (self.was_last_round_short && is_young)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    fn index(number: u64) -> Index {
        Index::new(number).unwrap()
    }

    fn at(millis: u64) -> Time {
        Time(millis * 1000)
    }

    #[test]
    fn r60_peer_is_judged_by_its_last_round() {
        let mut peer = CatchUp::starting(at(0));
        let is_done = |peer: &CatchUp, matched, last, now| {
            peer.is_done(Some(index(matched)), index(last), at(now), TIMEOUT)
        };
        peer.reached(index(10), index(1000), at(5), TIMEOUT);
        assert!(!is_done(&peer, 10, 1000, 5), "the first ack tells nothing");
        peer.reached(index(1000), index(1500), at(900), TIMEOUT);
        assert!(!is_done(&peer, 1000, 1500, 900), "a round of 895 ms");
        peer.reached(index(1500), index(1600), at(1000), TIMEOUT);
        assert!(is_done(&peer, 1500, 1600, 1000), "a round of 100 ms");
        assert!(!is_done(&peer, 1500, 1600, 1300), "the next one takes too long");
        assert!(is_done(&peer, 1600, 1600, 9000), "it holds everything");
    }

    #[test]
    fn r60_idle_time_is_not_held_against_a_peer() {
        let mut peer = CatchUp::starting(at(0));
        let is_done = |peer: &CatchUp, matched, last, now| {
            peer.is_done(Some(index(matched)), index(last), at(now), TIMEOUT)
        };
        peer.reached(index(10), index(10), at(5), TIMEOUT);
        peer.beat(Some(index(10)), index(10), at(5000));
        assert!(is_done(&peer, 10, 11, 5010), "an entry came just now");
        peer.beat(Some(index(10)), index(11), at(5050));
        assert!(is_done(&peer, 10, 11, 5300));
        assert!(
            !is_done(&peer, 10, 11, 5350),
            "and was not taken in for an election time-out"
        );
        peer.reached(index(11), index(11), at(5400), TIMEOUT);
        assert!(is_done(&peer, 11, 11, 5400));
    }
}
