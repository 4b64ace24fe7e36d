//! What the leader knows of one follower (R77): what is proven to match, what is sent next, and how eagerly.
//!
//! *Probe*: the match is unknown or in doubt, one append is out at a time. *Replicate*: appends are pipelined within a
//! window. *Snapshot*: the log does not hold any more what comes next; nothing is appended until the peer has a snapshot.

mod catch_up;
mod inflight;

use std::time::Duration;

use catch_up::CatchUp;

use crate::simulation::{mark, mutant};
use crate::{Index, ReplicationSession, Round, Time};
pub(crate) use inflight::Inflight;

#[derive(Debug)]
pub(crate) enum State {
    Probe(Probe),
    Replicate(Inflight),
    Snapshot(Transfer),
}

/// How far the caller is with a snapshot for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// The caller is to be asked for it.
    Due,
    /// It was asked.
    UnderWay,
    /// It failed: asked again once the peer shows that it lives.
    Paused,
}

#[derive(Debug)]
pub(crate) struct Probe {
    /// The `prev` index of the probe that is out; `None`: one may be sent.
    pub(crate) outstanding: Option<Index>,
    /// Nothing was refused yet: the probe may carry entries, which saves a round trip when it fits.
    pub(crate) is_first: bool,
}

/// # Invariants
/// * `matched` rises only, and only from positive acks (R23).
/// * `matched < next`: nothing proven is in question, and a peer's `next` never stands at the base.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) session: ReplicationSession,
    matched: Option<Index>,
    next: Index,
    state: State,
    /// The latest confirmation round it answered.
    pub(crate) acknowledged: Option<Round>,
    /// When it last answered anything in this term, or since when it is waited for.
    heard: Time,
    has_answered: bool,
    catch_up: CatchUp,
    /// Set by each timed heartbeat, taken by the first answer: paces what is sent again to one message a heartbeat.
    pub(crate) may_resume: bool,
}

impl Progress {
    /// A peer of a new leader: probably it holds all that the leader holds, up to `next`.
    pub(crate) fn new(session: ReplicationSession, next: Index, now: Time) -> Progress {
        Progress {
            session,
            matched: None,
            next,
            state: State::Probe(Probe {
                outstanding: None,
                is_first: true,
            }),
            acknowledged: None,
            heard: now,
            has_answered: false,
            catch_up: CatchUp::starting(now),
            may_resume: false,
        }
    }

    /// It answered something.
    pub(crate) fn hear(&mut self, now: Time) {
        self.heard = now;
        self.has_answered = true;
    }

    /// When it last answered, or since when it is waited for.
    pub(crate) fn heard(&self) -> Time {
        self.heard
    }

    /// Has it answered anything in this term?
    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Notes how fast it takes the log in; `last` is the log's end.
    pub(crate) fn measure(&mut self, now: Time, last: Index, timeout: Duration) {
        if let Some(matched) = self.matched {
            self.catch_up.reached(matched, last, now, timeout);
        }
    }

    /// A heartbeat goes out.
    pub(crate) fn beat(&mut self, now: Time, last: Index) {
        self.may_resume = true;
        self.catch_up.beat(self.matched, last, now);
    }

    /// Does it take in what is new faster than an election time-out (R60)?
    pub(crate) fn is_caught_up(&self, now: Time, last: Index, timeout: Duration) -> bool {
        matches!(self.state, State::Replicate(_)) && self.catch_up.is_done(self.matched, last, now, timeout)
    }

    pub(crate) fn matched(&self) -> Option<Index> {
        self.matched
    }

    pub(crate) fn next(&self) -> Index {
        self.next
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// A probe with this `prev` went out.
    pub(crate) fn probe_sent(&mut self, prev: Index) {
        if let State::Probe(probe) = &mut self.state {
            probe.outstanding = Some(prev);
        }
    }

    /// An append up to `last` went out to a peer in replicate state.
    pub(crate) fn append_sent(&mut self, last: Index, size_bytes: usize) {
        assert!(
            last >= self.next,
            "sent up to {last}, which is before next {}",
            self.next
        );
        if let State::Replicate(inflight) = &mut self.state {
            inflight.add(last, size_bytes);
            self.next = last.next();
        }
    }

    /// Does the peer need an entry at or below `base` next, or the term of one before it?
    pub(crate) fn is_behind(&self, base: Index) -> bool {
        self.next <= base
    }

    /// The log does not hold what the peer needs next.
    pub(crate) fn need_snapshot(&mut self) {
        if !matches!(self.state, State::Snapshot(_)) {
            mark("peer needs a snapshot");
            self.state = State::Snapshot(Transfer::Due);
        }
    }

    /// Is the caller to be asked for a snapshot now?
    pub(crate) fn take_transfer(&mut self) -> bool {
        let is_due = matches!(self.state, State::Snapshot(Transfer::Due));
        if is_due {
            self.state = State::Snapshot(Transfer::UnderWay);
        }
        is_due
    }

    /// The peer has a snapshot up to `last`: it is probed from there. Not a match: that only its own ack proves (R23).
    pub(crate) fn snapshot_sent(&mut self, last: Index) {
        if matches!(self.state, State::Snapshot(_)) {
            self.next = self.floor().max(last.next());
            self.state = State::Probe(Probe {
                outstanding: None,
                is_first: true,
            });
        }
    }

    pub(crate) fn snapshot_failed(&mut self) {
        if let State::Snapshot(transfer) = &mut self.state {
            mark("snapshot failed, asked again later");
            *transfer = Transfer::Paused;
        }
    }

    /// The peer answered a heartbeat: a transfer that failed may be tried again.
    pub(crate) fn transfer_again(&mut self) {
        if let State::Snapshot(transfer @ Transfer::Paused) = &mut self.state {
            *transfer = Transfer::Due;
        }
    }

    /// The peer holds everything up to `matched`; the log starts after `base`. Did the match rise?
    pub(crate) fn accepted(&mut self, matched: Index, base: Index) -> bool {
        let rises = self.matched.is_none_or(|known| matched > known);
        if rises || mutant("X08_match_may_fall") {
            self.matched = Some(matched);
        }
        match &mut self.state {
            State::Replicate(inflight) => {
                inflight.free_through(matched);
                self.next = self.next.max(matched.next());
            }
            State::Probe(_) => {
                self.next = self.floor().max(matched.next());
                self.state = State::Replicate(Inflight::default());
            }
            State::Snapshot(_) => {
                self.next = self.next.max(matched.next());
                if !self.is_behind(base) {
                    mark("snapshot state left by an ack");
                    self.state = State::Replicate(Inflight::default());
                }
            }
        }
        self.check();
        rises
    }

    /// The peer does not hold `refused`. `resume_at` is where the leader would go on by the hint. Answers whether the
    /// refusal is news: one that does not answer the outstanding probe is not (R24).
    pub(crate) fn refused(&mut self, refused: Index, resume_at: Index) -> bool {
        if self.matched.is_some_and(|matched| refused <= matched) || refused >= self.next {
            mark("refusal below the match ignored");
            return false;
        }
        match &self.state {
            State::Probe(probe) if probe.outstanding != Some(refused) => {
                mark("refusal of no outstanding probe ignored");
                return false;
            }
            // Nothing is out; what the peer lacks it gets with the snapshot.
            State::Snapshot(_) => return false,
            State::Probe(_) => mark("probe refused"),
            State::Replicate(_) => mark("replicate refused"),
        }
        if mutant("X28_next_below_match") {
            self.next = Index::FIRST.next();
        } else {
            self.next = resume_at.min(refused).max(self.floor());
        }
        self.state = State::Probe(Probe {
            outstanding: None,
            is_first: false,
        });
        self.check();
        true
    }

    /// What is under way may be lost: start again from what is proven. A snapshot has a connection of its own.
    pub(crate) fn connection_lost(&mut self) {
        if matches!(self.state, State::Snapshot(_)) {
            return;
        }
        if matches!(self.state, State::Replicate(_)) {
            self.next = self.floor();
        }
        self.state = State::Probe(Probe {
            outstanding: None,
            is_first: true,
        });
    }

    /// The probe that is out got no answer for a heartbeat: another may go.
    pub(crate) fn probe_again(&mut self) {
        if let State::Probe(probe) = &mut self.state {
            probe.outstanding = None;
        }
    }

    /// A refusal's hint taken for a match: the planted bug of X08.
    pub(crate) fn take_hint_for_match(&mut self, hint: Index) {
        self.matched = self.matched.max(Some(hint));
        self.next = self.next.max(hint.next());
    }

    /// The least `next` may be: the first index that is not proven, or the second of every log (the first always matches
    /// some `prev`, for each formed node holds the founding entry).
    fn floor(&self) -> Index {
        self.matched.map_or(Index::FIRST.next(), Index::next)
    }

    fn check(&self) {
        assert!(
            self.matched.is_none_or(|matched| matched < self.next),
            "match {:?} is below next {}",
            self.matched,
            self.next
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u64) -> Index {
        Index::new(number).unwrap()
    }

    fn probing_at(next: u64) -> Progress {
        let mut progress = Progress::new(ReplicationSession(index(1)), index(next), Time(0));
        progress.probe_sent(index(next - 1));
        progress
    }

    #[test]
    fn r23_match_rises_only() {
        let mut progress = probing_at(10);
        assert!(progress.accepted(index(9), index(1)));
        assert!(!progress.accepted(index(4), index(1)));
        assert_eq!(progress.matched(), Some(index(9)));
    }

    #[test]
    fn r23_a_hint_moves_next_and_never_match() {
        let mut progress = probing_at(10);
        assert!(progress.refused(index(9), index(5)));
        assert_eq!((progress.matched(), progress.next()), (None, index(5)));
    }

    #[test]
    fn r24_next_falls_with_each_refusal_to_the_floor() {
        let mut progress = probing_at(10);
        assert!(
            progress.refused(index(9), index(10)),
            "a hint that would not fall"
        );
        assert_eq!(progress.next(), index(9));
        progress.accepted(index(6), index(1));
        progress.append_sent(index(20), 1);
        assert!(progress.refused(index(15), index(2)));
        assert_eq!(progress.next(), index(7), "the floor is match + 1");
    }

    #[test]
    fn r24_a_refusal_of_another_probe_is_ignored() {
        let mut progress = probing_at(10);
        assert!(!progress.refused(index(7), index(3)));
        assert!(progress.refused(index(9), index(5)));
        assert!(!progress.refused(index(4), index(3)), "none is out");
        assert_eq!(progress.next(), index(5));
    }

    #[test]
    fn r77_a_lost_connection_goes_back_to_probe_at_the_match() {
        let mut progress = probing_at(10);
        progress.accepted(index(9), index(1));
        progress.append_sent(index(30), 1);
        progress.connection_lost();
        assert_eq!(progress.next(), index(10));
        assert!(matches!(progress.state(), State::Probe(_)));
        assert!(
            progress.accepted(index(30), index(1)),
            "the append had arrived after all"
        );
        assert_eq!(progress.next(), index(31));
    }
}
