//! Pieces of the scrub, as the thread of a node reads them: the base is held at one moment, and read at a later one.

use raftkv_server::replica::Event;
use raftkv_server::store::base::TwinView;
use raftkv_server::store::{Overtaken, ScrubJob, ScrubNumber, ScrubWanted, Scrubbed, State, StoreNumber};

use super::store::StoreStep;
use super::{ProcessId, World};

/// A piece of one process, on its way.
#[derive(Debug)]
pub(super) enum ScrubStep {
    /// A version of the base is taken beneath what was held.
    GetsState { store: StoreNumber, job: Box<ScrubJob> },
    /// It is read.
    IsRead {
        scrub: ScrubNumber,
        wanted: ScrubWanted,
        state: Box<State<TwinView>>,
    },
    /// The node hears of it.
    IsTold {
        scrub: ScrubNumber,
        outcome: Result<Scrubbed, Overtaken>,
    },
}

impl ScrubStep {
    pub(super) fn word(&self) -> u64 {
        match self {
            ScrubStep::GetsState { job, .. } => job.scrub.0,
            ScrubStep::IsRead { scrub, state, .. } => 1 << 60 | scrub.0 << 32 | state.revision().0,
            ScrubStep::IsTold { scrub, outcome } => {
                let keys = outcome.as_ref().map_or(u64::from(u32::MAX), |found| found.keys);
                2 << 60 | scrub.0 << 32 | keys
            }
        }
    }
}

impl World {
    pub(super) fn scrub_step(&mut self, id: ProcessId, step: ScrubStep) {
        let base = self.machines[id.slot].base.clone();
        let (read_us, told_us) = (
            self.scenario.plan.scrub.read_us,
            self.scenario.plan.store.lookup_us / 2,
        );
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let (mean_us, next) = match step {
            // A snapshot took the store's place: the node has forgotten the piece.
            ScrubStep::GetsState { store, .. } if store != process.store => return,
            ScrubStep::GetsState { job, .. } => {
                let scrub = job.scrub;
                let opened = job.open(&base);
                match self.survives(id, opened) {
                    None => return,
                    Some(Ok((state, wanted))) => {
                        let state = Box::new(state);
                        let step = ScrubStep::IsRead { scrub, wanted, state };
                        (read_us, step)
                    }
                    Some(Err(overtaken)) => {
                        let outcome = Err(overtaken);
                        (told_us, ScrubStep::IsTold { scrub, outcome })
                    }
                }
            }
            ScrubStep::IsRead { scrub, wanted, state } => {
                let read = wanted.read(&state);
                let Some(found) = self.survives(id, read) else {
                    return;
                };
                let outcome = Ok(found);
                (told_us, ScrubStep::IsTold { scrub, outcome })
            }
            ScrubStep::IsTold { scrub, outcome } => {
                return self.handle(id, Event::Scrubbed { scrub, outcome });
            }
        };
        self.arrange_store_step(id, mean_us, StoreStep::Scrub(next));
    }
}
