//! Pages of ranges, as the thread of a node reads them: the base is held at one moment, and read at a later one.

use raftkv_server::replica::Event;
use raftkv_server::store::base::TwinView;
use raftkv_server::store::{Keep, PageJob, PageNumber, PageOutcome, PageWanted, State, StoreNumber};

use super::store::StoreStep;
use super::{ProcessId, World};

/// A page of one process, on its way.
#[derive(Debug)]
pub(super) enum PageStep {
    /// The state that it is read from is found: a kept one, or a version of the base is taken beneath what was pinned.
    GetsState { store: StoreNumber, job: Box<PageJob> },
    /// It is read.
    IsRead {
        store: StoreNumber,
        page: (PageNumber, Keep),
        wanted: Box<PageWanted>,
        state: Box<State<TwinView>>,
    },
    /// The node hears of it.
    IsTold {
        page: PageNumber,
        outcome: Box<PageOutcome>,
    },
}

impl PageStep {
    pub(super) fn word(&self) -> u64 {
        match self {
            PageStep::GetsState { job, .. } => job.page.0,
            PageStep::IsRead { page, state, .. } => 1 << 60 | page.0.0 << 32 | state.revision().0,
            PageStep::IsTold { page, outcome } => {
                let count = match &**outcome {
                    PageOutcome::Read(read) => read.count,
                    _ => u64::from(u32::MAX),
                };
                2 << 60 | page.0 << 32 | count
            }
        }
    }
}

impl World {
    pub(super) fn page_step(&mut self, id: ProcessId, step: PageStep) {
        let base = self.machines[id.slot].base.clone();
        let (scan_us, told_us) = (
            self.scenario.plan.store.scan_us,
            self.scenario.plan.store.lookup_us / 2,
        );
        let Some(process) = self.machines[id.slot].process_of(id.life) else {
            return;
        };
        let (mean_us, next) = match step {
            // A snapshot took the store's place: the node asks anew.
            PageStep::GetsState { store, .. } | PageStep::IsRead { store, .. } if store != process.store => {
                return;
            }
            PageStep::GetsState { store, job } => {
                let PageJob {
                    page,
                    source,
                    wanted,
                    keep,
                } = *job;
                let opened = process.pages.open(&base, source);
                match self.survives(id, opened) {
                    None => return,
                    Some(Ok(state)) => {
                        let (wanted, state) = (Box::new(wanted), Box::new(state));
                        let page = (page, keep);
                        let step = PageStep::IsRead {
                            store,
                            page,
                            wanted,
                            state,
                        };
                        (scan_us, step)
                    }
                    Some(Err(outcome)) => {
                        let outcome = Box::new(outcome);
                        (told_us, PageStep::IsTold { page, outcome })
                    }
                }
            }
            PageStep::IsRead {
                page, wanted, state, ..
            } => {
                let history = process.history.clone();
                let read = process.pages.read(&history, *state, page, &wanted);
                let Some(outcome) = self.survives(id, read) else {
                    return;
                };
                let outcome = Box::new(outcome);
                (
                    told_us,
                    PageStep::IsTold {
                        page: page.0,
                        outcome,
                    },
                )
            }
            PageStep::IsTold { page, outcome } => {
                let outcome = *outcome;
                return self.handle(id, Event::PageRead { page, outcome });
            }
        };
        self.arrange_store_step(id, mean_us, StoreStep::Page(next));
    }

    pub(super) fn release_state(&mut self, id: ProcessId, number: PageNumber) {
        if let Some(process) = self.machines[id.slot].process_of(id.life) {
            process.pages.release(number);
        }
    }
}
