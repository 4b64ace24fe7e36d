//! Watches a random run: after every event it checks the invariants of the paper's figure 3, and those of membership,
//! snapshots and leases. It shares no code with the core.

use std::collections::{BTreeMap, BTreeSet};

use super::{Durable, Group, Node};
use raftkv_raft::{
    Configuration, Entry, EntryId, Envelope, Index, Message, NodeId, ReadId, ReadOutcome, RoleName, Term,
    Verdict,
};

/// A log as ids: the base, and all entries after it.
pub(crate) struct KnownLog(Vec<EntryId>);

impl KnownLog {
    fn of_disk(disk: &Durable) -> KnownLog {
        let entries = disk.entries.iter().map(|entry| entry.id);
        KnownLog(std::iter::once(disk.snapshot.last).chain(entries).collect())
    }

    /// As it will be once all queued steps are done.
    fn of(node: &Node) -> KnownLog {
        let mut log = KnownLog::of_disk(&node.disk);
        let mut installs = node.installs.iter().peekable();
        for write in &node.queued {
            while let Some((install, _)) = installs.next_if(|(install, _)| install.number < write.number) {
                log.0 = vec![install.last];
            }
            if let Some(from) = write.truncate_from {
                log.0.retain(|id| id.index < from);
            }
            log.0.extend(write.entries.iter().map(|entry| entry.id));
        }
        for (install, _) in installs {
            log.0 = vec![install.last];
        }
        log
    }

    fn base(&self) -> Index {
        self.0[0].index
    }

    /// The entry at `index`; `None` beyond the end and below the base.
    fn at(&self, index: Index) -> Option<EntryId> {
        let place = index.get().checked_sub(self.base().get())?;
        self.0.get(usize::try_from(place).expect("a short log")).copied()
    }

    /// Holds this very entry, or a snapshot of it.
    fn covers(&self, id: EntryId) -> bool {
        id.index < self.base() || self.at(id.index) == Some(id)
    }
}

/// Do these nodes form a quorum? Counted by hand.
fn is_quorum(configuration: &Configuration, agrees: impl Fn(NodeId) -> bool) -> bool {
    let is_majority = |half: &BTreeSet<NodeId>| {
        let agreeing = half.iter().filter(|node| agrees(**node)).count();
        agreeing * 2 > half.len()
    };
    is_majority(&configuration.voters) && configuration.outgoing.as_ref().is_none_or(is_majority)
}

/// Could the two decide different things, by two groups of nodes that have nobody in common?
fn can_both_decide_alone(left: &Configuration, right: &Configuration) -> bool {
    let nodes: Vec<NodeId> = left.members().union(&right.members()).copied().collect();
    let is_in = |subset: u32, node: NodeId| {
        nodes
            .iter()
            .position(|known| *known == node)
            .is_some_and(|place| subset >> place & 1 == 1)
    };
    (0..1_u32 << nodes.len()).any(|subset| {
        is_quorum(left, |node| is_in(subset, node)) && is_quorum(right, |node| is_in(!subset, node))
    })
}

/// Sees everything, and remembers it over crashes.
#[derive(Default)]
pub(crate) struct Observer {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Everything applied anywhere.
    pub(crate) applied: BTreeMap<Index, Entry>,
    /// How far each node's list of applied entries was looked at, in this life.
    pub(crate) seen: BTreeMap<u64, usize>,
    leader_log: BTreeMap<(NodeId, Term), EntryId>,
    leader_commit: BTreeMap<(NodeId, Term), Index>,
    /// Term, commit of each node, in this life.
    progress: BTreeMap<u64, (Term, Index)>,
    reads: BTreeMap<(u64, ReadId), Index>,
    founding: Option<Configuration>,
    pub(crate) confirmed: usize,
    pub(crate) lease_reads: usize,
    pub(crate) changes: usize,
}

impl Observer {
    pub(crate) fn of(founding: Configuration) -> Observer {
        Observer {
            founding: Some(founding),
            ..Observer::default()
        }
    }

    pub(crate) fn elections(&self) -> usize {
        self.leaders.len()
    }

    pub(crate) fn check(&mut self, group: &mut Group) {
        let logs: BTreeMap<u64, KnownLog> = group
            .nodes
            .iter()
            .map(|(name, node)| (*name, KnownLog::of(node)))
            .collect();
        for (name, log) in &logs {
            self.check_leader(group, *name, log);
            self.check_applied(&group.nodes[name], *name);
            self.check_reads(group, *name);
            self.check_node(&group.nodes[name], *name, log);
        }
        check_log_matching(&logs);
    }

    /// The node crashed: what it does from now on is another life.
    pub(crate) fn crashed(&mut self, name: u64) {
        self.seen.remove(&name);
        self.progress.remove(&name);
    }

    /// The greatest index applied anywhere: whatever is read from now on must include it.
    fn newest(&self) -> Index {
        self.applied.keys().next_back().copied().unwrap_or(Index::FIRST)
    }

    pub(crate) fn asks(&mut self, node: u64, read: ReadId) {
        let newest = self.newest();
        self.reads.insert((node, read), newest);
    }

    /// I17: what a lease gives is not stale.
    pub(crate) fn read_by_lease(&mut self, index: Index) {
        let newest = self.newest();
        assert!(
            index >= newest,
            "I17: a lease read at {index}, {newest} is applied somewhere"
        );
        self.lease_reads += 1;
    }

    /// I17: nothing of another leader is applied while the lease of this term counts.
    pub(crate) fn leads_alone(&self, term: Term) {
        let newest = self.applied.values().next_back();
        assert!(
            newest.is_none_or(|entry| entry.id.term <= term),
            "I17: a lease of term {term} holds, {newest:?} is applied"
        );
    }

    /// I5, I8, I9.
    fn check_node(&mut self, node: &Node, name: u64, log: &KnownLog) {
        let raft = &node.raft;
        assert!(raft.commit() <= raft.last().index, "I9: commit is within the log");
        assert!(
            log.0
                .windows(2)
                .all(|pair| pair[0].term <= pair[1].term && pair[0].index.next() == pair[1].index),
            "I5: terms never fall, no gaps"
        );
        let now = (raft.term(), raft.commit());
        let before = self.progress.insert(name, now).unwrap_or(now);
        assert!(
            before.0 <= now.0 && before.1 <= now.1,
            "I8: node {name} went from {before:?} to {now:?}"
        );
    }

    /// I1, I3, I6, I9, I10, I14.
    fn check_leader(&mut self, group: &Group, name: u64, log: &KnownLog) {
        let raft = &group.nodes[&name].raft;
        if raft.role() != RoleName::Leader {
            return;
        }
        let known = *self.leaders.entry(raft.term()).or_insert(raft.id());
        assert_eq!(known, raft.id(), "I1: two leaders in term {}", raft.term());
        let before = self.leader_log.insert((raft.id(), raft.term()), raft.last());
        assert!(
            before.is_none_or(|before| before <= raft.last()),
            "I3: a leader only appends"
        );
        // An entry of a later term may be known while a deposed leader has not heard of it.
        let earlier = self
            .applied
            .values()
            .rev()
            .find(|entry| entry.id.term < raft.term());
        if let Some(entry) = earlier {
            assert!(
                log.covers(entry.id),
                "I6: leader {name} of term {} lacks {}",
                raft.term(),
                entry.id
            );
        }
        self.check_commit(group, name, log);
        check_match(group, name, log);
        check_one_change(&group.nodes[&name]);
    }

    /// I10: what a leader newly commits is durable at a quorum of its configuration, and of its term.
    fn check_commit(&mut self, group: &Group, name: u64, log: &KnownLog) {
        let raft = &group.nodes[&name].raft;
        let commit = raft.commit();
        let before = self.leader_commit.insert((raft.id(), raft.term()), commit);
        if before.is_none_or(|before| before == commit) {
            return;
        }
        let Some(id) = log.at(commit) else { return };
        assert_eq!(id.term, raft.term(), "I10: committed by counting");
        let holds = |node: NodeId| {
            let disk = group.nodes.get(&node.0).map(|node| KnownLog::of_disk(&node.disk));
            disk.is_some_and(|disk| disk.covers(id))
        };
        assert!(
            is_quorum(raft.configuration(), holds),
            "I10: {id} is committed by {name}, and not durable at a quorum of {:?}",
            raft.configuration()
        );
    }

    /// I7, I15: everyone applies the same entries in order, or gets the same from a snapshot.
    fn check_applied(&mut self, node: &Node, name: u64) {
        let mut seen = self.seen.get(&name).copied().unwrap_or_default();
        if seen > node.applied.len() {
            seen = 0;
        }
        for (position, entry) in node.applied.iter().enumerate().skip(seen) {
            assert_eq!(
                entry.id.index.get(),
                position as u64 + 2,
                "applied in order, each once"
            );
            let is_news = !self.applied.contains_key(&entry.id.index);
            let known = self
                .applied
                .entry(entry.id.index)
                .or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "I7: node {name} applies another entry");
            if is_news {
                self.check_adjacent(entry);
            }
        }
        self.seen.insert(name, node.applied.len());
    }

    /// I14: two configurations that are committed one after the other can not both decide alone.
    fn check_adjacent(&mut self, entry: &Entry) {
        let Some(configuration) = entry.configuration.as_deref() else {
            return;
        };
        self.changes += 1;
        let earlier = self.applied.range(..entry.id.index).rev();
        let before = earlier
            .filter_map(|(_, entry)| entry.configuration.as_deref())
            .next();
        let before = before
            .or(self.founding.as_ref())
            .expect("a run has a founding configuration");
        assert!(
            !can_both_decide_alone(before, configuration),
            "I14: {before:?} and {configuration:?} could both decide"
        );
    }

    /// R68: a read's index is at least what was applied anywhere when it was asked for.
    fn check_reads(&mut self, group: &mut Group, name: u64) {
        for outcome in std::mem::take(&mut group.node(name).reads) {
            if let ReadOutcome::Confirmed { id, index } = outcome {
                let least = self.reads[&(name, id)];
                assert!(
                    index >= least,
                    "stale read: index {index}, applied before it was asked: {least}"
                );
                self.confirmed += 1;
            }
        }
    }

    /// I2, and I11: a vote that is seen is on the disk, and so is an acknowledged entry.
    pub(crate) fn saw(&mut self, group: &Group, envelope: &Envelope) {
        let disk = &group.nodes[&envelope.from.0].disk;
        assert!(
            disk.hard_state.term >= envelope.term,
            "R5: a term is shown before it is durable"
        );
        match &envelope.message {
            Message::VoteReply {
                verdict: Verdict::Granted,
            } => self.voted(envelope.from, envelope.term, envelope.to),
            Message::VoteRequest { .. } => self.voted(envelope.from, envelope.term, envelope.from),
            Message::AppendAccepted { matched, .. } => {
                assert!(
                    *matched <= disk.last().index,
                    "I11: {matched} acknowledged, {} durable",
                    disk.last()
                );
            }
            _ => {}
        }
    }

    fn voted(&mut self, voter: NodeId, term: Term, candidate: NodeId) {
        let known = *self.votes.entry((voter, term)).or_insert(candidate);
        assert_eq!(known, candidate, "I2: {voter} votes twice in term {term}");
    }
}

/// I4: equal ids mean equal prefixes, as far as both logs reach back.
fn check_log_matching(logs: &BTreeMap<u64, KnownLog>) {
    for (name, left) in logs {
        for (other, right) in logs.range(name + 1..) {
            let from = left.base().max(right.base());
            let common = left
                .0
                .iter()
                .rev()
                .find(|id| id.index >= from && right.at(id.index) == Some(**id));
            let Some(last) = common else { continue };
            for number in from.get()..=last.index.get() {
                let index = Index::new(number).expect("counted up from an index");
                assert_eq!(
                    left.at(index),
                    right.at(index),
                    "I4: log matching of {name} and {other} at {index}"
                );
            }
        }
    }
}

/// I9: what a leader takes for a match is durable there, while the peer knows of no newer term.
fn check_match(group: &Group, name: u64, log: &KnownLog) {
    let raft = &group.nodes[&name].raft;
    for peer in raft.peer_progress() {
        let Some(matched) = peer.matched else { continue };
        assert!(matched < peer.next, "I9: match below next");
        let Some(node) = group.nodes.get(&peer.peer.0) else {
            continue;
        };
        let id = log.at(matched);
        if node.disk.hard_state.term <= raft.term()
            && let Some(id) = id
        {
            assert!(
                KnownLog::of_disk(&node.disk).covers(id),
                "I9: {id} does not match at {}",
                peer.peer
            );
        }
    }
}

/// I14: a leader's log holds at most one configuration that is not committed.
fn check_one_change(node: &Node) {
    let commit = node.raft.commit();
    let queued = node.queued.iter().flat_map(|write| &write.entries);
    let uncommitted = node
        .disk
        .entries
        .iter()
        .chain(queued)
        .filter(|entry| entry.id.index > commit);
    let ids: BTreeSet<EntryId> = uncommitted
        .filter(|entry| entry.configuration.is_some() && node.raft.last().index >= entry.id.index)
        .map(|entry| entry.id)
        .collect();
    assert!(ids.len() <= 1, "I14: configurations {ids:?} are all uncommitted");
}
