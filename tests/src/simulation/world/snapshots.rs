//! Snapshots on the disk of a machine: read in parts for others, taken in, and put in the place of state and log.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_raft::simulation::mutant;
use raftkv_raft::{EntryId, Install, NodeId};
use raftkv_server::disk::{SimulatedDisk, SimulatedFile};
use raftkv_server::replica::{Effect, Event, PartTaken, ReceivedState, SnapshotNumber};
use raftkv_server::store::base::{TwinBase, TwinView};
use raftkv_server::store::snapshot::{Position, Received, Receiver, Source, Taken, remove_history_of};
use raftkv_server::store::{PageReader, StoreError, StoreNumber, make_current};

use super::watch_threads::Order;
use super::{ProcessId, World};
use crate::simulation::mutants::LOG_BEGUN_BEFORE_THE_SWITCH;
use crate::simulation::random::exponential;
use crate::simulation::trace::Traced;

/// What a process holds of snapshots.
#[derive(Default)]
pub(super) struct Snapshots {
    /// Those that it sends.
    sources: BTreeMap<SnapshotNumber, Source<TwinView, SimulatedFile>>,
    /// The one that comes in.
    incoming: Option<Incoming>,
    received: Option<Box<Received<TwinBase, SimulatedDisk>>>,
    /// The highest store number that one came into.
    newest: u64,
}

struct Incoming {
    from: NodeId,
    snapshot: SnapshotNumber,
    receiver: Receiver<TwinBase, SimulatedDisk>,
}

/// A step of the disk.
#[derive(Debug)]
pub(super) enum SnapshotStep {
    Open(SnapshotNumber),
    Read(SnapshotNumber, Bytes),
    Take {
        from: NodeId,
        snapshot: SnapshotNumber,
        last: EntryId,
        part: Bytes,
    },
    Install,
}

impl SnapshotStep {
    /// For the trace's hash.
    fn words(&self) -> [u64; 2] {
        match self {
            SnapshotStep::Open(snapshot) => [101, snapshot.0],
            SnapshotStep::Read(snapshot, position) => [102, snapshot.0 ^ position.len() as u64],
            SnapshotStep::Take { snapshot, part, .. } => [103, snapshot.0 ^ part.len() as u64],
            SnapshotStep::Install => [104, 0],
        }
    }
}

impl World {
    /// Parts are small, so that a snapshot is several, and large enough that it comes within the time that a healed cluster
    /// has to come to rest.
    fn part_bytes(&self) -> usize {
        (self.scenario.plan.disk.segment_size_bytes * 4) as usize
    }

    pub(super) fn carry_out_for_snapshot(&mut self, id: ProcessId, effect: Effect) {
        let step = match effect {
            Effect::OpenSnapshot(snapshot) => SnapshotStep::Open(snapshot),
            Effect::ReadPart { snapshot, position } => SnapshotStep::Read(snapshot, position),
            Effect::TakePart {
                from,
                snapshot,
                last,
                part,
            } => SnapshotStep::Take {
                from,
                snapshot,
                last,
                part,
            },
            Effect::CloseSnapshot(snapshot) => {
                if let Some(process) = self.machines[id.slot].process_of(id.life) {
                    process.snapshots.sources.remove(&snapshot);
                }
                return;
            }
            Effect::AbandonSnapshot => {
                if let Some(process) = self.machines[id.slot].process_of(id.life) {
                    (process.snapshots.incoming, process.snapshots.received) = (None, None);
                }
                return;
            }
            Effect::Install { install, store } => return self.begin_install(id, install, store),
            other => unreachable!("not about snapshots: {other:?}"),
        };
        self.arrange_snapshot_step(id, step);
    }

    fn arrange_snapshot_step(&mut self, id: ProcessId, step: SnapshotStep) {
        // Parts come from the page cache, and go there.
        let mean_us = match step {
            SnapshotStep::Open(_) | SnapshotStep::Install => self.scenario.plan.store.seal_us,
            SnapshotStep::Read(..) | SnapshotStep::Take { .. } => self.scenario.plan.store.seal_us / 10,
        };
        let machine = &mut self.machines[id.slot];
        let takes = 20 + exponential(&mut machine.store_rng, mean_us);
        let at = self.now.max(machine.stalled_until) + takes;
        self.queue
            .push(at, super::Happening::Snapshot(id, Box::new(step)));
    }

    pub(super) fn snapshot_step(&mut self, id: ProcessId, step: SnapshotStep) {
        if self.machines[id.slot].process_of(id.life).is_none() {
            return;
        }
        let words = step.words();
        self.trace
            .note(self.now, Some(id.slot), Traced::Store, words, || {
                format!("{step:?}").chars().take(200).collect()
            });
        if self.is_killed_here(id) {
            return;
        }
        match step {
            SnapshotStep::Open(snapshot) => self.open_snapshot(id, snapshot),
            SnapshotStep::Read(snapshot, position) => self.read_part(id, snapshot, &position),
            SnapshotStep::Take {
                from,
                snapshot,
                last,
                part,
            } => {
                let taken = self.take_part(id, (from, snapshot), last, part);
                if let Some(taken) = self.survives(id, taken) {
                    self.handle(
                        id,
                        Event::PartTaken {
                            from,
                            snapshot,
                            taken,
                        },
                    );
                }
            }
            SnapshotStep::Install => self.install_next(id),
        }
    }

    fn open_snapshot(&mut self, id: ProcessId, snapshot: SnapshotNumber) {
        let part_bytes = self.part_bytes();
        let base = self.machines[id.slot].base.clone();
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let opened = Source::open(&base, &process.history);
        let Some(source) = self.survives(id, opened) else {
            return;
        };
        let source = source.map(|source| source.with_parts_of(part_bytes));
        let last = source.as_ref().map(Source::last);
        if let Some(process) = self.machines[id.slot].process_of(id.life) {
            process
                .snapshots
                .sources
                .extend(source.map(|source| (snapshot, source)));
        }
        self.handle(id, Event::SnapshotOpened { snapshot, last });
    }

    fn read_part(&mut self, id: ProcessId, snapshot: SnapshotNumber, position: &[u8]) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let part = match (
            process.snapshots.sources.get(&snapshot),
            Position::decode(position),
        ) {
            (Some(source), Some(position)) => source.part(&position),
            _ => Ok(None),
        };
        if let Some(part) = self.survives(id, part) {
            self.handle(id, Event::PartRead { snapshot, part });
        }
    }

    fn take_part(
        &mut self,
        id: ProcessId,
        (from, snapshot): (NodeId, SnapshotNumber),
        last: EntryId,
        part: Bytes,
    ) -> Result<PartTaken, StoreError> {
        let machine = &mut self.machines[id.slot];
        let disk = machine.disk.clone();
        let Some(process) = machine.process.as_mut() else {
            return Ok(PartTaken::Broken("the process is gone"));
        };
        let snapshots = &mut process.snapshots;
        let is_known = |incoming: &Incoming| incoming.from == from && incoming.snapshot == snapshot;
        if !snapshots.incoming.as_ref().is_some_and(is_known) {
            snapshots.newest = snapshots.newest.max(process.store.0) + 1;
            let store = StoreNumber(snapshots.newest);
            let base = TwinBase::new();
            machine.bases.insert(store, base.clone());
            let receiver = Receiver::begin(base, disk, store, last)?;
            snapshots.incoming = Some(Incoming {
                from,
                snapshot,
                receiver,
            });
        }
        let incoming = snapshots.incoming.as_mut().expect("begun just now");
        Ok(match incoming.receiver.take(part)? {
            Taken::Next(position) => PartTaken::Wanted(position.encode()),
            Taken::Broken(what) => {
                snapshots.incoming = None;
                PartTaken::Broken(what)
            }
            Taken::Whole(received) => {
                snapshots.incoming = None;
                let state = ReceivedState {
                    store: received.store,
                    companions: received.companions.clone(),
                    tables: received.tables.clone(),
                };
                self.observer.drained(id.slot, &received.base);
                snapshots.received = Some(received);
                PartTaken::Whole(Box::new(state))
            }
        })
    }

    /// From now on the process works on the received store; it becomes the current one behind what is being synced. What was
    /// not written yet of the old log need not be.
    fn begin_install(&mut self, id: ProcessId, install: Install, store: StoreNumber) {
        let machine = &mut self.machines[id.slot];
        let Some(process) = machine.process.as_mut().filter(|process| process.life == id.life) else {
            return;
        };
        let Some(received) = process
            .snapshots
            .received
            .take_if(|received| received.store == store)
        else {
            let what = format!("installs {store:?}, which was not received");
            self.observer.violate("I15", Some(id.slot), what);
            return;
        };
        process.writes.clear();
        (process.store, process.history) = (received.store, received.history);
        process.pages = PageReader::default();
        process.install = Some((install, store));
        machine.base = received.base;
        self.order(id, Order::Replaced(received.companions.revision));
        self.arrange_snapshot_step(id, SnapshotStep::Install);
    }

    /// Switches to the received store, then begins the log anew; unless something is being synced: that is waited for.
    pub(super) fn install_next(&mut self, id: ProcessId) {
        let machine = &mut self.machines[id.slot];
        let disk = machine.disk.clone();
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        if process.syncing.is_some() {
            return;
        }
        let Some((install, store)) = process.install.clone() else {
            return;
        };
        let begins_early = mutant(LOG_BEGUN_BEFORE_THE_SWITCH);
        if begins_early && !self.begin_log_anew(id, &install) {
            return;
        }
        let switched = make_current(&disk, store);
        if self.survives(id, switched).is_none() || !begins_early && !self.begin_log_anew(id, &install) {
            return;
        }
        if let Some(process) = self.machines[id.slot].process_of(id.life) {
            process.install = None;
            process.last_append = self.now;
        }
        self.observer.persisted(id.slot, install.number);
        self.handle(id, Event::Persisted(install.number));
        self.machines[id.slot].bases.retain(|other, _| *other >= store);
        let removed = remove_history_of(&disk, |other| other < store);
        if self.survives(id, removed).is_some() {
            self.arrange_mark(id);
            self.write_next(id);
        }
    }

    /// Did it live through that?
    fn begin_log_anew(&mut self, id: ProcessId, install: &Install) -> bool {
        let process = self.machines[id.slot].process_of(id.life);
        let Some(log) = process.and_then(|process| process.log.as_mut()) else {
            return false;
        };
        let begun = log.begin_anew(install.last, install.hard_state);
        self.survives(id, begun).is_some()
    }
}
