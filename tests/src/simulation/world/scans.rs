//! Scans that are held open across drains, and reads in the past.

use raftkv_protocol::Revision;
use raftkv_server::store::base::{Base, TwinView};
use raftkv_server::store::{Pinned, State, StoreNumber};

use super::store::StoreStep;
use super::{ProcessId, World};
use crate::simulation::observer::PastCheck;

/// A scan of one process, as it goes on.
#[derive(Debug)]
pub(super) enum Scan {
    /// Memory is pinned.
    Begins,
    /// A version of the base is taken beneath it, of the same store.
    GetsBase(StoreNumber, Box<Pinned>),
    /// It is read, and what that store's history explains.
    IsRead(StoreNumber, Box<State<TwinView>>),
}

impl Scan {
    pub(super) fn word(&self) -> u64 {
        match self {
            Scan::Begins => 0,
            Scan::GetsBase(..) => 1,
            Scan::IsRead(_, state) => 2 << 32 | state.revision().0,
        }
    }
}

impl World {
    pub(super) fn scan_step(&mut self, id: ProcessId, scan: Scan) {
        let plan = &self.scenario.plan.store;
        let (scan_us, pause_us) = (plan.scan_us, plan.scan_pause_us);
        let machine = &mut self.machines[id.slot];
        let base = machine.base.clone();
        let Some(process) = machine.process_of(id.life) else {
            return;
        };
        let current = process.store;
        let (mean_us, next) = match scan {
            // A snapshot took the store's place: what was pinned belongs to no base that there is.
            Scan::GetsBase(store, _) if store != current => (pause_us, Scan::Begins),
            // A snapshot was received, and its base is not the process's yet: that comes with the next poll.
            Scan::Begins if process.node.store_number() != Some(current) => (pause_us, Scan::Begins),
            Scan::Begins => match process.node.store() {
                Some(store) => (scan_us, Scan::GetsBase(current, Box::new(store.pin()))),
                None => (pause_us, Scan::Begins),
            },
            Scan::GetsBase(store, pinned) => {
                let state = base.view().and_then(|view| pinned.over(view));
                match self.survives(id, state) {
                    Some(Ok(state)) => (scan_us, Scan::IsRead(store, Box::new(state))),
                    // The base has gone on too far: as a reader does, begin again.
                    Some(Err(_)) => (pause_us, Scan::Begins),
                    None => return,
                }
            }
            Scan::IsRead(store, state) => {
                self.observer.check_scan(id.slot, &state);
                if store == current && !self.read_past(id, &state) {
                    return;
                }
                (pause_us, Scan::Begins)
            }
        };
        self.arrange_store_step(id, mean_us, StoreStep::Scan(next));
    }

    /// Reads at some kept revisions, and below the oldest; does the process live on?
    fn read_past(&mut self, id: ProcessId, state: &State<TwinView>) -> bool {
        let machine = &mut self.machines[id.slot];
        let mut rng = machine.store_rng.fork();
        let Some(process) = machine.process_of(id.life) else {
            return false;
        };
        let history = process.history.clone();
        let oldest = history.oldest_kept();
        let current = state.revision();
        let mut revisions = vec![Revision(oldest.0.saturating_sub(1)), oldest, current];
        if oldest < current {
            revisions.push(Revision(rng.u64(oldest.0..current.0)));
        }
        // It may have been held until all that it knows was given up.
        revisions.retain(|revision| *revision <= current);
        let check = PastCheck {
            history: &history,
            state,
            revisions: &revisions,
        };
        let checked = self.observer.check_past(id.slot, &check, &mut rng);
        self.survives(id, checked).is_some()
    }
}
