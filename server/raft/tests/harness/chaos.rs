//! One random run of a whole group: loss, duplication, reordering, slow disks, crashes that keep only what is durable,
//! compaction and snapshots, changes of membership, transfers of leadership, leases. An [`Observer`] checks each event.

use std::collections::BTreeSet;

use super::observer::Observer;
use super::{Durable, Group, command, voters};
use raftkv_raft::{ChangeChecks, Config, LeaderLease, LeaderLeases, NodeId, ReadId, SnapshotVerdict};

struct Faults {
    loss: f64,
    duplication: f64,
    reordering: f64,
    crash: f64,
    reset: f64,
    cut: f64,
    /// A node's timers are late: its event loop stands still while its connections go on.
    late: f64,
    snapshot_lost: f64,
}

/// How often operators do something, if at all.
struct Operations {
    compact: f64,
    change: f64,
    transfer: f64,
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

/// Nodes beside the founding ones, which may become members.
const SPARES: u64 = 2;

/// One run. Each kind of fault exists in some runs only: all at once would hide what one alone brings out.
pub(crate) struct Run {
    group: Group,
    observer: Observer,
    rng: fastrand::Rng,
    faults: Faults,
    operations: Operations,
    /// All nodes, members or not.
    pool: u64,
    proposed: u64,
    /// Lease reads under way, by node.
    leases: Vec<(u64, LeaderLease)>,
    /// How much time may pass between two events: a slow network and disk, in effect.
    pace_ms: u64,
}

impl Run {
    fn new(seed: u64, count: u64) -> Run {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut config = if rng.bool() {
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
            snapshot_lost: rate(0.5),
        };
        let operations = Operations {
            // S11: in some runs after every entry.
            compact: if seed % 8 == 3 { 1.0 } else { rate(0.05) },
            change: rate(if seed % 8 == 5 { 0.2 } else { 0.02 }),
            transfer: rate(0.01),
        };
        let pace_ms = rng.u64(4..80);
        if rng.bool() {
            config.leader_leases = LeaderLeases::On {
                max_clock_drift_ppm: 500,
            };
        }
        let pool = if operations.change > 0.0 {
            count + SPARES
        } else {
            count
        };
        Run {
            group: Group::with(
                config,
                (1..=pool).map(|node| (node, Durable::founded(voters(count)))),
            ),
            observer: Observer::of(voters(count)),
            rng,
            faults,
            operations,
            pool,
            proposed: 0,
            leases: Vec::new(),
            pace_ms,
        }
    }

    fn any_node(&mut self) -> u64 {
        self.rng.u64(1..=self.pool)
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
            75..82 => self.propose(),
            82..87 => self.read(),
            87..90 => self.transfer_snapshot(),
            _ => {
                self.group.now = self
                    .group
                    .now
                    .after(std::time::Duration::from_millis(self.rng.u64(0..self.pace_ms)));
                self.group.tick_due();
            }
        }
        self.disturb();
        self.operate();
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
        self.proposed += 1;
        let read = ReadId(self.proposed);
        if self.group.raft(node).read(now, read).is_ok() {
            self.observer.asks(node, read);
        }
        if let Some(lease) = self.group.raft(node).lease(now) {
            self.observer.read_by_lease(lease.index);
            self.leases.push((node, lease));
        }
        // Reads that began earlier end now.
        for (node, lease) in std::mem::take(&mut self.leases) {
            if self.rng.bool() {
                self.leases.push((node, lease));
            } else if self.group.raft(node).still_holds(now, lease) {
                self.observer.leads_alone(lease.term);
            }
        }
    }

    /// A snapshot is announced, arrives, arrives once more, or is lost; or a sender learns that it is durable.
    fn transfer_snapshot(&mut self) {
        if self.rng.bool() && self.group.report_one() {
            return;
        }
        let Some(transfer) = self.group.transfers.front().cloned() else {
            return;
        };
        let now = self.group.now;
        if self.rng.f64() < self.faults.snapshot_lost {
            self.group.transfers.pop_front();
            self.group.fail(&transfer);
        } else if self.rng.bool() {
            let receiver = &mut self.group.node(transfer.asked.to.0).raft;
            if receiver.snapshot_part(now, transfer.offer) != SnapshotVerdict::Accepted {
                self.group.transfers.pop_front();
                self.group.fail(&transfer);
            }
        } else {
            if self.rng.f64() < self.faults.duplication {
                let late = self.rng.usize(..self.group.transfers.len());
                self.group.transfers.insert(late, transfer);
            }
            self.group.transfer_one();
        }
    }

    /// What operators and the node's own housekeeping do.
    fn operate(&mut self) {
        let (node, now) = (self.any_node(), self.group.now);
        if self.rng.f64() < self.operations.compact {
            let keep = self.rng.u64(0..6);
            self.group.node(node).compact(keep);
        }
        if self.rng.f64() < self.operations.transfer {
            for leader in self.group.leaders() {
                // Refusals are part of it.
                let _ = self.group.raft(leader).transfer(now, NodeId(node));
            }
        }
        if self.rng.f64() < self.operations.change {
            // What was committed until now is judged by the configuration until now.
            self.collect();
            self.observer.check(&mut self.group);
            self.change();
        }
    }

    /// One node's place changes, or every node's.
    fn change(&mut self) {
        let asked = self.any_node();
        for leader in self.group.leaders().into_iter().chain([asked]) {
            let latest = self.group.nodes[&leader].raft.configuration().clone();
            let (mut voters, mut learners) = (latest.voters, latest.learners);
            let moved: Vec<u64> = match self.rng.u8(0..4) {
                0 => (1..=self.pool).collect(),
                // One comes and goes often, so that answers of its former stays are still under way.
                1 | 2 => vec![self.pool],
                _ => vec![self.any_node()],
            };
            for node in moved.into_iter().map(NodeId) {
                voters.remove(&node);
                learners.remove(&node);
                match self.rng.u8(0..4) {
                    0 => {}
                    1 => {
                        learners.insert(node);
                    }
                    _ => {
                        voters.insert(node);
                    }
                }
            }
            let checks = if self.rng.bool() {
                ChangeChecks::All
            } else {
                ChangeChecks::SafetyAlone
            };
            let numbers = |half: BTreeSet<NodeId>| half.into_iter().map(|node| node.0).collect::<Vec<_>>();
            let _ = self
                .group
                .change(leader, &numbers(voters), &numbers(learners), checks);
        }
    }

    fn disturb(&mut self) {
        let (node, peer, now) = (self.any_node(), self.any_node(), self.group.now);
        if self.rng.f64() < self.faults.crash {
            self.group.restart(node);
            self.observer.crashed(node);
            self.leases.retain(|(reader, _)| *reader != node);
        }
        if self.rng.f64() < self.faults.reset {
            self.group.raft(node).peer_reset(now, NodeId(peer));
        }
        if self.rng.f64() < self.faults.reset {
            self.group.raft(node).clock_jumped();
        }
        if self.rng.f64() < self.faults.late {
            match self.rng.bool() {
                true => self.group.late.clear(),
                false => self.group.late.push(node),
            }
        }
        if self.rng.f64() < self.faults.cut {
            let others: Vec<u64> = (1..=self.pool).filter(|other| *other != node).collect();
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
        let configuration = self.group.nodes[&leader].raft.committed_configuration().clone();
        assert_eq!(configuration.outgoing, None, "the last change was completed");
        for member in configuration.members() {
            let node = &self.group.nodes[&member.0];
            assert!(
                node.raft.commit() >= last.index,
                "node {member} does not catch up: {}, the leader knows {:?}",
                node.raft.commit(),
                self.group.nodes[&leader].raft.progress(member)
            );
            assert_eq!(
                node.applied.last().map(|entry| entry.id.index),
                Some(node.raft.commit()),
                "node {member}"
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
    pub(crate) lease_reads: usize,
    pub(crate) changes: usize,
    /// Nodes that restarted their state from a snapshot of another.
    pub(crate) snapshots: usize,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, count: u64) -> Totals {
    let mut run = Run::new(seed, count);
    for _ in 0..3000 {
        run.step();
    }
    run.heal_and_converge();
    Totals {
        elections: run.observer.elections(),
        applied: run.observer.applied.len(),
        confirmed_reads: run.observer.confirmed,
        lease_reads: run.observer.lease_reads,
        changes: run.observer.changes,
        snapshots: run.group.installed,
    }
}
