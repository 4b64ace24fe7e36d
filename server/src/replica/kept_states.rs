//! Which states are kept between the pages of listings: few, for a minute, and only while memory and disk have room.
//!
//! A state that is kept shares with the live one what has not changed since. What it may come to hold alone is the
//! generation that was written to, and later, when memory lets go of generations, those as well: at that point it is
//! released. Its version of the base keeps files on the disk that compactions have replaced: so it goes when the disk is
//! nearly full. A listing goes on from history then.

use std::collections::VecDeque;
use std::time::Duration;

use raftkv_protocol::Revision;
use raftkv_raft::Time;
use raftkv_raft::simulation::mark;

use super::Effect;
use super::formed::Formed;
use super::outbox::Outbox;
use crate::store::PageNumber;

/// States that are kept at once.
const MOST: usize = 16;

/// Kept for so long, however often they are used: a reader that takes longer goes on from history.
const KEPT_FOR: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
struct KeptState {
    number: PageNumber,
    revision: Revision,
    /// Memory it may come to hold alone.
    held_bytes: u64,
    until: Time,
}

/// See the module. Oldest first.
#[derive(Debug, Default)]
pub(super) struct KeptStates {
    states: VecDeque<KeptState>,
}

impl KeptStates {
    /// The state of a revision, if it is kept.
    pub(super) fn of_revision(&self, revision: Revision) -> Option<PageNumber> {
        let kept = self.states.iter().find(|state| state.revision == revision)?;
        Some(kept.number)
    }

    pub(super) fn next_expiry(&self) -> Time {
        self.states.front().map_or(Time::NEVER, |state| state.until)
    }

    fn held_bytes(&self) -> u64 {
        self.states.iter().map(|state| state.held_bytes).sum()
    }
}

impl Formed {
    /// The disk has kept the state that a page was read from. The oldest ones make room for it; if that is not enough, or
    /// there is one of the same revision, it is released at once.
    pub(super) fn keep_state(
        &mut self,
        now: Time,
        number: PageNumber,
        (revision, held_bytes): (Revision, Option<u64>),
        out: &mut Outbox,
    ) {
        let most_bytes = self.config.store.generation_bytes();
        let is_refused = self.ranges.kept.of_revision(revision).is_some() || self.space.is_low();
        let held_bytes = held_bytes.filter(|held_bytes| *held_bytes <= most_bytes && !is_refused);
        let Some(held_bytes) = held_bytes else {
            return out.push(Effect::ReleaseState(number));
        };
        let kept = &mut self.ranges.kept;
        while kept.states.len() >= MOST || kept.held_bytes().saturating_add(held_bytes) > most_bytes {
            let Some(oldest) = kept.states.pop_front() else {
                break;
            };
            mark("kept state gives way to another");
            out.push(Effect::ReleaseState(oldest.number));
        }
        kept.states.push_back(KeptState {
            number,
            revision,
            held_bytes,
            until: now.after(KEPT_FOR),
        });
    }

    /// A listing of this state has read its last page. Another one of the same state goes on from history.
    pub(super) fn listing_ended(&mut self, revision: Revision, out: &mut Outbox) {
        let states = &mut self.ranges.kept.states;
        if let Some(at) = states.iter().position(|state| state.revision == revision)
            && let Some(ended) = states.remove(at)
        {
            out.push(Effect::ReleaseState(ended.number));
        }
    }

    /// Lets go of what was kept long enough, and of all while the disk is nearly full.
    pub(super) fn tend_kept_states(&mut self, now: Time, out: &mut Outbox) {
        if self.space.is_low() {
            return self.release_kept_states(out);
        }
        let states = &mut self.ranges.kept.states;
        while let Some(oldest) = states.pop_front_if(|oldest| oldest.until <= now) {
            out.push(Effect::ReleaseState(oldest.number));
        }
    }

    /// Lets go of all of them: memory has let go of a generation that each of them holds, or they are of a former store.
    pub(super) fn release_kept_states(&mut self, out: &mut Outbox) {
        self.ranges.keep_none_of_those_read();
        for state in self.ranges.kept.states.drain(..) {
            mark("kept state released before its time");
            out.push(Effect::ReleaseState(state.number));
        }
    }
}
