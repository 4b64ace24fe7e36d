//! Follows the leader of its term: appends what it is sent, answers what it has made durable (paper §5.3).

use std::time::Duration;

use crate::read::ForwardedReads;
use crate::shared::Shared;
use crate::simulation::{mark, mutant};
use crate::{
    Entry, EntryId, EntryKind, Index, Message, NodeId, ReadError, ReadId, ReadOutcome, ReplicationSession,
    Round, SnapshotOffer, SnapshotVerdict, Time,
};

#[derive(Debug, Default)]
pub(crate) struct Follower {
    leader: Option<NodeId>,
    /// When the leader was last heard from, as far as stickiness counts it: a reset connection forgets it.
    heard: Option<Time>,
    /// The log equals the leader's up to here; proven in this term by this leader's appends.
    verified: Option<Index>,
    /// The greatest commit index this leader told of.
    leader_commit: Option<Index>,
    /// The acknowledgement that waits for the disk.
    owed: Option<ReplicationSession>,
    reads: ForwardedReads,
}

impl Follower {
    pub(crate) fn of(leader: Option<NodeId>) -> Follower {
        Follower {
            leader,
            ..Follower::default()
        }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// This term's leader showed itself.
    pub(crate) fn learn_leader(&mut self, shared: &mut Shared, leader: NodeId) {
        assert!(
            self.leader.is_none_or(|known| known == leader),
            "second leader in term {}: {leader} beside {:?}; keep this node's data directory",
            shared.term(),
            self.leader
        );
        self.leader = Some(leader);
        shared.report_follows(Some(leader));
    }

    pub(crate) fn heard_within(&self, now: Time, duration: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < duration)
    }

    /// A valid message of the leader: the one thing, beside granting a vote, that restarts the election timer (R6).
    fn hear(&mut self, shared: &mut Shared, now: Time) {
        self.heard = Some(now);
        shared.leader_contact = Some(now);
        shared.promise_lease(now);
        shared.restart_election_timer(now);
    }

    /// The connection to the leader's process was reset: stickiness ends, and a pre-vote follows soon, unless the
    /// leader is heard again first. Not so with leases on: the leader may live, and read by the promise of this node (R71).
    pub(crate) fn leader_reset(&mut self, shared: &mut Shared, now: Time) {
        if shared.config.leader_leases.are_on() {
            mark("reset connection to a leader with a lease");
            return;
        }
        mark("stickiness ended by a reset connection");
        self.heard = None;
        let delay = shared.random_below(shared.config.reset_campaign_jitter);
        shared.election_deadline = shared.election_deadline.min(now.after(delay));
    }

    /// Entries from the leader, which the caller has made sure of.
    pub(crate) fn append(&mut self, shared: &mut Shared, now: Time, leader: NodeId, append: Append) {
        self.hear(shared, now);
        if !append.is_well_formed(shared) {
            mark("malformed append dropped");
            return;
        }
        if !matches_at(shared, append.prev) {
            let refusal = refusal(shared, append.session, append.prev);
            shared.send(leader, refusal);
            return;
        }
        let session = append.session;
        let verified = append.prev.index.plus(append.entries.len() as u64);
        let brought_entries = take_in(shared, append.prev, append.entries);
        self.leader_commit = self.leader_commit.max(Some(append.commit));
        // What is at or below our commit equals every leader's log (R17).
        self.verified = self.verified.max(Some(verified.max(shared.commit())));
        if mutant("X07_commit_up_to_own_last") {
            shared.commit_to(append.commit);
        }
        self.advance_commit(shared);
        self.owed = Some(session);
        self.acknowledge(shared, brought_entries);
    }

    /// Sends what is owed, if the disk is as far as the log is verified. An append is answered once; progress of the
    /// disk is reported as it comes.
    fn acknowledge(&mut self, shared: &mut Shared, brought_entries: bool) {
        let Some(verified) = self.verified else {
            return;
        };
        let is_early = mutant("X10_ack_before_durable")
            || (mutant("X10_ack_of_duplicate_before_durable") && !brought_entries);
        if is_early || shared.log.persisted() >= verified {
            self.send_ack(shared, verified);
            self.owed = None;
        }
    }

    /// Some write finished: one acknowledgement for all that became durable (R23, R34).
    pub(crate) fn persisted(&mut self, shared: &mut Shared, before: Index) {
        let (Some(_), Some(verified)) = (self.owed, self.verified) else {
            return;
        };
        let persisted = shared.log.persisted();
        if persisted > before || persisted >= verified {
            self.send_ack(shared, verified.min(persisted));
        }
        if persisted >= verified {
            self.owed = None;
        }
    }

    fn send_ack(&mut self, shared: &mut Shared, matched: Index) {
        if let (Some(session), Some(leader)) = (self.owed, self.leader) {
            shared.send(leader, Message::AppendAccepted { session, matched });
        }
    }

    /// Committed is what the leader says is committed, as far as our log is verified to be the leader's (R20).
    fn advance_commit(&self, shared: &mut Shared) {
        if let (Some(commit), Some(verified)) = (self.leader_commit, self.verified) {
            shared.commit_to(commit.min(verified));
        }
    }

    pub(crate) fn heartbeat(&mut self, shared: &mut Shared, now: Time, leader: NodeId, heartbeat: Heartbeat) {
        self.hear(shared, now);
        if let Some(commit) = heartbeat.commit {
            // The leader caps it at what it knows to match here (R21); our own end is the last resort.
            shared.commit_to(commit);
        }
        let reply = Message::HeartbeatReply {
            session: heartbeat.session,
            round: heartbeat.round,
        };
        shared.send(leader, reply);
    }

    /// A part of a snapshot from the leader, which the caller has made sure of. Is it wanted (R50)?
    pub(crate) fn snapshot_part(
        &mut self,
        shared: &mut Shared,
        now: Time,
        offer: SnapshotOffer,
    ) -> SnapshotVerdict {
        self.hear(shared, now);
        let last = offer.last;
        if !matches_at(shared, last) {
            return SnapshotVerdict::Accepted;
        }
        if last.index <= shared.commit() {
            mark("snapshot of what is committed refused");
        } else {
            // The leader has it committed, so all of our log up to there is the leader's.
            mark("snapshot of what the log holds refused");
            self.leader_commit = self.leader_commit.max(Some(last.index));
        }
        self.verified = self.verified.max(Some(last.index.max(shared.commit())));
        self.advance_commit(shared);
        self.owed = Some(offer.session);
        self.acknowledge(shared, false);
        SnapshotVerdict::Held
    }

    /// The log is the snapshot's now. That is acknowledged like entries: once it is durable.
    pub(crate) fn installed(&mut self, shared: &mut Shared, offer: SnapshotOffer) {
        self.verified = Some(offer.last.index);
        self.leader_commit = self.leader_commit.max(Some(offer.last.index));
        self.owed = Some(offer.session);
        self.acknowledge(shared, true);
    }

    /// Asks the leader for a read index.
    pub(crate) fn read(&mut self, shared: &mut Shared, now: Time, id: ReadId) -> Result<(), ReadError> {
        let leader = self.leader.ok_or(ReadError::NoLeader)?;
        if self.reads.pending() >= shared.config.max_pending_reads {
            return Err(ReadError::Overloaded);
        }
        let sent_as = shared.fresh_read_id();
        self.reads.sent(id, sent_as, now, &shared.config);
        shared.send(leader, Message::ReadIndexRequest { id: sent_as });
        Ok(())
    }

    pub(crate) fn read_answered(&mut self, shared: &mut Shared, sent_as: ReadId, index: Option<Index>) {
        let Some(id) = self.reads.answered(sent_as) else {
            mark("late answer to a forwarded read dropped");
            return;
        };
        let outcome = match index {
            Some(index) => {
                // The leader has committed it: as good as an append that says so, and the reader need not wait for one.
                self.leader_commit = self.leader_commit.max(Some(index));
                self.advance_commit(shared);
                ReadOutcome::Confirmed { id, index }
            }
            None => ReadOutcome::Dropped { id },
        };
        shared.read_outcome(outcome);
    }

    /// Repeats or gives up reads that wait too long.
    pub(crate) fn tick(&mut self, shared: &mut Shared, now: Time) {
        if now < self.reads.next_check() {
            return;
        }
        let due = self.reads.due(now, &shared.config);
        for id in due.dropped {
            mark("forwarded read given up");
            shared.read_outcome(ReadOutcome::Dropped { id });
        }
        if let Some(leader) = self.leader {
            for id in due.retried {
                mark("forwarded read repeated");
                shared.send(leader, Message::ReadIndexRequest { id });
            }
        }
    }

    pub(crate) fn next_read_check(&self) -> Time {
        self.reads.next_check()
    }

    /// This follower's leader, or its following, is over.
    pub(crate) fn leave(self, shared: &mut Shared) {
        for id in self.reads.abandon() {
            shared.read_outcome(ReadOutcome::Dropped { id });
        }
    }
}

/// The fields of [`Message::Append`].
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) session: ReplicationSession,
    pub(crate) prev: EntryId,
    pub(crate) commit: Index,
    pub(crate) entries: Vec<Entry>,
}

/// The fields of [`Message::Heartbeat`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) session: ReplicationSession,
    pub(crate) commit: Option<Index>,
    pub(crate) round: Round,
}

impl Append {
    /// No gap, no falling term, no term beyond the sender's, and configurations where they belong (R16, R25). A sender
    /// asserts this; a receiver does not trust the network to.
    fn is_well_formed(&self, shared: &Shared) -> bool {
        let mut before = self.prev;
        for entry in &self.entries {
            let is_configuration = entry.kind == EntryKind::Configuration;
            let configuration = entry.configuration.as_deref();
            if before.index.get().checked_add(1) != Some(entry.id.index.get())
                || entry.id.term < before.term
                || configuration.is_some() != is_configuration
                || configuration.is_some_and(|configuration| configuration.contradiction().is_some())
            {
                return false;
            }
            before = entry.id;
        }
        before.term <= shared.term()
    }
}

/// Does our log hold `prev`, or has it held it? What is below the base is committed, and holds (R17).
///
/// # Panics
/// When `prev` contradicts a committed entry (R19).
fn matches_at(shared: &Shared, prev: EntryId) -> bool {
    if prev.index < shared.log.base().index {
        return true;
    }
    let own = shared.log.id_at(prev.index);
    assert!(
        prev.index > shared.commit() || own == Some(prev),
        "conflicting entry at or below commit: the leader's {prev}, ours {own:?}, commit {}; keep this node's data \
         directory",
        shared.commit()
    );
    own == Some(prev)
}

/// Where the leader should look next: our greatest entry that could match (R24).
fn refusal(shared: &Shared, session: ReplicationSession, prev: EntryId) -> Message {
    mark(if prev.index > shared.log.last().index {
        "append refused, the log is shorter"
    } else {
        "append refused, another term stands there"
    });
    let below = prev.index.previous().unwrap_or(prev.index);
    Message::AppendRefused {
        session,
        refused: prev.index,
        hint: shared.log.greatest_up_to(below, prev.term),
    }
}

/// Appends what is new, and cuts only from the first entry that really conflicts (R18). Did it bring anything?
fn take_in(shared: &mut Shared, prev: EntryId, mut entries: Vec<Entry>) -> bool {
    let base = shared.log.base().index;
    let known = entries
        .iter()
        .take_while(|entry| entry.id.index <= base || shared.log.holds(entry.id))
        .count();
    if mutant("X06_every_append_truncates") && !entries.is_empty() {
        if shared.log.last().index > prev.index {
            shared.truncate(prev.index.next());
        }
        shared.append(entries);
        return true;
    }
    entries.drain(..known);
    let Some(first) = entries.first() else {
        return false;
    };
    if first.id.index <= shared.log.last().index {
        shared.truncate(first.id.index);
    }
    shared.append(entries);
    true
}
