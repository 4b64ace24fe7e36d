//! The state as of one moment, held: what memory had then over a version of the base, read in order from both ends while
//! writes, drains and compactions go on.

use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::Revision;
use raftkv_raft::simulation::mutant;

use super::base::{BaseView, RowIter};
use super::companions::{self, Companions};
use super::error::StoreError;
use super::generation::Held;
use super::held_rows::HeldRow;
use super::history::{Direction, KeyRange, Layers};
use super::layer::{Layer, SortedRows};
use super::machine::Store;
use super::record::{GenerationNumber, Slot, Stored};
use super::rows;

/// What memory held at one moment; taken in no time. It needs a view of the base beneath.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// Newest first.
    layers: Vec<Arc<Layer>>,
    active: GenerationNumber,
    dropped: Option<GenerationNumber>,
    revision: Revision,
}

/// The base has drained further than what was pinned: pin anew. It takes a whole generation between the two, so this is
/// rare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken;

/// See the module.
#[derive(Clone, Debug)]
pub struct State<V> {
    /// Newest first.
    layers: Vec<Arc<Layer>>,
    view: V,
    revision: Revision,
}

impl Store {
    /// Holds what memory has now.
    #[must_use]
    pub fn pin(&self) -> Pinned {
        Pinned {
            layers: self.overlay.layers(),
            active: self.overlay.active().number(),
            dropped: self.overlay.dropped(),
            revision: self.revision(),
        }
    }
}

impl Pinned {
    /// The whole state, if `view` is neither older than what memory had dropped nor newer than what it had. It must be of the
    /// same store's base: a snapshot that was installed since brought another one.
    ///
    /// # Errors
    /// Of the base, inside the result of the check.
    pub fn over<V: BaseView>(self, view: V) -> Result<Result<State<V>, Overtaken>, StoreError> {
        let through = companions_in(&view)?.map(|companions| companions.generation);
        let is_newer = through >= Some(self.active) && !mutant("scan_mixes_two_states");
        if is_newer || through < self.dropped {
            return Ok(Err(Overtaken));
        }
        Ok(Ok(State {
            layers: self.layers,
            view,
            revision: self.revision,
        }))
    }
}

/// The companions of the last drain that a version of the base holds; `None` before the first.
///
/// # Errors
/// Of the base, or when the row is damaged.
pub fn companions_in(view: &impl BaseView) -> Result<Option<Companions>, StoreError> {
    let row = view.get(companions::ROW_KEY)?;
    row.map(|row| Companions::decode(&row).map_err(damaged))
        .transpose()
}

/// The record that a version of the base holds of a key.
///
/// # Errors
/// Of the base, or when the row is damaged.
pub fn record_in(view: &impl BaseView, key: &[u8]) -> Result<Option<Stored>, StoreError> {
    view.get(&rows::record_row(key))?.map(record_of_row).transpose()
}

/// The records that a version of the base holds of ascending `keys`, told in turn; cheaper than one by one.
///
/// # Errors
/// Of the base, or when a row is damaged.
pub fn records_of(
    view: &impl BaseView,
    keys: &[Bytes],
    found: &mut dyn FnMut(Bytes, Option<Stored>),
) -> Result<(), StoreError> {
    let mut keys = keys.iter().map(|key| rows::record_row(key));
    view.get_ascending(&mut keys, &mut |row, value| {
        found(rows::key_of_row(&row), value.map(record_of_row).transpose()?);
        Ok(())
    })
}

/// A live record from its row.
pub(super) fn record_of_row(value: Bytes) -> Result<Stored, StoreError> {
    match Slot::decode(value).map_err(damaged)? {
        Slot::Live(stored) if stored.record().is_some() => Ok(stored),
        Slot::Live(_) | Slot::Deleted(_) => Err(damaged("a row of the base holds no whole record")),
    }
}

pub(super) fn damaged(what: &'static str) -> StoreError {
    StoreError::Damaged {
        file: "the base engine's data".to_owned(),
        offset: 0,
        what: what.to_owned(),
    }
}

impl<V: BaseView> State<V> {
    /// The store's revision at the moment that is held.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The record of a key, its lineage known.
    ///
    /// # Errors
    /// Of the base.
    pub fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let newest = self.layers.iter().find_map(|layer| layer.get(key));
        match newest.map(|held| &held.slot) {
            Some(Slot::Deleted(_)) => return Ok(None),
            Some(Slot::Live(stored)) if stored.record().is_some() => return Ok(Some(stored.clone())),
            Some(Slot::Live(_)) | None => {}
        }
        let base = record_in(&self.view, key)?;
        let slots = self.layers.iter().rev().filter_map(|layer| layer.get(key));
        Ok(slots.fold(base, |beneath, held| held.slot.on_top_of(beneath)))
    }

    /// The newest slot of a key at or below `revision` that some layer holds. A layer knows only its newest; the base's
    /// comes last. Its lineage is open only if the base has written over what it is on.
    ///
    /// # Errors
    /// Of the base.
    pub fn newest_up_to(&self, key: &[u8], revision: Revision) -> Result<Option<Slot>, StoreError> {
        let is_old = |layer: &Arc<Layer>| {
            layer
                .get(key)
                .is_some_and(|held| held.slot.mod_revision() <= revision)
        };
        let at = self.layers.iter().position(is_old);
        let base = record_in(&self.view, key)?;
        if let Some(at) = at
            && let Some(Held { slot, .. }) = self.layers[at].get(key)
        {
            // A base that holds the generation already knows more, and history may have given up what tells the rest.
            let is_beneath = base
                .as_ref()
                .is_none_or(|base| base.mod_revision <= slot.mod_revision());
            if !is_beneath {
                return Ok(Some(slot.clone()));
            }
            let slots = self.layers[at..].iter().rev().filter_map(|layer| layer.get(key));
            let resolved = slots.fold(base, |beneath, held| held.slot.on_top_of(beneath));
            return Ok(resolved.map_or(Some(slot.clone()), |stored| Some(Slot::Live(stored))));
        }
        Ok(base
            .filter(|stored| stored.mod_revision <= revision)
            .map(Slot::Live))
    }

    /// Live records of `from..to` in order, from both ends (`None`: to the last key).
    #[must_use]
    pub fn range<'s>(&'s self, from: &[u8], to: Option<&[u8]>) -> Records<'s> {
        let is_empty = to.is_some_and(|to| to <= from);
        let layers = self.layers.iter().rev();
        let runs = layers
            .flat_map(|layer| layer.range(from, to))
            .map(Ends::new)
            .collect();
        let end = to.map_or_else(|| Bytes::from_static(rows::RECORDS_END), rows::record_row);
        let base: RowIter = match is_empty {
            true => Box::new(std::iter::empty()),
            false => self.view.range(&rows::record_row(from), Some(&end)),
        };
        Records {
            runs,
            base: Ends::new(base),
        }
    }
}

/// What reads in the past stand on.
impl<V: BaseView> Layers for State<V> {
    fn newest(&self, key: &[u8]) -> Result<Option<Slot>, StoreError> {
        let newest = self.layers.iter().find_map(|layer| layer.get(key));
        match newest.map(|held| &held.slot) {
            Some(Slot::Deleted(revision)) => Ok(Some(Slot::Deleted(*revision))),
            Some(Slot::Live(_)) | None => Ok(self.get(key)?.map(Slot::Live)),
        }
    }

    fn newest_at_or_below(&self, key: &[u8], at: Revision) -> Result<Option<Slot>, StoreError> {
        self.newest_up_to(key, at)
    }

    fn slots(
        &self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<(Bytes, Slot), StoreError>> + '_> {
        let mut records = self.range(&range.from, range.to.as_deref());
        let side = match direction {
            Direction::Ascending => Side::Front,
            Direction::Descending => Side::Back,
        };
        Box::new(std::iter::from_fn(move || records.next_slot(side)))
    }
}

/// An iterator with one item looked at on each side.
struct Ends<I: Iterator> {
    inner: I,
    front: Option<I::Item>,
    back: Option<I::Item>,
}

/// From which end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Front,
    Back,
}

impl<I: DoubleEndedIterator> Ends<I> {
    fn new(inner: I) -> Ends<I> {
        Ends {
            inner,
            front: None,
            back: None,
        }
    }

    /// The next item of a side, still kept. When the middle is used up, both sides look at what the other one took.
    fn peek(&mut self, side: Side) -> Option<&I::Item> {
        match side {
            Side::Front => {
                if self.front.is_none() {
                    self.front = self.inner.next().or_else(|| self.back.take());
                }
                self.front.as_ref()
            }
            Side::Back => {
                if self.back.is_none() {
                    self.back = self.inner.next_back().or_else(|| self.front.take());
                }
                self.back.as_ref()
            }
        }
    }

    fn take(&mut self, side: Side) -> Option<I::Item> {
        self.peek(side)?;
        match side {
            Side::Front => self.front.take(),
            Side::Back => self.back.take(),
        }
    }
}

/// Merged records of a range; see [`State::range`].
pub struct Records<'s> {
    /// Of the oldest generation first; of one, each key is in one run.
    runs: Vec<Ends<SortedRows<'s>>>,
    base: Ends<RowIter>,
}

impl Records<'_> {
    /// The nearest key of a side, over all layers.
    fn nearest(&mut self, side: Side) -> Result<Option<Bytes>, StoreError> {
        let of_base = match self.base.peek(side) {
            Some(Ok((row, _))) => Some(rows::key_of_row(row)),
            Some(Err(_)) => match self.base.take(side) {
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) | None => unreachable!("what was looked at is what is taken"),
            },
            None => None,
        };
        let of_runs = self
            .runs
            .iter_mut()
            .filter_map(|run| run.peek(side).map(|row| row.key.as_bytes()));
        let of_runs = match side {
            Side::Front => of_runs.min(),
            Side::Back => of_runs.max(),
        };
        let is_nearer = |key: &[u8], other: &[u8]| match side {
            Side::Front => key < other,
            Side::Back => key > other,
        };
        Ok(match (of_runs, of_base) {
            (Some(key), Some(of_base)) if !is_nearer(key, &of_base) => Some(of_base),
            (Some(key), _) => Some(Bytes::copy_from_slice(key)),
            (None, of_base) => of_base,
        })
    }

    /// Takes `key` out of every layer that is at it, and puts its slots on top of each other.
    fn take_key(&mut self, side: Side, key: &Bytes) -> Result<Option<Slot>, StoreError> {
        let is_in_base = matches!(self.base.peek(side), Some(Ok((row, _))) if row[1..] == key[..]);
        let mut state = None;
        let mut deleted = None;
        if is_in_base && let Some(row) = self.base.take(side) {
            state = Some(record_of_row(row?.1)?);
        }
        let is_key = |row: &&HeldRow| row.key.as_bytes() == &key[..];
        for run in &mut self.runs {
            if run.peek(side).is_some_and(is_key)
                && let Some(HeldRow { held, .. }) = run.take(side)
            {
                state = held.slot.on_top_of(state);
                deleted = match held.slot {
                    Slot::Deleted(revision) => Some(revision),
                    Slot::Live(_) => None,
                };
            }
        }
        Ok(state.map(Slot::Live).or(deleted.map(Slot::Deleted)))
    }

    /// The next key that any layer knows, deleted ones as well.
    fn next_slot(&mut self, side: Side) -> Option<Result<(Bytes, Slot), StoreError>> {
        let key = match self.nearest(side) {
            Ok(key) => key?,
            Err(error) => return Some(Err(error)),
        };
        let slot = self.take_key(side, &key).transpose()?;
        Some(slot.map(|slot| (key, slot)))
    }

    fn step(&mut self, side: Side) -> Option<Result<(Bytes, Stored), StoreError>> {
        loop {
            match self.next_slot(side)? {
                Ok((key, Slot::Live(stored))) => return Some(Ok((key, stored))),
                // Deleted in a newer layer.
                Ok((_, Slot::Deleted(_))) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(Bytes, Stored), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Side::Front)
    }
}

impl DoubleEndedIterator for Records<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Side::Back)
    }
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("runs", &self.runs.len()).finish()
    }
}
