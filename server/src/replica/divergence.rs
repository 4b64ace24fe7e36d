//! Have all replicas made the same of the log? (R47)
//!
//! The leader tells with each heartbeat interval how far it has applied, and the chained hash of all effects up to there.
//! Whoever has another hash at that entry tells everybody, and everybody tells theirs. A node that finds a majority of the
//! voters agreed on another hash than its own is the odd one: it stops serving, and the others go on. With two voters
//! nobody can know who is wrong: both say so, and go on. What it found is durable (`quarantine.rs`).
//!
//! A hash chains everything before it, so one comparison covers the whole past; how far back the hashes agreed is known
//! from the last comparison, and told to the operator.
//!
//! The hashes of what is stored (`scrub.rs`) are compared and judged in the same way, each piece at its own entry. They
//! chain nothing: what one piece could not tell, the next pass does.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, Failure, RaftBody};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, Index, RoleName, Time};

use super::formed::Formed;
use super::outbox::Outbox;
use super::{Effect, Finding, Hashes, Notice, Quarantine};

/// Hashes of so many entries are kept for comparison; 512 KiB.
const KEPT_HASHES: usize = 1 << 16;
/// The leader tells its hash this often, while it changes.
const TELL_INTERVAL: Duration = Duration::from_millis(50);
/// Entries at which hashes differ that are looked into at the same time.
const MOST_DISPUTES: usize = 16;
/// Pieces of the scrub whose hashes are kept for comparison.
const KEPT_PIECES: usize = 64;
/// So much of a key is told to the operator, bytes.
const SHOWN_OF_A_KEY: usize = 64;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Compared {
    /// What was done: the chained hash of all effects up to an entry.
    Effects,
    /// What is stored: the hash of the records that an entry names, as of it.
    Records,
}

/// A hash, as replicas tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateHash {
    pub(super) of: Compared,
    pub(super) at: Index,
    pub(super) hash: u64,
}

/// Records that were hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// As of this entry, which names them.
    pub(super) at: Index,
    pub(super) hash: u64,
    pub(super) from: Bytes,
    /// The first key behind them; `None`: there is none.
    pub(super) next: Option<Bytes>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Divergence {
    /// Hash after each of the last entries.
    hashes: VecDeque<u64>,
    /// The entry of the last hash.
    last: Option<Index>,
    /// Of the scrub, the newest last.
    pieces: VecDeque<Piece>,
    told: Option<Index>,
    tell_at: Time,
    /// What others told of an entry that is not applied here yet, or not read; the newest of each.
    ahead: BTreeMap<(raft::NodeId, Compared), StateHash>,
    /// The last entry at which some other node had done the same.
    agreed: Option<Index>,
    /// What others have at entries where not all agree.
    disputes: BTreeMap<(Index, Compared), BTreeMap<raft::NodeId, u64>>,
    /// Who was found to have another state than this node: the entry as of which that was first seen, and which keys.
    odd: BTreeMap<raft::NodeId, (Index, Option<String>)>,
    quarantine: Option<Quarantine>,
}

impl Piece {
    /// Which keys, in words.
    pub(super) fn range(&self) -> String {
        let from = match &self.from[..] {
            [] => "from the first one".to_owned(),
            from => format!("from {}", shown(from)),
        };
        match &self.next {
            None => format!("{from} to the last one"),
            Some(next) => format!("{from} to below {}", shown(next)),
        }
    }
}

/// A key for people, who need no more of it than its beginning.
fn shown(key: &[u8]) -> String {
    match key.get(..SHOWN_OF_A_KEY) {
        Some(beginning) if key.len() > SHOWN_OF_A_KEY => format!("\"{}...\"", beginning.escape_ascii()),
        Some(_) | None => format!("\"{}\"", key.escape_ascii()),
    }
}

impl Divergence {
    /// `quarantine`: what an earlier process on the same data directory found.
    pub(super) fn new(quarantine: Option<Quarantine>) -> Divergence {
        Divergence {
            hashes: VecDeque::new(),
            last: None,
            pieces: VecDeque::new(),
            told: None,
            tell_at: Time(0),
            ahead: BTreeMap::new(),
            agreed: None,
            disputes: BTreeMap::new(),
            odd: BTreeMap::new(),
            quarantine,
        }
    }

    /// The state was replaced: hashes go on from another entry.
    pub(super) fn begin_anew(&mut self) {
        self.hashes.clear();
        self.last = None;
        self.pieces.clear();
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

    /// These records were read and hashed.
    fn scrubbed(&mut self, piece: Piece) {
        if self.pieces.len() >= KEPT_PIECES {
            self.pieces.pop_front();
        }
        self.pieces.push_back(piece);
    }

    fn piece_at(&self, at: Index) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.at == at)
    }

    /// This node's own hash, if it has one at that entry.
    fn own(&self, of: Compared, at: Index) -> Option<u64> {
        match of {
            Compared::Effects => self.hash_at(at),
            Compared::Records => self.piece_at(at).map(|piece| piece.hash),
        }
    }

    /// Up to where this node has come.
    fn reached(&self, of: Compared) -> Option<Index> {
        match of {
            Compared::Effects => self.last,
            Compared::Records => self.pieces.back().map(|piece| piece.at),
        }
    }

    /// Who was found to have another state than this node, since when, and among which keys.
    pub(super) fn odd(&self) -> impl Iterator<Item = (raft::NodeId, Index, Option<&str>)> {
        let odd = self.odd.iter();
        odd.map(|(node, (at, keys))| (*node, *at, keys.as_deref()))
    }

    pub(super) fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.as_ref()
    }

    /// When the leader tells its hash next.
    fn next_telling(&self) -> Time {
        if self.last.is_some() && self.last > self.told {
            self.tell_at
        } else {
            Time::NEVER
        }
    }

    fn note_dispute(&mut self, from: raft::NodeId, theirs: StateHash) {
        let dispute = self.disputes.entry((theirs.at, theirs.of)).or_default();
        dispute.insert(from, theirs.hash);
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
            // Whatever it proposes is right, but what it answers is not: somebody else should lead, as soon as one can.
            self.divergence.tell_at = now.after(TELL_INTERVAL);
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
            self.tell_state_at(Compared::Effects, index, out);
        }
    }

    /// These records were read and hashed. The leader tells what they came to.
    pub(super) fn compare_records(&mut self, piece: Piece, out: &mut Outbox) {
        let at = piece.at;
        self.divergence.scrubbed(piece);
        if self.raft.role() == RoleName::Leader {
            self.tell_state_at(Compared::Records, at, out);
        }
    }

    pub(super) fn next_comparison(&self) -> Time {
        match self.raft.role() {
            RoleName::Leader if self.divergence.quarantine.is_some() => self.divergence.tell_at,
            RoleName::Leader => self.divergence.next_telling(),
            RoleName::Follower | RoleName::PreCandidate | RoleName::Candidate => Time::NEVER,
        }
    }

    /// Tells everybody.
    fn tell_state_at(&self, of: Compared, at: Index, out: &mut Outbox) {
        let Some(hash) = self.divergence.own(of, at) else {
            return;
        };
        let own = self.raft.id();
        let members = self.raft.configuration().members();
        for peer in members.into_iter().filter(|peer| *peer != own) {
            self.tell_state_to(peer, StateHash { of, at, hash }, out);
        }
    }

    fn tell_state_to(&self, peer: raft::NodeId, own: StateHash, out: &mut Outbox) {
        let (index, hash) = (own.at.get(), own.hash);
        let body = match own.of {
            Compared::Effects => RaftBody::StateHash { index, hash },
            Compared::Records => RaftBody::RecordsHash { index, hash },
        };
        self.send_beside_the_core(peer, self.raft.term(), body, out);
    }

    /// Another node tells what it has at an entry.
    pub(super) fn state_told(&mut self, from: raft::NodeId, theirs: StateHash, out: &mut Outbox) {
        let StateHash { of, at, hash } = theirs;
        if self.divergence.reached(of).is_none_or(|reached| at > reached) {
            self.divergence.ahead.insert((from, of), theirs);
            return;
        }
        let Some(own) = self.divergence.own(of, at) else {
            mark("state hash of a forgotten entry dropped");
            return;
        };
        let is_disputed = self.divergence.disputes.contains_key(&(at, of));
        if own == hash {
            self.note_agreement(from, theirs, out);
            if is_disputed {
                self.divergence.note_dispute(from, theirs);
            }
            return;
        }
        mark("state hashes differ");
        self.divergence.note_dispute(from, theirs);
        let keys = self.divergence.piece_at(at).filter(|_| of == Compared::Records);
        let keys = keys.map(Piece::range);
        let members = self.raft.configuration().members();
        self.divergence.odd.retain(|node, _| members.contains(node));
        self.divergence.odd.entry(from).or_insert((at, keys.clone()));
        if !is_disputed {
            out.notice(Notice::StatesDiffer { peer: from, at, keys });
            self.tell_state_at(of, at, out);
        }
        self.judge(of, at, own, out);
    }

    fn note_agreement(&mut self, from: raft::NodeId, same: StateHash, out: &mut Outbox) {
        match same.of {
            Compared::Effects => {
                self.divergence.agreed = self.divergence.agreed.max(Some(same.at));
            }
            Compared::Records => {
                mark("scrub agreed");
                self.scrub.agreed(from, same.at);
            }
        }
        if self.raft.leader() == Some(from) {
            // So that the leader knows how far it was right, should it ever be the odd one; and can tell who was compared.
            self.tell_state_to(from, same, out);
        }
    }

    fn compare_what_was_ahead(&mut self, out: &mut Outbox) {
        if self.divergence.ahead.is_empty() {
            return;
        }
        let ahead = std::mem::take(&mut self.divergence.ahead);
        let (reached, later): (BTreeMap<_, _>, _) = ahead
            .into_iter()
            .partition(|((_, of), theirs)| Some(theirs.at) <= self.divergence.reached(*of));
        self.divergence.ahead = later;
        for ((from, _), theirs) in reached {
            self.state_told(from, theirs, out);
        }
    }

    /// Does a majority of the voters agree on another state than this node's?
    fn judge(&mut self, of: Compared, at: Index, own: u64, out: &mut Outbox) {
        let voters = &self.raft.configuration().voters;
        let Some(told) = self.divergence.disputes.get(&(at, of)) else {
            return;
        };
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, hash) in told
            .iter()
            .filter(|(node, hash)| voters.contains(node) && **hash != own)
        {
            *counts.entry(*hash).or_default() += 1;
        }
        let majority = counts.into_iter().find(|(_, count)| *count > voters.len() / 2);
        if let Some((majority, _)) = majority {
            let hashes = Hashes { own, majority };
            let finding = self.finding(of, at, hashes);
            self.stop_serving(
                Quarantine {
                    found_at: at,
                    finding,
                },
                out,
            );
        }
    }

    fn finding(&self, of: Compared, at: Index, hashes: Hashes) -> Finding {
        match of {
            Compared::Effects => Finding::Effects {
                agreed: self.divergence.agreed,
                hashes,
            },
            Compared::Records => {
                let piece = self.divergence.piece_at(at);
                let keys = piece.expect("what is judged was found just now").range();
                Finding::Records { keys, hashes }
            }
        }
    }

    /// At once, and durably soon: what is lost with a crash before that was found by comparison, and will be again. What
    /// was found first stays.
    pub(super) fn stop_serving(&mut self, quarantine: Quarantine, out: &mut Outbox) {
        if self.divergence.quarantine.is_some() {
            return;
        }
        mark("replica quarantined");
        let explanation = quarantine.explanation();
        out.push(Effect::Quarantine(Box::new(quarantine.clone())));
        self.divergence.quarantine = Some(quarantine);
        out.notice(Notice::Quarantined {
            explanation: explanation.clone(),
        });
        self.end_reads(&explanation, out);
        self.refuse_writes(&explanation, out);
        self.end_proposed_writes(&explanation, out);
        out.push(Effect::EndWatches(Failure::new(
            ErrorCode::NotServing,
            explanation,
        )));
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
        let mut divergence = Divergence::new(None);
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

    #[test]
    fn the_operator_is_told_which_keys_and_no_more_of_them_than_needed() {
        let long = Bytes::from(vec![b'k'; 4096]);
        let piece = |from: &'static [u8], next: Option<Bytes>| Piece {
            at: index(7),
            hash: 1,
            from: Bytes::from_static(from),
            next,
        };
        assert_eq!(piece(b"", None).range(), "from the first one to the last one");
        let some = piece(b"a\n", Some(Bytes::from_static(b"b")));
        assert_eq!(some.range(), "from \"a\\n\" to below \"b\"");
        assert!(piece(b"a", Some(long)).range().len() < 200);
    }
}
