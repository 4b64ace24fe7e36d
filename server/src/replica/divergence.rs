//! Have all replicas made the same of the log? (R47)
//!
//! The leader tells with each heartbeat interval how far it has applied, and the chained hash of all effects up to there.
//! Whoever has another hash at that entry tells everybody, and everybody tells theirs. A node that finds a majority of the
//! voters agreed on another hash than its own is the odd one: it stops serving, and the others go on. With two voters
//! nobody can know who is wrong: both say so, and go on.
//!
//! A hash chains everything before it, so one comparison covers the whole past; how far back the hashes agreed is known
//! from the last comparison, and told to the operator.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use raftkv_protocol::RaftBody;
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, Index, RoleName, Time};

use super::Notice;
use super::formed::Formed;
use super::outbox::Outbox;

/// Hashes of so many entries are kept for comparison; 512 KiB.
const KEPT_HASHES: usize = 1 << 16;
/// The leader tells its hash this often, while it changes.
const TELL_INTERVAL: Duration = Duration::from_millis(50);
/// Entries at which hashes differ that are looked into at the same time.
const MOST_DISPUTES: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Divergence {
    /// Hash after each of the last entries.
    hashes: VecDeque<u64>,
    /// The entry of the last hash.
    last: Option<Index>,
    told: Option<Index>,
    tell_at: Time,
    /// What others told of an entry that is not applied here yet; the newest of each.
    ahead: BTreeMap<raft::NodeId, (Index, u64)>,
    /// The last entry at which some other node had the same hash.
    agreed: Option<Index>,
    /// What others have at entries where not all agree.
    disputes: BTreeMap<Index, BTreeMap<raft::NodeId, u64>>,
    quarantine: Option<Quarantine>,
}

/// This node's state is not that of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quarantine {
    agreed: Option<Index>,
    differs: Index,
}

impl Quarantine {
    pub(super) fn explanation(self) -> String {
        let since = self
            .agreed
            .map_or_else(|| "its start".to_owned(), |agreed| format!("entry {agreed}"));
        format!(
            "this node's state differs from that of the other nodes: it was the same at {since}, and is another one at \
             entry {}; it does not serve any more. Keep its data directory for a report, and replace the node (kvctl \
             member replace NAME) with an empty one",
            self.differs
        )
    }
}

impl Divergence {
    pub(super) fn new() -> Divergence {
        Divergence {
            hashes: VecDeque::new(),
            last: None,
            told: None,
            tell_at: Time(0),
            ahead: BTreeMap::new(),
            agreed: None,
            disputes: BTreeMap::new(),
            quarantine: None,
        }
    }

    /// The state was replaced: hashes go on from another entry.
    pub(super) fn begin_anew(&mut self) {
        self.hashes.clear();
        self.last = None;
        self.disputes.clear();
    }

    /// The entry at `index` was applied.
    pub(super) fn applied(&mut self, index: Index, hash: u64) {
        if self.hashes.len() >= KEPT_HASHES {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash);
        self.last = Some(index);
    }

    /// The hash after the entry at `index`, if it is still kept.
    fn hash_at(&self, index: Index) -> Option<u64> {
        let last = self.last?;
        let back = usize::try_from(last.distance_from(index)).ok()?;
        if index > last {
            return None;
        }
        let place = self.hashes.len().checked_sub(back + 1)?;
        self.hashes.get(place).copied()
    }

    pub(super) fn quarantine(&self) -> Option<Quarantine> {
        self.quarantine
    }

    /// When the leader tells its hash next.
    fn next_telling(&self) -> Time {
        if self.last.is_some() && self.last > self.told {
            self.tell_at
        } else {
            Time::NEVER
        }
    }

    fn note_dispute(&mut self, index: Index, from: raft::NodeId, hash: u64) {
        self.disputes.entry(index).or_default().insert(from, hash);
        while self.disputes.len() > MOST_DISPUTES {
            self.disputes.pop_first();
        }
    }
}

impl Formed {
    /// The leader tells where it is; others look into what they were told and have applied by now.
    pub(super) fn compare_states(&mut self, now: Time, out: &mut Outbox) {
        self.compare_what_was_ahead(out);
        if self.raft.role() != RoleName::Leader {
            return;
        }
        if self.divergence.quarantine.is_some() {
            // Whatever it proposes is right, but what it answers is not: somebody else should lead.
            if let Some(successor) = self.raft.best_successor(now) {
                let _ = self.raft.transfer(now, successor);
            }
            return;
        }
        if now < self.divergence.next_telling() {
            return;
        }
        self.divergence.told = self.divergence.last;
        self.divergence.tell_at = now.after(TELL_INTERVAL);
        if let Some(index) = self.divergence.last {
            self.tell_state_at(index, out);
        }
    }

    pub(super) fn next_comparison(&self) -> Time {
        match self.raft.role() {
            RoleName::Leader => self.divergence.next_telling(),
            RoleName::Follower | RoleName::PreCandidate | RoleName::Candidate => Time::NEVER,
        }
    }

    /// Tells everybody.
    fn tell_state_at(&self, index: Index, out: &mut Outbox) {
        let Some(hash) = self.divergence.hash_at(index) else {
            return;
        };
        let own = self.raft.id();
        let members = self.raft.configuration().members();
        for peer in members.into_iter().filter(|peer| *peer != own) {
            self.tell_state_to(peer, index, hash, out);
        }
    }

    fn tell_state_to(&self, peer: raft::NodeId, index: Index, hash: u64, out: &mut Outbox) {
        let body = RaftBody::StateHash {
            index: index.get(),
            hash,
        };
        self.send_beside_the_core(peer, self.raft.term(), body, out);
    }

    /// Another node tells its hash after the entry at `index`.
    pub(super) fn state_told(&mut self, from: raft::NodeId, index: Index, hash: u64, out: &mut Outbox) {
        if self.divergence.last.is_none_or(|last| index > last) {
            self.divergence.ahead.insert(from, (index, hash));
            return;
        }
        let Some(own) = self.divergence.hash_at(index) else {
            mark("state hash of a forgotten entry dropped");
            return;
        };
        let is_disputed = self.divergence.disputes.contains_key(&index);
        if own == hash {
            self.divergence.agreed = self.divergence.agreed.max(Some(index));
            if self.raft.leader() == Some(from) {
                // So that the leader knows how far it was right, should it ever be the odd one.
                self.tell_state_to(from, index, own, out);
            }
            if is_disputed {
                self.divergence.note_dispute(index, from, hash);
            }
            return;
        }
        mark("state hashes differ");
        self.divergence.note_dispute(index, from, hash);
        if !is_disputed {
            out.notice(Notice::StatesDiffer {
                peer: from,
                at: index,
            });
            self.tell_state_at(index, out);
        }
        self.judge(index, own, out);
    }

    fn compare_what_was_ahead(&mut self, out: &mut Outbox) {
        let Some(last) = self.divergence.last else { return };
        if self.divergence.ahead.is_empty() {
            return;
        }
        let ahead = std::mem::take(&mut self.divergence.ahead);
        let (reached, later): (BTreeMap<_, _>, _) =
            ahead.into_iter().partition(|(_, (index, _))| *index <= last);
        self.divergence.ahead = later;
        for (from, (index, hash)) in reached {
            self.state_told(from, index, hash, out);
        }
    }

    /// Does a majority of the voters agree on another state than this node's?
    fn judge(&mut self, index: Index, own: u64, out: &mut Outbox) {
        let voters = &self.raft.configuration().voters;
        let Some(told) = self.divergence.disputes.get(&index) else {
            return;
        };
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, hash) in told
            .iter()
            .filter(|(node, hash)| voters.contains(node) && **hash != own)
        {
            *counts.entry(*hash).or_default() += 1;
        }
        let is_odd = counts.values().any(|count| *count > voters.len() / 2);
        if is_odd && self.divergence.quarantine.is_none() {
            let quarantine = Quarantine {
                agreed: self.divergence.agreed,
                differs: index,
            };
            mark("replica quarantined");
            self.divergence.quarantine = Some(quarantine);
            out.notice(Notice::Quarantined {
                explanation: quarantine.explanation(),
            });
            self.end_reads(&quarantine.explanation(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u64) -> Index {
        Index::new(number).unwrap()
    }

    #[test]
    fn hashes_of_the_last_entries_are_found_and_older_ones_forgotten() {
        let mut divergence = Divergence::new();
        assert_eq!(divergence.hash_at(index(1)), None);
        let last = 10 + KEPT_HASHES as u64;
        for number in 5..=last {
            divergence.applied(index(number), number * 3);
        }
        assert_eq!(divergence.hash_at(index(last)), Some(last * 3));
        assert_eq!(divergence.hash_at(index(11)), Some(33));
        assert_eq!(divergence.hash_at(index(10)), None, "only so many are kept");
        assert_eq!(divergence.hash_at(index(last + 1)), None);
        divergence.begin_anew();
        assert_eq!(divergence.hash_at(index(last)), None);
    }
}
