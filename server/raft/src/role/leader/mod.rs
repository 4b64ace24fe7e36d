//! Leads: appends, replicates, counts, confirms reads, and steps down when it can not (paper §5.3, §5.4; thesis 6.2).

mod changing;
mod reading;
mod replication;
mod transferring;

use std::collections::BTreeMap;

use super::Next;
use crate::lease::LeaseKeeper;
use crate::progress::Progress;
use crate::read::ReadRounds;
use crate::shared::Shared;
use crate::simulation::{mark, mutant};
use transferring::Transfer;

use crate::{
    Entry, EntryId, EntryKind, Index, NodeId, PeerProgress, Proposal, ProposeError, ReplicationSession,
    Round, Stamp, StepDown, Time, Transition, quorum,
};

#[derive(Debug)]
pub(crate) struct Leader {
    /// The first entry of this term: nothing older is committed by counting (R27), no read is served before it is (R68).
    noop: Index,
    peers: BTreeMap<NodeId, Progress>,
    heartbeat_due: Time,
    /// The last confirmation round started; never used again in this term.
    round: Round,
    reads: ReadRounds,
    /// Weight of the entries of this term that are not committed (R78).
    uncommitted_bytes: usize,
    transfer: Option<Transfer>,
    lease: LeaseKeeper,
    /// The caller was asked, since the last heartbeat, for the entry that leaves a joint configuration.
    is_leave_asked: bool,
}

impl Leader {
    pub(crate) fn peer_progress(&self) -> impl Iterator<Item = PeerProgress> {
        self.peers
            .iter()
            .map(|(peer, progress)| PeerProgress::of(*peer, progress))
    }

    pub(crate) fn progress(&self, peer: NodeId) -> Option<PeerProgress> {
        self.peers
            .get(&peer)
            .map(|progress| PeerProgress::of(peer, progress))
    }

    pub(crate) fn lease(&self) -> &LeaseKeeper {
        &self.lease
    }

    pub(crate) fn lease_mut(&mut self) -> &mut LeaseKeeper {
        &mut self.lease
    }

    /// Starts the term with a no-op (R16, paper §8), which is also what it announces itself with.
    pub(super) fn elected(shared: &mut Shared, now: Time) -> Leader {
        let noop = EntryId {
            term: shared.term(),
            index: shared.log.last().index.next(),
        };
        let mut leader = Leader {
            noop: noop.index,
            peers: BTreeMap::new(),
            heartbeat_due: now.after(shared.config.heartbeat_interval),
            round: Round(0),
            reads: ReadRounds::default(),
            uncommitted_bytes: 0,
            transfer: None,
            lease: LeaseKeeper::new(shared.config.leader_leases, shared.config.election_timeout),
            is_leave_asked: false,
        };
        leader.follow_configuration(shared, now);
        shared.report(Transition::Elected {
            term: noop.term,
            noop: noop.index,
        });
        leader.append(
            shared,
            now,
            vec![Entry {
                id: noop,
                kind: EntryKind::Noop,
                stamp: Stamp::default(),
                payload: bytes::Bytes::new(),
                configuration: None,
            }],
        );
        leader
    }

    /// Keeps one progress for each other member of the latest configuration.
    fn follow_configuration(&mut self, shared: &Shared, now: Time) {
        let members = shared.configuration().members();
        self.peers.retain(|peer, _| members.contains(peer));
        let next = shared.log.last().index.next();
        for peer in members.into_iter().filter(|peer| *peer != shared.id) {
            let session = ReplicationSession(shared.configurations.member_since(peer));
            self.peers
                .entry(peer)
                .or_insert_with(|| Progress::new(session, next, now));
        }
    }

    /// Appends a batch, all or nothing.
    pub(crate) fn propose(
        &mut self,
        shared: &mut Shared,
        now: Time,
        proposals: Vec<Proposal>,
    ) -> Result<EntryId, ProposeError> {
        if let Some(target) = self.transfer_target() {
            mark("proposal refused during a transfer");
            return Err(ProposeError::TransferUnderWay { target });
        }
        let batch_bytes: usize = proposals.iter().map(size_bytes).sum();
        let is_over = self.uncommitted_bytes + batch_bytes > shared.config.max_uncommitted_bytes;
        if is_over && self.uncommitted_bytes > 0 {
            mark("proposal refused, too much uncommitted");
            return Err(ProposeError::Overloaded {
                uncommitted_bytes: self.uncommitted_bytes,
            });
        }
        let first = shared.log.last().index.next();
        let entries = entries_of(shared, first, proposals);
        self.append(shared, now, entries);
        Ok(EntryId {
            term: shared.term(),
            index: first,
        })
    }

    /// A configuration counts from its append on (R56): for who is sent to, and for what is committed (R28).
    fn append(&mut self, shared: &mut Shared, now: Time, entries: Vec<Entry>) {
        self.uncommitted_bytes += entries.iter().map(Entry::size_bytes).sum::<usize>();
        let changes_members = entries.iter().any(|entry| entry.configuration.is_some());
        shared.append(entries);
        if changes_members {
            self.follow_configuration(shared, now);
        }
        self.advance_commit(shared);
    }

    /// Has an entry of this term been committed (R57, R68)?
    pub(crate) fn has_committed_in_term(&self, shared: &Shared) -> bool {
        shared.commit() >= self.noop
    }

    /// Some write of ours finished.
    pub(crate) fn persisted(&mut self, shared: &mut Shared) {
        self.advance_commit(shared);
    }

    /// Commits what a quorum has made durable, if it is of this term (R27, R28, R29; paper §5.4.2 and Fig. 8).
    fn advance_commit(&mut self, shared: &mut Shared) {
        let own = if mutant("X11_leader_counts_itself_before_sync") {
            shared.log.last().index
        } else {
            shared.log.persisted()
        };
        let held_by = |node: NodeId| match node == shared.id {
            true => Some(own),
            false => self.peers.get(&node).and_then(Progress::matched),
        };
        let Some(reached) = quorum::reached(shared.configuration(), held_by) else {
            return;
        };
        if reached <= shared.commit() {
            return;
        }
        if reached < self.noop && !mutant("X01_old_term_committed_by_counting") {
            mark("old-term entry on a quorum not committed by counting");
            return;
        }
        self.commit(shared, reached);
    }

    fn commit(&mut self, shared: &mut Shared, reached: Index) {
        if reached > shared.log.persisted() {
            mark("committed with the leader's own disk behind");
        }
        let first_own = shared.commit().next().max(self.noop);
        if first_own <= reached {
            self.uncommitted_bytes -= shared.log.size_bytes_between(first_own, reached);
        }
        shared.commit_to(reached);
    }

    /// When this leader has something to do, at the latest.
    pub(crate) fn next_deadline(&self, shared: &Shared) -> Time {
        self.heartbeat_due
            .min(self.quorum_deadline(shared))
            .min(disk_deadline(shared))
            .min(self.transfer_deadline())
    }

    pub(crate) fn tick(&mut self, shared: &mut Shared, now: Time) -> Next {
        if now >= disk_deadline(shared) {
            mark("stepped down, own disk is slow");
            return Next::StepDown(StepDown::SlowDisk);
        }
        if now >= self.quorum_deadline(shared) {
            mark("stepped down, quorum lost");
            return Next::StepDown(StepDown::LostQuorum);
        }
        self.abort_late_transfer(shared, now);
        if now >= self.heartbeat_due || crate::simulation::buggify("early heartbeat") {
            self.heartbeat_due = now.after(shared.config.heartbeat_interval);
            self.beat(shared, now);
            self.hand_over_if_level(shared);
        }
        Next::Stay
    }

    /// Check-quorum (R11): an election time-out after a quorum was last heard.
    fn quorum_deadline(&self, shared: &Shared) -> Time {
        if mutant("X27_no_check_quorum") {
            return Time::NEVER;
        }
        let heard = |node: NodeId| match node == shared.id {
            true => Some(Time::NEVER),
            false => self.peers.get(&node).map(Progress::heard),
        };
        // A voter without progress can not be: both come from the latest configuration.
        let heard = quorum::reached(shared.configuration(), heard).unwrap_or(Time(0));
        heard.after(shared.config.election_timeout)
    }

    /// The peer named in a reply, if the reply belongs to its present stay (R22).
    fn answering(&mut self, from: NodeId, session: ReplicationSession, now: Time) -> Option<&mut Progress> {
        let peer = self.peers.get_mut(&from)?;
        if peer.session != session && !mutant("X09_ack_of_another_session_accepted") {
            mark("reply of another session dropped");
            return None;
        }
        peer.hear(now);
        Some(peer)
    }
}

/// A leader whose own write is not finished an election time-out after it was handed out leads no more (R39).
fn disk_deadline(shared: &Shared) -> Time {
    let started = shared.log.oldest_write_started();
    started.map_or(Time::NEVER, |started| {
        started.after(shared.config.election_timeout)
    })
}

fn size_bytes(proposal: &Proposal) -> usize {
    proposal.payload.len() + Entry::OVERHEAD_BYTES
}

/// Proposals as entries of this term, from `first` on (R26: bound to the term that accepted them).
pub(crate) fn entries_of(shared: &Shared, first: Index, proposals: Vec<Proposal>) -> Vec<Entry> {
    let term = shared.term();
    let numbered = proposals.into_iter().zip(first.get()..);
    numbered
        .map(|(proposal, number)| Entry {
            id: EntryId {
                term,
                index: Index::new(number).expect("counted up from an index"),
            },
            kind: proposal.kind,
            stamp: proposal.stamp,
            payload: proposal.payload,
            configuration: None,
        })
        .collect()
}
