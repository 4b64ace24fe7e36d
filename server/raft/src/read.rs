//! ReadIndex (thesis 6.4): linearizable reads without a log entry.
//!
//! A leader that has committed an entry of its own term notes its commit index, and serves once a quorum has answered a
//! round of heartbeats that was sent *after* the read arrived (R68). Reads gather while a round is under way, so a round
//! confirms many. A follower asks its leader for the index, and serves from its own state (R69).

use std::collections::{BTreeMap, VecDeque};

use crate::{Config, Index, NodeId, ReadId, Round, Time};

/// How many rounds for reads are under way at once: the second leaves while the first returns, more would only make
/// messages.
const MAX_READ_ROUNDS: usize = 2;

/// Who asked for a read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Here(ReadId),
    Peer(NodeId, ReadId),
}

/// The reads that a leader has to confirm.
#[derive(Debug, Default)]
pub(crate) struct ReadRounds {
    gathering: Vec<Reader>,
    under_way: VecDeque<ReadRound>,
    pending: usize,
}

#[derive(Debug)]
struct ReadRound {
    round: Round,
    index: Index,
    readers: Vec<Reader>,
}

impl ReadRounds {
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn gather(&mut self, reader: Reader) {
        self.pending += 1;
        self.gathering.push(reader);
    }

    /// Do reads wait that a round of their own should carry now?
    pub(crate) fn wants_round(&self) -> bool {
        !self.gathering.is_empty() && self.under_way.len() < MAX_READ_ROUNDS
    }

    /// All reads gathered so far ride on `round`, which is about to be sent, with the commit index of this moment.
    pub(crate) fn ride(&mut self, round: Round, index: Index) {
        if self.gathering.is_empty() {
            return;
        }
        self.under_way.push_back(ReadRound {
            round,
            index,
            readers: std::mem::take(&mut self.gathering),
        });
    }

    /// A quorum answered `round` or a later one: the reads of one round that this confirms, oldest first.
    pub(crate) fn next_confirmed(&mut self, round: Round) -> Option<(Index, Vec<Reader>)> {
        if self.under_way.front()?.round > round {
            return None;
        }
        let confirmed = self.under_way.pop_front()?;
        self.pending -= confirmed.readers.len();
        Some((confirmed.index, confirmed.readers))
    }

    /// Leadership is over: everyone who waits.
    pub(crate) fn abandon(self) -> impl Iterator<Item = Reader> {
        let sent = self.under_way.into_iter().flat_map(|round| round.readers);
        sent.chain(self.gathering)
    }
}

/// The reads that a follower has asked its leader about.
///
/// Each request goes out under an id of its own, and is repeated under the same one: the leader confirms each try by a round
/// of its own (R68), and whichever answer comes back first was confirmed after the read arrived. Were only the answer to the
/// last try good, a round trip longer than the interval between tries would let no read through.
#[derive(Debug)]
pub(crate) struct ForwardedReads {
    pending: BTreeMap<ReadId, Forwarded>,
    /// No request is due before.
    next_check: Time,
}

#[derive(Clone, Copy, Debug)]
struct Forwarded {
    caller: ReadId,
    expires: Time,
    retry_at: Time,
}

impl Forwarded {
    fn next_check(&self) -> Time {
        self.retry_at.min(self.expires)
    }
}

/// What became due.
#[derive(Debug, Default)]
pub(crate) struct DueReads {
    /// To be asked again.
    pub(crate) retried: Vec<ReadId>,
    /// Given up.
    pub(crate) dropped: Vec<ReadId>,
}

impl Default for ForwardedReads {
    fn default() -> Self {
        ForwardedReads {
            pending: BTreeMap::new(),
            next_check: Time::NEVER,
        }
    }
}

impl ForwardedReads {
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn next_check(&self) -> Time {
        self.next_check
    }

    pub(crate) fn sent(&mut self, caller: ReadId, sent_as: ReadId, now: Time, config: &Config) {
        let forwarded = Forwarded {
            caller,
            expires: now.after(config.election_timeout),
            retry_at: now.after(retry_interval(config)),
        };
        self.next_check = self.next_check.min(forwarded.next_check());
        self.pending.insert(sent_as, forwarded);
    }

    /// The leader answered the request `sent_as`: the caller's name for it, unless it was answered before or given up.
    pub(crate) fn answered(&mut self, sent_as: ReadId) -> Option<ReadId> {
        let forwarded = self.pending.remove(&sent_as)?;
        if self.pending.is_empty() {
            self.next_check = Time::NEVER;
        }
        Some(forwarded.caller)
    }

    /// What is due at `now`.
    pub(crate) fn due(&mut self, now: Time, config: &Config) -> DueReads {
        let mut due = DueReads::default();
        if now < self.next_check {
            return due;
        }
        let retry_at = now.after(retry_interval(config));
        let mut next_check = Time::NEVER;
        self.pending.retain(|sent_as, forwarded| {
            if now >= forwarded.expires {
                due.dropped.push(forwarded.caller);
                return false;
            }
            if now >= forwarded.retry_at {
                due.retried.push(*sent_as);
                forwarded.retry_at = retry_at;
            }
            next_check = next_check.min(forwarded.next_check());
            true
        });
        self.next_check = next_check;
        due
    }

    /// The leader changed: everyone who waits.
    pub(crate) fn abandon(self) -> impl Iterator<Item = ReadId> {
        self.pending.into_values().map(|forwarded| forwarded.caller)
    }
}

/// A request or its answer is taken for lost after two heartbeats: a round takes one round trip, or one heartbeat when
/// the round's own messages were lost.
fn retry_interval(config: &Config) -> std::time::Duration {
    config.heartbeat_interval * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u64) -> Index {
        Index::new(number).unwrap()
    }

    #[test]
    fn r68_a_read_rides_only_on_a_round_sent_after_it_arrived() {
        let mut reads = ReadRounds::default();
        reads.gather(Reader::Here(ReadId(1)));
        reads.ride(Round(5), index(7));
        reads.gather(Reader::Here(ReadId(2)));
        assert_eq!(reads.next_confirmed(Round(4)), None);
        assert_eq!(
            reads.next_confirmed(Round(5)),
            Some((index(7), vec![Reader::Here(ReadId(1))]))
        );
        assert_eq!(
            reads.next_confirmed(Round(9)),
            None,
            "the second read is on no round"
        );
        reads.ride(Round(10), index(8));
        assert_eq!(
            reads.next_confirmed(Round(10)),
            Some((index(8), vec![Reader::Here(ReadId(2))]))
        );
        assert_eq!(reads.pending(), 0);
    }

    #[test]
    fn r78_reads_gather_while_rounds_are_under_way() {
        let mut reads = ReadRounds::default();
        for round in 1..=2 {
            reads.gather(Reader::Here(ReadId(round)));
            assert!(reads.wants_round());
            reads.ride(Round(round), index(1));
        }
        reads.gather(Reader::Here(ReadId(3)));
        assert!(!reads.wants_round());
        reads.next_confirmed(Round(1));
        assert!(reads.wants_round());
    }

    #[test]
    fn r68_a_forwarded_read_is_repeated_and_dropped_at_last() {
        let config = Config::default();
        let mut reads = ForwardedReads::default();
        reads.sent(ReadId(1), ReadId(100), Time(0), &config);
        let due = reads.due(reads.next_check(), &config);
        assert_eq!(due.retried, [ReadId(100)]);
        let due = reads.due(Time(0).after(config.election_timeout), &config);
        assert_eq!(due.dropped, [ReadId(1)]);
        assert_eq!(reads.next_check(), Time::NEVER);
        assert_eq!(reads.answered(ReadId(100)), None, "it was given up");
    }

    #[test]
    fn r68_the_first_answer_to_any_try_counts_and_no_other() {
        let config = Config::default();
        let mut reads = ForwardedReads::default();
        reads.sent(ReadId(1), ReadId(100), Time(0), &config);
        reads.due(reads.next_check(), &config);
        assert_eq!(reads.answered(ReadId(100)), Some(ReadId(1)));
        assert_eq!(reads.answered(ReadId(100)), None, "it was answered");
        assert_eq!(reads.next_check(), Time::NEVER);
    }
}
