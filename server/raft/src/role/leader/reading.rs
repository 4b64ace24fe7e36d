//! Heartbeats, and the reads that their answers confirm (thesis 6.4, R68).

use super::Leader;
use crate::read::Reader;
use crate::shared::Shared;
use crate::simulation::{mark, mutant};
use crate::{
    Index, Message, NodeId, ReadError, ReadId, ReadOutcome, ReplicationSession, Round, Time, quorum,
};

impl Leader {
    /// The timed heartbeat: "I still lead", the commit index, and a chance for peers that got stuck (R32, R77).
    pub(super) fn beat(&mut self, shared: &mut Shared, now: Time) {
        self.is_leave_asked = false;
        let last = shared.log.last().index;
        for progress in self.peers.values_mut() {
            progress.beat(now, last);
        }
        self.start_round(shared, now);
    }

    /// Sends a heartbeat of a new round to everyone. What has gathered rides on it, once the term has a commit.
    fn start_round(&mut self, shared: &mut Shared, now: Time) {
        let reuses = mutant("X23_read_round_reused") && self.reads.wants_round() && self.round > Round(0);
        if !reuses {
            self.round = Round(self.round.0 + 1);
            self.lease.round_sent(self.round, now);
        }
        if self.may_confirm(shared) {
            self.reads.ride(self.round, shared.commit());
        }
        for (peer, progress) in &self.peers {
            let heartbeat = Message::Heartbeat {
                session: progress.session,
                // Capped at what is known to match there (R21).
                commit: progress.matched().map(|matched| matched.min(shared.commit())),
                round: self.round,
            };
            shared.send(*peer, heartbeat);
        }
        self.confirm_rounds(shared, now);
    }

    fn may_confirm(&self, shared: &Shared) -> bool {
        self.has_committed_in_term(shared) || mutant("X23_read_without_own_term_commit")
    }

    /// Reads gather until the moment's events are all in; then they get a round, unless enough are under way.
    pub(crate) fn start_due_round(&mut self, shared: &mut Shared, now: Time) {
        if self.reads.wants_round() && self.may_confirm(shared) {
            self.start_round(shared, now);
        }
    }

    pub(crate) fn read(&mut self, shared: &Shared, id: ReadId) -> Result<(), ReadError> {
        if self.reads.pending() >= shared.config.max_pending_reads {
            return Err(ReadError::Overloaded);
        }
        self.gather(shared, Reader::Here(id));
        Ok(())
    }

    pub(crate) fn read_for_peer(&mut self, shared: &mut Shared, from: NodeId, id: ReadId) {
        if self.reads.pending() >= shared.config.max_pending_reads {
            mark("read for a peer refused, too many wait");
            shared.send(from, Message::ReadIndexReply { id, index: None });
            return;
        }
        self.gather(shared, Reader::Peer(from, id));
    }

    fn gather(&mut self, shared: &Shared, reader: Reader) {
        if !self.has_committed_in_term(shared) {
            mark("read waits for the term's first commit");
        }
        self.reads.gather(reader);
    }

    pub(crate) fn heartbeat_answered(
        &mut self,
        shared: &mut Shared,
        now: Time,
        from: NodeId,
        (session, round): (ReplicationSession, Round),
    ) {
        // A round that was never sent can only be garbage.
        let is_ours = round <= self.round;
        let Some(progress) = self.answering(from, session, now) else {
            return;
        };
        if is_ours {
            progress.acknowledged = progress.acknowledged.max(Some(round));
        }
        Leader::resume(shared, from, progress);
        self.confirm_rounds(shared, now);
    }

    /// What a quorum has answered: it confirms every read that rode on that round or an earlier one, and renews the lease.
    fn confirm_rounds(&mut self, shared: &mut Shared, now: Time) {
        let acknowledged = |node: NodeId| match node == shared.id || mutant("X23_read_without_quorum_round") {
            true => Some(self.round),
            false => self.peers.get(&node).and_then(|peer| peer.acknowledged),
        };
        let Some(round) = quorum::reached(shared.configuration(), acknowledged) else {
            return;
        };
        self.lease.confirmed(round, now);
        while let Some((index, readers)) = self.reads.next_confirmed(round) {
            for reader in readers {
                answer(shared, reader, Some(index));
            }
        }
    }

    /// Leadership is over: nobody confirms what waits.
    pub(crate) fn leave(self, shared: &mut Shared) {
        for reader in self.reads.abandon() {
            mark("read dropped at step-down");
            answer(shared, reader, None);
        }
    }
}

fn answer(shared: &mut Shared, reader: Reader, index: Option<Index>) {
    match (reader, index) {
        (Reader::Here(id), Some(index)) => shared.read_outcome(ReadOutcome::Confirmed { id, index }),
        (Reader::Here(id), None) => shared.read_outcome(ReadOutcome::Dropped { id }),
        (Reader::Peer(peer, id), index) => shared.send(peer, Message::ReadIndexReply { id, index }),
    }
}
