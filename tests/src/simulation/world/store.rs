//! What the state machine asks of the disk, each with a delay of its own: seal, drain, trim, cut, look up. The process may
//! be killed before and after each of them, and inside every call that one makes.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::Revision;
use raftkv_raft::{EntryId, Index};
use raftkv_server::cold_files::check_cold_files;
use raftkv_server::disk::SimulatedDisk;
use raftkv_server::replica::{Effect, Event, LookupNumber, Quarantine, RestoredState};
use raftkv_server::store::base::Base;
use raftkv_server::store::history::History;
use raftkv_server::store::snapshot::remove_history_of;
use raftkv_server::store::{
    BaseRecords, Frozen, GenerationNumber, RangesWanted, StoreError, StoreNumber, companions_in,
    current_store, drain, tables_in,
};

use super::machine::{Machine, Process};
use super::pages::PageStep;
use super::scans::Scan;
use super::scrubs::ScrubStep;
use super::{Happening, Micros, ProcessId, World};
use crate::simulation::random::exponential;
use crate::simulation::trace::Traced;

/// The mean time between two looks at how much room a disk has.
const MEASURE_EVERY_US: Micros = 300_000;
/// The mean time until what was done is known.
const TOLD_AFTER_US: Micros = 200;
/// All drains of a process are looked at up to this one, then every so many-th: much is the same from one to the next.
const CHECK_ALL_DRAINS: u64 = 10;
const CHECK_DRAINS_EVERY: u64 = 8;
/// The mean time that events wait to be written.
const EVENTS_WAIT_US: Micros = 2_000;

/// A step of the disk for the state machine.
#[derive(Debug)]
pub(super) enum StoreStep {
    WriteEvents,
    Seal(StoreNumber, GenerationNumber),
    Sealed(StoreNumber, GenerationNumber),
    Drain(StoreNumber, Arc<Frozen>, Option<u64>),
    Drained(StoreNumber, GenerationNumber),
    Trim(Revision),
    Cut(Index),
    LogCut(EntryId),
    LookUp(LookupNumber, Vec<Bytes>, Option<Box<RangesWanted>>),
    LookedUp(LookupNumber, BaseRecords),
    Measure,
    Scan(Scan),
    Page(PageStep),
    Scrub(ScrubStep),
    CheckFiles,
    Quarantine(Box<Quarantine>),
}

impl StoreStep {
    /// Its number and what it is about, for the trace's hash.
    fn words(&self) -> [u64; 2] {
        match self {
            StoreStep::WriteEvents => [1, 0],
            StoreStep::Seal(_, generation) => [2, generation.0],
            StoreStep::Sealed(_, generation) => [3, generation.0],
            StoreStep::Drain(_, frozen, _) => [4, frozen.number().0],
            StoreStep::Drained(_, generation) => [5, generation.0],
            StoreStep::Trim(revision) => [6, revision.0],
            StoreStep::Cut(index) => [7, index.get()],
            StoreStep::LogCut(base) => [8, base.index.get()],
            StoreStep::LookUp(lookup, ..) => [9, lookup.0],
            StoreStep::LookedUp(lookup, found) => [10, lookup.0 << 32 | found.records.len() as u64],
            StoreStep::Measure => [11, 0],
            StoreStep::Scan(scan) => [12, scan.word()],
            StoreStep::Page(step) => [13, step.word()],
            StoreStep::Scrub(step) => [14, step.word()],
            StoreStep::CheckFiles => [16, 0],
            StoreStep::Quarantine(quarantine) => [15, quarantine.found_at.get()],
        }
    }
}

/// What the state machine starts from: the current store, its history, and what its base holds.
pub(super) struct FoundStore {
    pub(super) number: StoreNumber,
    pub(super) history: History<SimulatedDisk>,
    pub(super) state: Option<RestoredState>,
}

pub(super) fn restored_store(machine: &mut Machine) -> Result<FoundStore, StoreError> {
    let number = current_store(&machine.disk)?;
    machine.base = machine.bases.entry(number).or_default().clone();
    machine.bases.retain(|other, _| *other >= number);
    remove_history_of(&machine.disk, |other| other < number)?;
    let view = machine.base.view()?;
    let companions = companions_in(&view)?;
    let (through, oldest_kept) = match &companions {
        None => (None, Revision(1)),
        Some(companions) => (Some(companions.generation), companions.oldest_kept),
    };
    let history = History::open(machine.disk.clone(), number, through, oldest_kept)?;
    let tables = tables_in(&view)?;
    let state = companions.map(|companions| RestoredState { companions, tables });
    Ok(FoundStore {
        number,
        history,
        state,
    })
}

fn is_checked(drains: u64) -> bool {
    drains <= CHECK_ALL_DRAINS || drains.is_multiple_of(CHECK_DRAINS_EVERY)
}

impl World {
    /// A process has started: what goes on all the time begins.
    pub(super) fn begin_store(&mut self, id: ProcessId) {
        self.check_whole_state(id);
        self.arrange_store_step(id, MEASURE_EVERY_US / 10, StoreStep::Measure);
        if self.scenario.plan.store.scan_pause_us > 0 {
            let pause_us = self.scenario.plan.store.scan_pause_us;
            self.arrange_store_step(id, pause_us, StoreStep::Scan(Scan::Begins));
        }
    }

    /// A step of the disk in a time with this mean; later, if the disk is stalled or slow.
    pub(super) fn arrange_store_step(&mut self, id: ProcessId, mean_us: Micros, step: StoreStep) {
        let machine = &mut self.machines[id.slot];
        let takes = 20 + exponential(&mut machine.store_rng, mean_us);
        let at = match step {
            StoreStep::Seal(..) | StoreStep::Drain(..) | StoreStep::Cut(_) | StoreStep::Quarantine(_) => {
                self.now.max(machine.stalled_until) + machine.slower_us + takes
            }
            StoreStep::LookUp(..)
            | StoreStep::WriteEvents
            | StoreStep::Trim(_)
            | StoreStep::Page(PageStep::GetsState { .. })
            | StoreStep::Scrub(ScrubStep::GetsState { .. }) => self.now.max(machine.stalled_until) + takes,
            StoreStep::Sealed(..)
            | StoreStep::Drained(..)
            | StoreStep::LogCut(_)
            | StoreStep::LookedUp(..)
            | StoreStep::Measure
            | StoreStep::Page(PageStep::IsRead { .. } | PageStep::IsTold { .. })
            | StoreStep::Scrub(ScrubStep::IsRead { .. } | ScrubStep::IsTold { .. })
            | StoreStep::CheckFiles
            | StoreStep::Scan(_) => self.now + takes,
        };
        self.queue.push(at, Happening::Store(id, step));
    }

    pub(super) fn carry_out_for_store(&mut self, id: ProcessId, effect: Effect) {
        let plan = &self.scenario.plan.store;
        let (mean_us, step) = match effect {
            Effect::Record(events) => {
                let Some(process) = self.machines[id.slot].process_of(id.life) else {
                    return;
                };
                process.history.push(events.clone());
                self.watches_recorded(id, &events);
                let Some(process) = self.machines[id.slot].process_of(id.life) else {
                    return;
                };
                if std::mem::replace(&mut process.are_events_arranged, true) {
                    return;
                }
                (EVENTS_WAIT_US, StoreStep::WriteEvents)
            }
            Effect::Lookup { lookup, keys, ranges } => {
                (plan.lookup_us / 2, StoreStep::LookUp(lookup, keys, ranges))
            }
            Effect::ReadPage { store, job } => (
                plan.lookup_us / 2,
                StoreStep::Page(PageStep::GetsState { store, job }),
            ),
            Effect::Scrub { store, job } => (
                plan.lookup_us / 2,
                StoreStep::Scrub(ScrubStep::GetsState { store, job }),
            ),
            Effect::CheckFiles => (plan.seal_us, StoreStep::CheckFiles),
            Effect::ReleaseState(number) => return self.release_state(id, number),
            Effect::Seal { store, generation } => (plan.seal_us, StoreStep::Seal(store, generation)),
            Effect::Drain {
                store,
                frozen,
                most_image_bytes,
            } => (plan.drain_us, StoreStep::Drain(store, frozen, most_image_bytes)),
            Effect::TrimHistory { oldest_kept } => (plan.seal_us, StoreStep::Trim(oldest_kept)),
            Effect::CutLog { keep_from } => (plan.seal_us, StoreStep::Cut(keep_from)),
            // Their memory is given back here.
            Effect::Discard(_) => return,
            other => unreachable!("not for the state machine: {other:?}"),
        };
        self.arrange_store_step(id, mean_us, step);
    }

    pub(super) fn store_step(&mut self, id: ProcessId, step: StoreStep) {
        if self.machines[id.slot].process_of(id.life).is_none() {
            return;
        }
        let words = step.words();
        self.trace
            .note(self.now, Some(id.slot), Traced::Store, words, || {
                format!("{step:?}").chars().take(300).collect()
            });
        let is_reading = matches!(step, StoreStep::Measure | StoreStep::Scan(_));
        if !is_reading && self.is_killed_here(id) {
            return;
        }
        match step {
            StoreStep::WriteEvents => self.write_events(id),
            StoreStep::Seal(store, generation) => self.seal(id, store, generation),
            StoreStep::Sealed(store, generation) => self.handle(id, Event::Sealed { store, generation }),
            StoreStep::Drain(store, frozen, most_image_bytes) => {
                self.drain(id, store, &frozen, most_image_bytes);
            }
            StoreStep::Drained(store, generation) => self.drained(id, store, generation),
            StoreStep::Trim(oldest_kept) => self.trim(id, oldest_kept),
            StoreStep::Cut(keep_from) => {
                if let Some(process) = self.machines[id.slot].process_of(id.life) {
                    process.cut = process.cut.max(Some(keep_from));
                }
                self.cut_log(id);
            }
            StoreStep::LogCut(base) => self.handle(id, Event::LogCut { base }),
            StoreStep::LookUp(lookup, keys, ranges) => {
                let view = self.machines[id.slot].base.view();
                let found = view.and_then(|view| BaseRecords::read(&view, &keys, ranges));
                let Some(found) = self.survives(id, found) else {
                    return;
                };
                let mean_us = self.scenario.plan.store.lookup_us / 2;
                self.arrange_store_step(id, mean_us, StoreStep::LookedUp(lookup, found));
            }
            StoreStep::LookedUp(lookup, found) => self.handle(id, Event::LookedUp { lookup, found }),
            StoreStep::Measure => {
                let bytes = self.machines[id.slot].free_bytes;
                self.handle(id, Event::FreeSpace { bytes });
                self.arrange_store_step(id, MEASURE_EVERY_US, StoreStep::Measure);
            }
            StoreStep::Scan(scan) => self.scan_step(id, scan),
            StoreStep::Page(step) => self.page_step(id, step),
            StoreStep::Scrub(step) => self.scrub_step(id, step),
            StoreStep::CheckFiles => self.check_files(id),
            StoreStep::Quarantine(quarantine) => self.keep_quarantine(id, &quarantine),
        }
    }

    /// Where nothing rots and no read fails, whatever is found is a mistake of who looks.
    fn check_files(&mut self, id: ProcessId) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let Some(log) = &process.reader else { return };
        let mut never_rests = |_| ControlFlow::Continue(());
        let checked = check_cold_files(log, &process.history, &mut never_rests);
        let checked = checked.expect("it is not ended");
        if self.survives(id, Ok::<_, StoreError>(())).is_none() {
            return;
        }
        let is_rotten = self.machines[id.slot].is_rotten;
        let is_explained = |damage: &String| is_rotten || damage.contains("Input/output error");
        if let Some(damage) = checked.damage.iter().find(|damage| !is_explained(damage)) {
            let what = format!("sound files are called damaged: {damage}");
            self.observer.violate("I7", Some(id.slot), what);
        }
        self.handle(id, Event::FilesChecked(checked));
    }

    fn write_events(&mut self, id: ProcessId) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        process.are_events_arranged = false;
        let written = process.history.write_pending();
        self.survives(id, written);
    }

    /// The process, if `store` is still what it works on: a snapshot may have taken its place.
    fn process_on(&mut self, id: ProcessId, store: StoreNumber) -> Option<&mut Process> {
        let process = self.machines[id.slot].process_of(id.life)?;
        (process.store == store).then_some(process)
    }

    fn seal(&mut self, id: ProcessId, store: StoreNumber, generation: GenerationNumber) {
        let Some(process) = self.process_on(id, store) else {
            return;
        };
        let sealed = process.history.seal(generation);
        if self.survives(id, sealed).is_some() {
            self.arrange_store_step(id, TOLD_AFTER_US, StoreStep::Sealed(store, generation));
        }
    }

    fn drain(&mut self, id: ProcessId, store: StoreNumber, frozen: &Frozen, most_image_bytes: Option<u64>) {
        let machine = &self.machines[id.slot];
        let base = machine.base.clone();
        // The reserve is made for more than these small states ever take.
        let is_low = machine.free_bytes < self.scenario.plan.store.reserve_bytes;
        let most_image_bytes = if is_low { Some(0) } else { most_image_bytes };
        let Some(process) = self.process_on(id, store) else {
            return;
        };
        process.drains += 1;
        let drains = process.drains;
        let images = process.history.image_writer(frozen.number(), most_image_bytes);
        let drained = images.and_then(|images| drain(frozen, &base, images, &mut |_| {}));
        let Some(report) = self.survives(id, drained) else {
            return;
        };
        if let Some(oldest_kept) = report.past_given_up {
            self.observer.past_given_up(oldest_kept);
        }
        if is_checked(drains) {
            self.observer.drained(id.slot, &base);
        }
        self.arrange_store_step(id, TOLD_AFTER_US, StoreStep::Drained(store, frozen.number()));
    }

    fn drained(&mut self, id: ProcessId, store: StoreNumber, generation: GenerationNumber) {
        let Some(process) = self.process_on(id, store) else {
            return;
        };
        let history = process.history.statistics();
        let drains = process.drains;
        self.handle(
            id,
            Event::Drained {
                store,
                generation,
                history,
            },
        );
        if is_checked(drains) {
            self.check_whole_state(id);
        }
    }

    fn trim(&mut self, id: ProcessId, oldest_kept: Revision) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let trimmed = process.history.trim(oldest_kept);
        self.survives(id, trimmed);
    }

    /// Cuts the log, unless some of it is being synced: the log's thread does one after the other.
    pub(super) fn cut_log(&mut self, id: ProcessId) {
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        if process.syncing.is_some() || process.install.is_some() || process.log.is_none() {
            return;
        }
        let Some(keep_from) = process.cut.take() else {
            return;
        };
        let machine = &mut self.machines[id.slot];
        let base = machine.base.clone();
        let log = machine
            .process_of(id.life)
            .and_then(|process| process.log.as_mut());
        let Some(log) = log else { return };
        let cut = log.cut_behind(keep_from);
        let now = log.base();
        let Some(cut) = self.survives(id, cut) else { return };
        self.observer.log_cut(id.slot, now, &base);
        if let Some(base) = cut {
            self.arrange_store_step(id, TOLD_AFTER_US, StoreStep::LogCut(base));
        }
    }

    /// All of the state that a process holds, from both ends.
    fn check_whole_state(&mut self, id: ProcessId) {
        let machine = &mut self.machines[id.slot];
        let base = machine.base.clone();
        // Until its next poll, a node that has received a snapshot is over a base which is not in place yet.
        let store = machine
            .process_of(id.life)
            .filter(|process| process.node.store_number() == Some(process.store))
            .and_then(|process| process.node.store());
        let Some(store) = store else { return };
        self.observer.check_whole_state(id.slot, store, &base);
    }
}
