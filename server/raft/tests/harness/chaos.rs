//! One random run of a whole group: loss, duplication, reordering, slow disks, crashes that keep only what is durable.
//! After every event the invariants of the paper's figure 3 are checked by an observer that shares no code with the core.

use std::collections::BTreeMap;

use super::{Durable, Group, command, voters};
use raftkv_raft::{
    Config, Entry, EntryId, Envelope, Index, Message, NodeId, ReadOutcome, RoleName, Term, Verdict,
};

/// Sees everything, and remembers it over crashes.
#[derive(Default)]
pub(crate) struct Observer {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Everything applied anywhere.
    applied: BTreeMap<Index, Entry>,
    /// How far each node's list of applied entries was looked at, in this life.
    seen: BTreeMap<u64, usize>,
    leader_log: BTreeMap<(NodeId, Term), EntryId>,
    reads: BTreeMap<(u64, raftkv_raft::ReadId), Index>,
    confirmed: usize,
    elections: usize,
}

impl Observer {
    fn check(&mut self, group: &mut Group) {
        let names: Vec<u64> = group.nodes.keys().copied().collect();
        for name in names {
            self.check_leader(group, name);
            self.check_applied(group, name);
            self.check_reads(group, name);
            let raft = &group.nodes[&name].raft;
            assert!(raft.commit() <= raft.last().index, "I9: commit is within the log");
        }
        self.check_log_matching(group);
    }

    /// I1, I3, I6.
    fn check_leader(&mut self, group: &Group, name: u64) {
        let node = &group.nodes[&name];
        let raft = &node.raft;
        if raft.role() != RoleName::Leader {
            return;
        }
        let known = *self.leaders.entry(raft.term()).or_insert_with(|| {
            self.elections += 1;
            raft.id()
        });
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
            let own = full_log(group, name)
                .into_iter()
                .find(|id| id.index == entry.id.index);
            assert_eq!(own, Some(entry.id), "I6: leader {name} of term {}", raft.term());
        }
    }

    /// I7.
    fn check_applied(&mut self, group: &Group, name: u64) {
        let node = &group.nodes[&name];
        let seen = self.seen.entry(name).or_default();
        if *seen > node.applied.len() {
            *seen = 0;
        }
        for entry in &node.applied[*seen..] {
            let known = self
                .applied
                .entry(entry.id.index)
                .or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "I7: node {name} applies another entry");
        }
        *seen = node.applied.len();
        for (position, entry) in node.applied.iter().enumerate() {
            assert_eq!(
                entry.id.index.get(),
                position as u64 + 2,
                "applied in order, each once"
            );
        }
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

    /// I4: equal ids mean equal prefixes.
    fn check_log_matching(&self, group: &Group) {
        let logs: Vec<Vec<EntryId>> = group.nodes.keys().map(|name| full_log(group, *name)).collect();
        for left in &logs {
            assert!(
                left.windows(2).all(|pair| pair[0].term <= pair[1].term),
                "I5: terms never fall"
            );
            for right in &logs {
                let common = left.iter().zip(right).rposition(|(left, right)| left == right);
                let prefix = common.map_or(0, |last| last + 1);
                assert_eq!(left[..prefix], right[..prefix], "I4: log matching");
            }
        }
    }

    /// I2, and I11: a vote that is seen is on the disk, and so is an acknowledged entry.
    fn saw(&mut self, group: &Group, envelope: &Envelope) {
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

/// The log as it will be once all queued writes are done.
fn full_log(group: &Group, name: u64) -> Vec<EntryId> {
    let node = &group.nodes[&name];
    let mut log: Vec<EntryId> = node.disk.entries.iter().map(|entry| entry.id).collect();
    for write in &node.queued {
        if let Some(from) = write.truncate_from {
            log.retain(|id| id.index < from);
        }
        log.extend(write.entries.iter().map(|entry| entry.id));
    }
    log
}

struct Faults {
    loss: f64,
    duplication: f64,
    reordering: f64,
    crash: f64,
    reset: f64,
    cut: f64,
    /// A node's timers are late: its event loop stands still while its connections go on.
    late: f64,
}

fn small_config(rng: &mut fastrand::Rng) -> Config {
    Config {
        max_append_entries: rng.usize(1..5),
        max_append_bytes: rng.usize(1..400),
        max_inflight_appends: rng.usize(1..4),
        max_inflight_bytes: rng.usize(1..600),
        max_uncommitted_bytes: rng.usize(1..4000),
        tail_bytes: rng.usize(1..300),
        max_apply_bytes: rng.usize(1..300),
        ..Config::default()
    }
}

/// One run. Each kind of fault exists in some runs only: all at once would hide what one alone brings out.
pub(crate) struct Run {
    group: Group,
    observer: Observer,
    rng: fastrand::Rng,
    faults: Faults,
    count: u64,
    proposed: u64,
    /// How much time may pass between two events: a slow network and disk, in effect.
    pace_ms: u64,
}

impl Run {
    fn new(seed: u64, count: u64) -> Run {
        let mut rng = fastrand::Rng::with_seed(seed);
        let config = if rng.bool() {
            small_config(&mut rng)
        } else {
            Config::default()
        };
        let mut rate = |most: f64| if rng.bool() { 0.0 } else { rng.f64() * most };
        let faults = Faults {
            loss: rate(0.2),
            duplication: rate(0.2),
            reordering: rate(0.5),
            crash: rate(0.003),
            reset: rate(0.01),
            cut: rate(0.005),
            late: rate(0.005),
        };
        let pace_ms = rng.u64(4..80);
        Run {
            group: Group::with(
                config,
                (1..=count).map(|node| (node, Durable::founded(voters(count)))),
            ),
            observer: Observer::default(),
            rng,
            faults,
            count,
            proposed: 0,
            pace_ms,
        }
    }

    fn any_node(&mut self) -> u64 {
        self.rng.u64(1..=self.count)
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..45 => self.deliver(),
            45..65 => {
                let (node, now) = (self.any_node(), self.group.now);
                self.group.node(node).persist_one(now);
            }
            65..75 => {
                let (node, now) = (self.any_node(), self.group.now);
                self.group.node(node).fetch_one(now);
            }
            75..83 => self.propose(),
            83..88 => self.read(),
            _ => {
                self.group.now = self
                    .group
                    .now
                    .after(std::time::Duration::from_millis(self.rng.u64(0..self.pace_ms)));
                self.group.tick_due();
            }
        }
        self.disturb();
        self.collect();
        self.observer.check(&mut self.group);
    }

    /// Takes out what the nodes want to send, and lets the observer see it before anything else happens.
    fn collect(&mut self) {
        let already = self.group.network.len();
        let cut = std::mem::take(&mut self.group.cut);
        self.group.drain();
        for envelope in self.group.network.iter().skip(already) {
            self.observer.saw(&self.group, envelope);
        }
        self.group
            .network
            .retain(|sent| !cut.contains(&(sent.from.0, sent.to.0)));
        self.group.cut = cut;
    }

    fn deliver(&mut self) {
        for _ in 0..self.rng.u32(1..6) {
            if self.group.network.is_empty() {
                return;
            }
            if self.rng.f64() < self.faults.reordering {
                let (from, to) = (
                    self.rng.usize(..self.group.network.len()),
                    self.rng.usize(..self.group.network.len()),
                );
                self.group.network.swap(from, to);
            }
            if self.rng.f64() < self.faults.loss {
                self.group.network.pop_front();
                continue;
            }
            if self.rng.f64() < self.faults.duplication {
                let again = self.group.network[0].clone();
                self.group.network.push_back(again);
            }
            self.group.deliver_one();
        }
    }

    fn propose(&mut self) {
        let now = self.group.now;
        // Who does not lead is asked too, and must refuse.
        let anyone = self.any_node();
        for leader in self.group.leaders().into_iter().chain([anyone]) {
            let batch = (0..self.rng.u64(1..4))
                .map(|_| {
                    self.proposed += 1;
                    command(&format!("{}", self.proposed))
                })
                .collect();
            // So are refusals for too much uncommitted.
            let _ = self.group.raft(leader).propose(now, batch);
        }
    }

    fn read(&mut self) {
        let (node, now) = (self.any_node(), self.group.now);
        let applied = self
            .observer
            .applied
            .keys()
            .next_back()
            .copied()
            .unwrap_or(Index::FIRST);
        self.proposed += 1;
        let read = raftkv_raft::ReadId(self.proposed);
        if self.group.raft(node).read(now, read).is_ok() {
            self.observer.reads.insert((node, read), applied);
        }
    }

    fn disturb(&mut self) {
        let (node, peer, now) = (self.any_node(), self.any_node(), self.group.now);
        if self.rng.f64() < self.faults.crash {
            self.group.restart(node);
            self.observer.seen.remove(&node);
        }
        if self.rng.f64() < self.faults.reset {
            self.group.raft(node).peer_reset(now, NodeId(peer));
        }
        if self.rng.f64() < self.faults.late {
            match self.rng.bool() {
                true => self.group.late.clear(),
                false => self.group.late.push(node),
            }
        }
        if self.rng.f64() < self.faults.cut {
            let others: Vec<u64> = (1..=self.count).filter(|other| *other != node).collect();
            match self.rng.u8(..4) {
                0 | 1 => self.group.heal(),
                2 => self.group.cut.push((node, peer)),
                _ => self.group.partition(&[node], &others),
            }
        }
    }

    /// I20: once all faults end, a leader emerges, and everyone gets everything.
    fn heal_and_converge(&mut self) {
        self.group.heal();
        self.group.late.clear();
        for _ in 0..20 {
            self.group.run(self.group.config.election_timeout * 2);
        }
        let leader = self.group.leader().expect("a leader emerges once all faults end");
        let last = self.group.propose(leader, "after all");
        self.group.run(self.group.config.election_timeout);
        self.observer.check(&mut self.group);
        for (name, node) in &self.group.nodes {
            assert!(
                node.raft.commit() >= last.index,
                "node {name} does not catch up: {}",
                node.raft.commit()
            );
            assert_eq!(
                node.applied.last().map(|entry| entry.id.index),
                Some(node.raft.commit()),
                "node {name}"
            );
        }
    }
}

/// What happened in a run, so that a set of runs can prove it was not idle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) elections: usize,
    pub(crate) applied: usize,
    pub(crate) confirmed_reads: usize,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, count: u64) -> Totals {
    let mut run = Run::new(seed, count);
    for _ in 0..3000 {
        run.step();
    }
    run.heal_and_converge();
    Totals {
        elections: run.observer.elections,
        applied: run.observer.applied.len(),
        confirmed_reads: run.observer.confirmed,
    }
}
