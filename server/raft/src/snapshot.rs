//! Snapshots, as far as consensus has a say in them (thesis 5.1): when the log was cut, who needs one, and what becomes of
//! the log and the configuration when one is installed. The bytes travel outside of the core, on a way of their own.

use std::cmp::Ordering;

use crate::raft::Raft;
use crate::role::Role;
use crate::simulation::{mark, mutant};
use crate::step::{MAX_INDEX, MAX_TERM};
use crate::{Configuration, EntryId, Message, NodeId, ReplicationSession, StepDown, Term, Time};

/// "Send a snapshot to this peer": the log does not hold any more what it needs next.
///
/// Any snapshot of this node will do, best the newest. The caller answers with [`Raft::snapshot_sent`] or
/// [`Raft::snapshot_failed`], and hands this value back as it is: an answer to a question of another term or stay is
/// dropped (R22). Nothing else waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendSnapshot {
    /// The peer.
    pub to: NodeId,
    /// The term this node leads in. Travels with the snapshot.
    pub term: Term,
    /// The peer's stay. Travels with the snapshot.
    pub session: ReplicationSession,
}

/// What a leader says of the snapshot that it sends, with every part of it (R53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Who sends it.
    pub from: NodeId,
    /// The term it leads in: [`SendSnapshot::term`].
    pub term: Term,
    /// The receiver's stay: [`SendSnapshot::session`].
    pub session: ReplicationSession,
    /// The last entry that is part of the snapshot.
    pub last: EntryId,
}

/// What a receiver makes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotVerdict {
    /// It is wanted: go on receiving, or (for [`Raft::install`]) it is installed as the next
    /// [`Ready::install`](crate::Ready::install) says.
    Accepted,
    /// Everything in it is here already (R50). The sender is told by an ordinary acknowledgement; drop what was received.
    Held,
    /// Its sender leads no more, or it is no snapshot that a correct leader sends. Drop what was received.
    Refused,
}

impl Raft {
    /// The durable log was cut: it starts right after `base` now, which a durable snapshot covers (R48). Ignored when the
    /// log starts there or later already.
    ///
    /// # Panics
    /// When `base` is not applied, not durable or not in the log.
    pub fn compacted(&mut self, base: EntryId) {
        if base.index <= self.shared.log.base().index {
            return;
        }
        assert!(
            base.index <= self.shared.apply.applied(),
            "the log is cut after {base}, applied is {}",
            self.shared.apply.applied()
        );
        mark("log compacted");
        self.shared.log.compact(base);
        self.shared.configurations.compact(base.index);
        self.shared.close_fetches_up_to(base.index);
        if let Role::Leader(leader) = &mut self.role {
            leader.find_who_needs_a_snapshot(&self.shared);
        }
    }

    /// The peer has installed a snapshot, durably, whose last entry is `last`: replication goes on from there.
    pub fn snapshot_sent(&mut self, _now: Time, sent: SendSnapshot, last: EntryId) {
        if let (true, Role::Leader(leader)) = (sent.term == self.shared.term(), &mut self.role) {
            leader.snapshot_sent(&self.shared, sent, last.index);
        } else {
            mark("snapshot report of another term dropped");
        }
    }

    /// The transfer came to nothing. It is asked for again once the peer answers a heartbeat.
    pub fn snapshot_failed(&mut self, _now: Time, sent: SendSnapshot) {
        if let (true, Role::Leader(leader)) = (sent.term == self.shared.term(), &mut self.role) {
            leader.snapshot_failed(sent);
        } else {
            mark("snapshot report of another term dropped");
        }
    }

    /// A part of a snapshot came in, or the announcement of one: is it wanted? Ask for every part, before it is kept. A part
    /// from the current term's leader counts as hearing from it (R6); any role takes it (R54), and steps down for it.
    ///
    /// # Panics
    /// When it proves a second leader in one term, or another entry in the place of a committed one (R19).
    pub fn snapshot_part(&mut self, now: Time, offer: SnapshotOffer) -> SnapshotVerdict {
        let is_garbage = offer.from == self.shared.id
            || offer.term > MAX_TERM
            || offer.last.term > offer.term
            || offer.last.index > MAX_INDEX;
        if is_garbage {
            mark("snapshot refused as garbage");
            return SnapshotVerdict::Refused;
        }
        match offer.term.cmp(&self.shared.term()) {
            Ordering::Less => {
                mark("snapshot of an older term refused");
                // Shows the sender our term, once that is durable.
                let refusal = Message::AppendRefused {
                    session: offer.session,
                    refused: offer.last.index,
                    hint: self.shared.log.base(),
                };
                self.shared.send(offer.from, refusal);
                return SnapshotVerdict::Refused;
            }
            Ordering::Equal => self.recognise_leader(now, offer.from),
            Ordering::Greater => self.follow(now, offer.term, Some(offer.from), StepDown::HigherTerm),
        }
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("whoever recognises a leader follows it")
        };
        follower.snapshot_part(&mut self.shared, now, offer)
    }

    /// A whole snapshot came in, and the caller has verified it: `configuration` is the one as of its last entry. When it is
    /// accepted, commit and applied index are at its end at once, the old log and every configuration in it are gone (R50,
    /// R51), and the next [`Ready::install`](crate::Ready::install) tells what must be done on disk.
    ///
    /// A log that holds the snapshot's last entry is left as it is: all entries up to there are the leader's, and nothing
    /// could be better than to apply them. (Thesis 5.1 drops the part before; the state after it is the same.)
    ///
    /// # Panics
    /// When it proves a second leader in one term, or another entry in the place of a committed one (R19).
    pub fn install(
        &mut self,
        now: Time,
        offer: SnapshotOffer,
        configuration: Configuration,
    ) -> SnapshotVerdict {
        if configuration.contradiction().is_some() {
            mark("snapshot refused as garbage");
            return SnapshotVerdict::Refused;
        }
        let verdict = self.snapshot_part(now, offer);
        let is_older = verdict == SnapshotVerdict::Held && mutant("X20_older_snapshot_accepted");
        if verdict != SnapshotVerdict::Accepted && !is_older {
            return verdict;
        }
        mark("snapshot installed");
        self.shared.install(offer.last, configuration);
        if let Role::Follower(follower) = &mut self.role {
            follower.installed(&mut self.shared, offer);
        }
        SnapshotVerdict::Accepted
    }
}
