//! The parts that one group gets of some events: filtered, conflated if wanted, and none too large.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use raftkv_protocol::{EventFilter, KeyValue, PartKind, Previous, Record, Revision, WatchEvent, WatchPart};

use super::groups::Wish;
use super::reader::Records;
use crate::store::Slot;
use crate::store::history::{Event, HistoryError};

/// What an event takes in a message beside keys and values, at most, bytes.
pub(super) const EVENT_OVERHEAD_BYTES: u64 = 96;

/// Are events left out that a later one of the same key makes old?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Conflation {
    Off,
    On,
}

/// A part, and what sending it costs.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) part: WatchPart,
    /// Of its first event.
    pub(super) first: Revision,
    /// Bytes of keys and values: what it takes of a watch's credit.
    pub(super) credit_bytes: u64,
    /// Bytes of its message, at most.
    pub(super) size_bytes: u64,
}

/// Some events in order, and what was looked up for them: each at most once, however many watches want it.
pub(super) struct Looked<'a, R> {
    pub(super) events: &'a [Event],
    records: &'a R,
    known: Vec<Known>,
}

#[derive(Default)]
struct Known {
    record: OnceCell<Record>,
    previous: OnceCell<Option<Record>>,
}

impl<'a, R: Records> Looked<'a, R> {
    pub(super) fn new(events: &'a [Event], records: &'a R) -> Looked<'a, R> {
        Looked {
            events,
            records,
            known: events.iter().map(|_| Known::default()).collect(),
        }
    }

    fn event(&self, index: u32, previous: Previous) -> Result<WatchEvent, HistoryError> {
        let (event, known) = (&self.events[index as usize], &self.known[index as usize]);
        let previous = match previous {
            Previous::Unwanted => None,
            Previous::Wanted => match known.previous.get() {
                Some(previous) => previous.clone(),
                None => {
                    let found = self.records.before(&event.key, event.revision)?;
                    known.previous.get_or_init(|| found).clone()
                }
            },
        };
        let Slot::Live(stored) = &event.slot else {
            return Ok(WatchEvent::Delete {
                key: event.key.clone(),
                revision: event.revision,
                previous,
            });
        };
        let record = match (stored.record(), known.record.get()) {
            (Some(record), _) => record,
            (None, Some(record)) => record.clone(),
            (None, None) => {
                let resolved = self.records.resolved(&event.key, stored)?;
                known.record.get_or_init(|| resolved).clone()
            }
        };
        Ok(WatchEvent::Put {
            kv: KeyValue {
                key: event.key.clone(),
                record,
            },
            previous,
        })
    }

    /// The parts of the events at `indices`, which are `wish`'s range's; everything up to `through` is told with them. None
    /// when nothing is left of them.
    pub(super) fn parts(
        &self,
        wish: &Wish,
        indices: &[u32],
        conflation: Conflation,
        bounds: Bounds,
    ) -> Result<Vec<Made>, HistoryError> {
        let wanted = indices
            .iter()
            .copied()
            .filter(|index| passes(wish.filter, &self.events[*index as usize].slot));
        let wanted: Vec<u32> = wanted.collect();
        let kept = match conflation {
            Conflation::Off => wanted.clone(),
            Conflation::On => self.latest_of_each_key(&wanted),
        };
        let kind = match kept.len() < wanted.len() {
            true => PartKind::Conflated,
            false => PartKind::Changes,
        };
        let mut parts: Vec<Made> = Vec::new();
        for index in kept {
            let event = self.event(index, wish.previous)?;
            let bytes = event.credit_bytes();
            let revision = event.revision();
            let is_full = parts.last().is_none_or(|made| {
                made.part.through < revision && made.credit_bytes + bytes > bounds.part_bytes
            });
            if is_full {
                parts.push(Made {
                    part: WatchPart {
                        kind,
                        through: revision,
                        events: Vec::new(),
                    },
                    first: revision,
                    credit_bytes: 0,
                    size_bytes: EVENT_OVERHEAD_BYTES,
                });
            }
            let made = parts.last_mut().expect("one was added if there was none");
            made.part.through = revision;
            made.part.events.push(event);
            made.credit_bytes += bytes;
            made.size_bytes += bytes + EVENT_OVERHEAD_BYTES;
        }
        if let Some(last) = parts.last_mut() {
            last.part.through = bounds.through;
        }
        Ok(parts)
    }

    fn latest_of_each_key(&self, indices: &[u32]) -> Vec<u32> {
        let mut seen = BTreeSet::new();
        let mut latest: Vec<u32> = indices
            .iter()
            .rev()
            .copied()
            .filter(|index| seen.insert(&self.events[*index as usize].key))
            .collect();
        latest.reverse();
        latest
    }
}

/// What holds for all parts of some events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Everything up to here is told with the last of them.
    pub(super) through: Revision,
    /// A part ends beyond this, at the next revision.
    pub(super) part_bytes: u64,
}

fn passes(filter: EventFilter, slot: &Slot) -> bool {
    match (filter, slot) {
        (EventFilter::All, _)
        | (EventFilter::Puts, Slot::Live(_))
        | (EventFilter::Deletes, Slot::Deleted(_)) => true,
        (EventFilter::Puts, Slot::Deleted(_)) | (EventFilter::Deletes, Slot::Live(_)) => false,
    }
}
