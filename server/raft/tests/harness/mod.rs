//! A group of cores in virtual time, with a network and disks that the test controls.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod chaos;
pub(crate) mod lone;
pub(crate) mod observer;
pub(crate) mod script;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raftkv_raft::{
    ChangeChecks, ChangeError, Config, Configuration, ConfigurationChange, Entry, EntryId, EntryKind,
    Envelope, Fetch, HardState, Index, Install, NodeId, Proposal, Raft, ReadId, ReadOutcome, Ready, Restored,
    SendSnapshot, SnapshotOffer, SnapshotVerdict, Stamp, Term, Time, Transition, Write,
};

pub(crate) fn index(number: u64) -> Index {
    Index::new(number).expect("an index is at least 1")
}

pub(crate) fn id(index_number: u64, term: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: index(index_number),
    }
}

pub(crate) fn command(payload: &str) -> Proposal {
    Proposal {
        kind: EntryKind::Command,
        stamp: Stamp::default(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

pub(crate) fn entry(id: EntryId, payload: &str) -> Entry {
    Entry {
        id,
        kind: EntryKind::Command,
        stamp: Stamp::default(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        configuration: None,
    }
}

/// A configuration as a proposal.
pub(crate) fn change(configuration: Configuration, checks: ChangeChecks) -> ConfigurationChange {
    ConfigurationChange {
        payload: format!("{configuration:?}").into(),
        configuration,
        stamp: Stamp::default(),
        checks,
    }
}

pub(crate) fn nodes(numbers: &[u64]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

pub(crate) fn voters(count: u64) -> Configuration {
    Configuration::of_voters((1..=count).map(NodeId))
}

/// The state of a node at one index: the test's state machine is the list of all entries applied, from index 2 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) last: EntryId,
    pub(crate) configuration: Configuration,
    pub(crate) applied: Vec<Entry>,
}

/// What a disk holds for sure: a snapshot, at first the founding entry's, and the entries right after it.
#[derive(Clone, Debug)]
pub(crate) struct Durable {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Snapshot,
    pub(crate) entries: Vec<Entry>,
}

pub(crate) const FOUNDING: u64 = 1;

impl Durable {
    pub(crate) fn founded(configuration: Configuration) -> Durable {
        Durable {
            hard_state: HardState {
                term: Term(1),
                vote: None,
                commit: index(FOUNDING),
            },
            snapshot: Snapshot {
                last: id(FOUNDING, 1),
                configuration,
                applied: Vec::new(),
            },
            entries: Vec::new(),
        }
    }

    /// With one entry for each of `terms`, after the founding entry.
    pub(crate) fn with_terms(mut self, terms: &[u64]) -> Durable {
        for term in terms {
            let at = self.last().index.next();
            let payload = format!("{term}.{at}");
            self.entries.push(entry(
                EntryId {
                    term: Term(*term),
                    index: at,
                },
                &payload,
            ));
        }
        self.hard_state.term = self.hard_state.term.max(self.last().term);
        self
    }

    /// With one more entry, which holds a configuration.
    pub(crate) fn with_configuration(mut self, term: u64, configuration: Configuration) -> Durable {
        self = self.with_terms(&[term]);
        let entry = self.entries.last_mut().expect("added just now");
        entry.kind = EntryKind::Configuration;
        entry.configuration = Some(std::sync::Arc::new(configuration));
        self
    }

    pub(crate) fn at_term(mut self, term: u64) -> Durable {
        self.hard_state.term = Term(term);
        self
    }

    pub(crate) fn voted_for(mut self, node: u64) -> Durable {
        self.hard_state.vote = Some(NodeId(node));
        self
    }

    pub(crate) fn committed(mut self, commit: u64) -> Durable {
        self.hard_state.commit = index(commit);
        self
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.snapshot.last, |entry| entry.id)
    }

    pub(crate) fn write(&mut self, write: Write) {
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.id.index < from);
        }
        if let Some(first) = write.entries.first() {
            assert_eq!(
                first.id.index,
                self.last().index.next(),
                "a write continues the log"
            );
        }
        self.entries.extend(write.entries);
        self.hard_state = write.hard_state;
    }

    pub(crate) fn install(&mut self, install: &Install, snapshot: Snapshot) {
        assert_eq!(install.last, snapshot.last, "the snapshot that was received");
        self.snapshot = snapshot;
        self.entries.clear();
        self.hard_state = install.hard_state;
    }

    /// Cuts the log after `base`; `applied` is the state there.
    pub(crate) fn compact(&mut self, base: EntryId, applied: Vec<Entry>) {
        let gone = self.entries.iter().filter(|entry| entry.id.index <= base.index);
        if let Some(newest) = gone
            .filter_map(|entry| entry.configuration.as_deref())
            .next_back()
        {
            self.snapshot.configuration = newest.clone();
        }
        self.entries.retain(|entry| entry.id.index > base.index);
        self.snapshot.last = base;
        self.snapshot.applied = applied;
    }

    pub(crate) fn restored(&self) -> Restored {
        let mut term_runs: Vec<(Index, Term)> = Vec::new();
        for entry in &self.entries {
            if term_runs.last().is_none_or(|(_, term)| *term != entry.id.term) {
                term_runs.push((entry.id.index, entry.id.term));
            }
        }
        let configurations = self.entries.iter();
        Restored {
            hard_state: self.hard_state,
            base: self.snapshot.last,
            configuration: self.snapshot.configuration.clone(),
            later_configurations: configurations
                .filter_map(|entry| {
                    Some((
                        entry.id.index,
                        Configuration::clone(entry.configuration.as_deref()?),
                    ))
                })
                .collect(),
            term_runs,
            last: self.last(),
            applied: self.snapshot.last.index,
        }
    }

    pub(crate) fn read(&self, fetch: Fetch) -> Vec<Entry> {
        let mut size_bytes = 0;
        let wanted = self
            .entries
            .iter()
            .filter(|entry| (fetch.from..=fetch.to).contains(&entry.id.index));
        wanted
            .take_while(|entry| {
                let is_first = size_bytes == 0;
                size_bytes += entry.size_bytes();
                is_first || size_bytes <= fetch.max_bytes
            })
            .cloned()
            .collect()
    }
}

/// One core with its disk.
pub(crate) struct Node {
    pub(crate) raft: Raft,
    pub(crate) disk: Durable,
    pub(crate) queued: VecDeque<Write>,
    /// Installs that are not durable; each goes before the writes with a higher number.
    pub(crate) installs: VecDeque<(Install, Snapshot)>,
    /// A snapshot that was received, for the install that the core asks for.
    pub(crate) received: Option<Snapshot>,
    pub(crate) wanted: Vec<SendSnapshot>,
    /// The configurations that the core asked for, to leave a joint one.
    pub(crate) leaves: Vec<Configuration>,
    /// They are not proposed.
    pub(crate) ignores_leaves: bool,
    pub(crate) applied: Vec<Entry>,
    pub(crate) reads: Vec<ReadOutcome>,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) transitions: Vec<Transition>,
}

impl Node {
    pub(crate) fn start(node: u64, config: &Config, disk: Durable, seed: u64, now: Time) -> Node {
        let raft = Raft::new(NodeId(node), config.clone(), disk.restored(), seed, now)
            .expect("the harness keeps disks in order");
        let applied = disk.snapshot.applied.clone();
        Node {
            raft,
            disk,
            queued: VecDeque::new(),
            installs: VecDeque::new(),
            received: None,
            wanted: Vec::new(),
            leaves: Vec::new(),
            ignores_leaves: false,
            applied,
            reads: Vec::new(),
            fetches: Vec::new(),
            transitions: Vec::new(),
        }
    }

    /// Takes everything out; messages are given back, writes are queued, entries applied at once.
    pub(crate) fn drain(&mut self, now: Time) -> Vec<Envelope> {
        let mut messages = Vec::new();
        loop {
            let ready: Ready = self.raft.take_ready(now);
            if ready.is_empty() {
                return messages;
            }
            if let Some(install) = ready.install {
                let snapshot = self.received.take().expect("what is installed was received");
                self.installs.push_back((install, snapshot));
            }
            self.queued.extend(ready.write);
            self.wanted.extend(ready.snapshots);
            if let Some(configuration) = ready.leave_joint {
                self.leaves.push(configuration.clone());
                if !self.ignores_leaves {
                    let change = change(configuration, ChangeChecks::SafetyAlone);
                    self.raft
                        .propose_change(now, change)
                        .expect("what the core asks for it takes");
                }
            }
            messages.extend(ready.messages);
            self.reads.extend(ready.reads);
            self.fetches.extend(ready.fetches);
            self.transitions.extend(ready.transitions);
            if let Some(last) = ready.committed.last().map(|entry| entry.id.index) {
                self.applied.extend(ready.committed);
                self.raft.applied(last);
            }
        }
    }

    /// Finishes the oldest queued step. Was there one?
    pub(crate) fn persist_one(&mut self, now: Time) -> bool {
        let next_write = self.queued.front().map(|write| write.number);
        let is_install =
            |(install, _): &mut (Install, Snapshot)| next_write.is_none_or(|next| install.number < next);
        if let Some((install, snapshot)) = self.installs.pop_front_if(is_install) {
            self.applied = snapshot.applied.clone();
            self.disk.install(&install, snapshot);
            self.raft.persisted(now, install.number);
            return true;
        }
        let Some(write) = self.queued.pop_front() else {
            return false;
        };
        let number = write.number;
        self.disk.write(write);
        self.raft.persisted(now, number);
        true
    }

    /// Answers the oldest fetch. Was there one?
    pub(crate) fn fetch_one(&mut self, now: Time) -> bool {
        if self.fetches.is_empty() {
            return false;
        }
        let fetch = self.fetches.remove(0);
        let entries = self.disk.read(fetch);
        match entries.first() {
            Some(first) if first.id.index == fetch.from => self.raft.fetched(now, fetch, entries),
            _ => self.raft.fetch_gone(fetch),
        }
        true
    }

    /// Takes a snapshot of everything applied, and cuts the log so that it keeps `keep` entries of that.
    pub(crate) fn compact(&mut self, keep: u64) {
        let Some(base) = self.applied.len().checked_sub(keep.try_into().expect("small")) else {
            return;
        };
        let Some(last) = base.checked_sub(1).map(|place| self.applied[place].id) else {
            return;
        };
        let is_news = last.index > self.disk.snapshot.last.index;
        // An install that is under way will replace this disk's log anyway.
        if is_news && self.installs.is_empty() && last.index <= self.raft.persisted_index() {
            self.disk.compact(last, self.applied[..base].to_vec());
            self.raft.compacted(last);
        }
    }

    /// The newest snapshot this node could send: all that it has applied.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut disk = self.disk.clone();
        if let Some(last) = self.applied.last()
            && last.id.index > disk.snapshot.last.index
        {
            disk.compact(last.id, self.applied.clone());
        }
        disk.snapshot
    }

    /// A whole snapshot arrives.
    pub(crate) fn receive(&mut self, now: Time, offer: SnapshotOffer, snapshot: Snapshot) -> SnapshotVerdict {
        let verdict = self.raft.install(now, offer, snapshot.configuration.clone());
        if verdict == SnapshotVerdict::Accepted {
            self.received = Some(snapshot);
        }
        verdict
    }
}

/// A snapshot on its way.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) asked: SendSnapshot,
    pub(crate) offer: SnapshotOffer,
    pub(crate) snapshot: Snapshot,
}

impl Transfer {
    fn link(&self) -> (u64, u64) {
        (self.offer.from.0, self.asked.to.0)
    }
}

/// Nodes, the messages between them, and the clock.
pub(crate) struct Group {
    pub(crate) config: Config,
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) network: VecDeque<Envelope>,
    /// Snapshots under way, which travel beside the messages.
    pub(crate) transfers: VecDeque<Transfer>,
    /// Snapshots that were taken, until they are durable and reported.
    pub(crate) reports: VecDeque<Transfer>,
    /// How many snapshots were taken by their receivers.
    pub(crate) installed: usize,
    /// Nobody proposes to leave a joint configuration.
    pub(crate) keeps_joint: bool,
    /// No snapshot arrives while the rest settles.
    pub(crate) holds_transfers: bool,
    /// Links (from, to) that lose everything.
    pub(crate) cut: Vec<(u64, u64)>,
    /// Nodes whose disks do not finish writes.
    pub(crate) stalled: Vec<u64>,
    /// Nodes whose timers do not fire.
    pub(crate) late: Vec<u64>,
    seeds: u64,
    next_read: u64,
}

impl Group {
    pub(crate) fn new(count: u64) -> Group {
        Group::with(
            Config::default(),
            (1..=count).map(|node| (node, Durable::founded(voters(count)))),
        )
    }

    pub(crate) fn with(config: Config, disks: impl IntoIterator<Item = (u64, Durable)>) -> Group {
        let now = Time(1_000_000);
        let mut group = Group {
            config,
            now,
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            transfers: VecDeque::new(),
            reports: VecDeque::new(),
            installed: 0,
            keeps_joint: false,
            holds_transfers: false,
            cut: Vec::new(),
            stalled: Vec::new(),
            late: Vec::new(),
            seeds: 1,
            next_read: 0,
        };
        for (node, disk) in disks {
            group.start(node, disk);
        }
        group
    }

    pub(crate) fn start(&mut self, node: u64, disk: Durable) {
        self.seeds += 1;
        let mut started = Node::start(node, &self.config, disk, self.seeds * 1000 + node, self.now);
        started.ignores_leaves = self.keeps_joint;
        self.nodes.insert(node, started);
    }

    /// Crashes a node and starts it again from what its disk holds.
    pub(crate) fn restart(&mut self, node: u64) {
        let disk = self.nodes[&node].disk.clone();
        self.start(node, disk);
        // Its connections break: whoever sends it a snapshot notices.
        let reports = std::mem::take(&mut self.reports);
        let (broken, rest): (VecDeque<_>, _) = reports
            .into_iter()
            .partition(|transfer| transfer.asked.to == NodeId(node));
        self.reports = rest;
        broken.iter().for_each(|transfer| self.fail(transfer));
    }

    pub(crate) fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).expect("a node of the group")
    }

    pub(crate) fn raft(&mut self, node: u64) -> &mut Raft {
        &mut self.node(node).raft
    }

    /// Cuts both directions between every pair of the two sides.
    pub(crate) fn partition(&mut self, left: &[u64], right: &[u64]) {
        for from in left {
            for to in right {
                self.cut.push((*from, *to));
                self.cut.push((*to, *from));
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Takes out of every node what it wants; messages over cut links are lost.
    pub(crate) fn drain(&mut self) {
        for node in self.nodes.values_mut() {
            self.network.extend(node.drain(self.now));
            for asked in std::mem::take(&mut node.wanted) {
                let snapshot = node.snapshot();
                let offer = SnapshotOffer {
                    from: node.raft.id(),
                    term: asked.term,
                    session: asked.session,
                    last: snapshot.last,
                };
                self.transfers.push_back(Transfer {
                    asked,
                    offer,
                    snapshot,
                });
            }
        }
        let cut = std::mem::take(&mut self.cut);
        self.network
            .retain(|sent| !cut.contains(&(sent.from.0, sent.to.0)));
        self.cut = cut;
    }

    /// Delivers the oldest message. Was there one?
    pub(crate) fn deliver_one(&mut self) -> bool {
        let Some(envelope) = self.network.pop_front() else {
            return false;
        };
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&envelope.to.0) {
            node.raft.step(now, envelope);
        }
        true
    }

    /// The oldest snapshot arrives, or fails on a cut link. Was there one?
    pub(crate) fn transfer_one(&mut self) -> bool {
        let Some(transfer) = self.transfers.pop_front() else {
            return false;
        };
        let (from, to) = transfer.link();
        if self.cut.contains(&(from, to)) || !self.nodes.contains_key(&to) {
            self.fail(&transfer);
            return true;
        }
        let now = self.now;
        let verdict = self
            .node(to)
            .receive(now, transfer.offer, transfer.snapshot.clone());
        self.installed += usize::from(verdict == SnapshotVerdict::Accepted);
        match verdict {
            SnapshotVerdict::Accepted | SnapshotVerdict::Held => self.reports.push_back(transfer),
            SnapshotVerdict::Refused => self.fail(&transfer),
        }
        true
    }

    pub(crate) fn fail(&mut self, transfer: &Transfer) {
        let now = self.now;
        if let Some(sender) = self.nodes.get_mut(&transfer.offer.from.0) {
            sender.raft.snapshot_failed(now, transfer.asked);
        }
    }

    /// Tells a sender that its snapshot is durable at the receiver. Was there one to tell?
    pub(crate) fn report_one(&mut self) -> bool {
        let is_durable = |transfer: &Transfer| {
            let receiver = self.nodes.get(&transfer.asked.to.0);
            receiver.is_none_or(|node| node.disk.last().index >= transfer.offer.last.index)
        };
        let Some(place) = self.reports.iter().position(is_durable) else {
            return false;
        };
        let transfer = self.reports.remove(place).expect("found just now");
        let (now, last) = (self.now, transfer.offer.last);
        if let Some(sender) = self.nodes.get_mut(&transfer.offer.from.0) {
            sender.raft.snapshot_sent(now, transfer.asked, last);
        }
        true
    }

    /// Finishes what disks have to do, or delivers one message. Was there anything?
    pub(crate) fn move_once(&mut self) -> bool {
        let mut moved = false;
        for (name, node) in &mut self.nodes {
            if !self.stalled.contains(name) {
                while node.persist_one(self.now) {
                    moved = true;
                }
            }
            moved |= node.fetch_one(self.now);
        }
        if !self.holds_transfers {
            moved |= self.transfer_one() | self.report_one();
        }
        moved || self.deliver_one()
    }

    /// The next time at which some node wants to be woken.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.nodes.values().map(|node| node.raft.next_deadline()).min()
    }

    /// Messages, disks and fetches, until nothing moves; no time passes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.drain();
            if !self.move_once() {
                return;
            }
        }
        panic!(
            "the group does not settle: {:?}",
            self.network.iter().take(8).collect::<Vec<_>>()
        );
    }

    /// Time passes, event by event.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        self.settle();
        loop {
            let deadline = self.nodes.values().map(|node| node.raft.next_deadline()).min();
            match deadline {
                Some(deadline) if deadline <= end => self.now = self.now.max(deadline),
                _ => break,
            }
            self.tick_due();
            self.settle();
        }
        self.now = end;
    }

    pub(crate) fn tick_due(&mut self) {
        let now = self.now;
        for (name, node) in &mut self.nodes {
            if !self.late.contains(name) && node.raft.next_deadline() <= now {
                node.raft.tick(now);
            }
        }
    }

    /// Lets `node` campaign as if its time had come, and the group settle.
    pub(crate) fn campaign(&mut self, node: u64) {
        self.time_out(node);
        self.settle();
    }

    /// Lets only `node` time out: every follower forgets how lately it heard its leader.
    pub(crate) fn time_out(&mut self, node: u64) {
        self.now = self.now.after(self.config.election_timeout);
        let deadline = self.nodes[&node].raft.next_deadline();
        self.now = self.now.max(deadline);
        let now = self.now;
        self.raft(node).tick(now);
    }

    pub(crate) fn propose(&mut self, node: u64, payload: &str) -> EntryId {
        let now = self.now;
        self.raft(node)
            .propose(now, vec![command(payload)])
            .expect("the test asks a leader")
    }

    /// Asks `node` to change the group to these.
    pub(crate) fn change(
        &mut self,
        node: u64,
        voters: &[u64],
        learners: &[u64],
        checks: ChangeChecks,
    ) -> Result<EntryId, ChangeError> {
        let now = self.now;
        let raft = self.raft(node);
        let configuration = raft.configuration().towards(nodes(voters), nodes(learners));
        raft.propose_change(now, change(configuration, checks))
    }

    pub(crate) fn read(&mut self, node: u64) -> ReadId {
        self.next_read += 1;
        let read = ReadId(self.next_read);
        let now = self.now;
        self.raft(node)
            .read(now, read)
            .expect("the test asks where a leader is known");
        read
    }

    pub(crate) fn leaders(&self) -> Vec<u64> {
        let nodes = self.nodes.iter();
        nodes
            .filter(|(_, node)| node.raft.role() == raftkv_raft::RoleName::Leader)
            .map(|(name, _)| *name)
            .collect()
    }

    /// The one leader that every node follows.
    pub(crate) fn leader(&self) -> Option<u64> {
        match self.leaders()[..] {
            [leader] => Some(leader),
            _ => None,
        }
    }

    pub(crate) fn payloads(&self, node: u64) -> Vec<String> {
        let applied = self.nodes[&node].applied.iter();
        applied
            .filter(|entry| entry.kind == EntryKind::Command)
            .map(|entry| String::from_utf8_lossy(&entry.payload).into_owned())
            .collect()
    }
}
