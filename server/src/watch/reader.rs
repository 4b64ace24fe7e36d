//! What the hub has read: windows of history, pages of a held state, and the records behind events.

use std::cell::OnceCell;

use raftkv_protocol::{KeyValue, Record, Revision};

use super::catching_up::{Page, PageWanted, Window, WindowRead};
use crate::disk::Disk;
use crate::store::base::{Base, BaseView};
use crate::store::history::{History, HistoryError, HistoryView, KeyRange};
use crate::store::{Companions, GenerationNumber, Slot, State, StoreError, Stored, companions_in, record_in};

/// A window holds no more than this, bytes of keys and values; but always a whole revision.
const WINDOW_BYTES: usize = 1 << 20;

/// The records that events say too little about.
pub trait Records {
    /// The record of a blind put, whose creation and version what was before it decides.
    ///
    /// # Errors
    /// When history does not explain it any more, because it was given up since the event was read. Of the disk.
    fn resolved(&self, key: &[u8], stored: &Stored) -> Result<Record, HistoryError>;

    /// The record of a key just before the event of this revision.
    ///
    /// # Errors
    /// As [`Records::resolved`].
    fn before(&self, key: &[u8], revision: Revision) -> Result<Option<Record>, HistoryError>;
}

/// Reads history and base of one store.
pub struct Reader<D: Disk, B: Base> {
    history: History<D>,
    base: B,
}

/// History and base as of one moment, the base's first: then history has the image of all that it has written over.
struct Views<D: Disk, B: Base> {
    base: B::View,
    companions: Option<Companions>,
    history: HistoryView<D::File>,
}

/// What a reader finds from now on until it is dropped.
pub struct Now<'a, D: Disk, B: Base> {
    reader: &'a Reader<D, B>,
    /// Taken when something is asked for: mostly nothing is.
    views: OnceCell<Views<D, B>>,
}

impl<D: Disk, B: Base> Reader<D, B> {
    /// Of a store's history and base.
    pub fn new(history: History<D>, base: B) -> Reader<D, B> {
        Reader { history, base }
    }

    /// Records as of now.
    pub fn now(&self) -> Now<'_, D, B> {
        Now {
            reader: self,
            views: OnceCell::new(),
        }
    }

    /// The revision that the base holds; that of an empty store before the first drain.
    ///
    /// # Errors
    /// Of the base.
    pub fn base_revision(&self) -> Result<Revision, StoreError> {
        let companions = companions_in(&self.base.view()?)?;
        Ok(companions.map_or(Revision(1), |companions| companions.revision))
    }

    /// The events of a window, as many as fit; at least all of one revision.
    ///
    /// # Errors
    /// Of the disk, or damage.
    pub fn read(&self, window: Window) -> Result<WindowRead, StoreError> {
        let view = self.history.view();
        let events = match view.events(window.from, window.to, KeyRange::all()) {
            Ok(events) => events,
            Err(HistoryError::Compacted { oldest_kept }) => return Ok(WindowRead::Compacted { oldest_kept }),
            Err(HistoryError::Future { .. }) => unreachable!("events are asked for, not a state"),
            Err(HistoryError::Store(error)) => return Err(error),
        };
        let (mut read, mut bytes) = (Vec::new(), 0);
        for event in events {
            let event = event?;
            let last = read
                .last()
                .map(|event: &crate::store::history::Event| event.revision);
            if bytes > WINDOW_BYTES && last.is_some_and(|last| last < event.revision) {
                let through = last.unwrap_or(window.from);
                return Ok(WindowRead::Events {
                    events: read,
                    through,
                });
            }
            bytes += event.key.len() + event.slot.live().map_or(0, |stored| stored.value.len());
            read.push(event);
        }
        Ok(WindowRead::Events {
            events: read,
            through: view.leapt(window.to),
        })
    }
}

impl<V: BaseView> State<V> {
    /// A page for a watch that begins with this state.
    ///
    /// # Errors
    /// Of the base.
    pub fn watch_page(&self, wanted: &PageWanted) -> Result<Page, StoreError> {
        let mut from = wanted.span.from.to_vec();
        if let Some(after) = &wanted.after {
            from = [&after[..], &[0]].concat();
        }
        let mut page = Page {
            kvs: Vec::new(),
            is_last: true,
        };
        let mut bytes = 0;
        for found in self.range(&from, wanted.span.to.as_deref()) {
            let (key, stored) = found?;
            if bytes >= wanted.bytes {
                page.is_last = false;
                break;
            }
            bytes += (key.len() + stored.value.len()) as u64;
            let record = stored.record().expect("a held state resolves what it tells");
            page.kvs.push(KeyValue { key, record });
        }
        Ok(page)
    }
}

impl<D: Disk, B: Base> Views<D, B> {
    fn of(reader: &Reader<D, B>) -> Result<Views<D, B>, StoreError> {
        let base = reader.base.view()?;
        let companions = companions_in(&base)?;
        Ok(Views {
            base,
            companions,
            history: reader.history.view(),
        })
    }

    /// Does history explain the event of this revision still? Without its generation's images, or where history was given up
    /// within it, the base's record, which may be newer, would be taken for the one before it.
    fn check(&self, revision: Revision) -> Result<(), HistoryError> {
        let oldest_kept = self.history.first_event().max(self.history.oldest_kept());
        match revision < oldest_kept {
            true => Err(HistoryError::Compacted { oldest_kept }),
            false => Ok(()),
        }
    }

    fn drained(&self) -> Option<GenerationNumber> {
        self.companions.as_ref().map(|companions| companions.generation)
    }

    /// What the key was at `at`; a blind put's lineage may be open.
    fn state_at(&self, key: &[u8], at: Revision) -> Result<Option<Slot>, StoreError> {
        let drained = self
            .companions
            .as_ref()
            .map_or(Revision(1), |companions| companions.revision);
        // The base holds all up to some revision: behind it only events of generations that it lacks count.
        if drained <= at {
            if let Some(slot) = self.history.newest_undrained_event(key, at, self.drained())? {
                return Ok(Some(slot));
            }
            return Ok(record_in(&self.base, key)?.map(Slot::Live));
        }
        if let Some(explained) = self.history.explained(key, at)? {
            return Ok(explained);
        }
        let base = record_in(&self.base, key)?;
        Ok(base.filter(|stored| stored.mod_revision <= at).map(Slot::Live))
    }

    fn resolved(&self, key: &[u8], stored: Stored) -> Result<Record, StoreError> {
        let resolved = stored.resolved_by(|at| self.state_at(key, at))?;
        Ok(resolved.record().expect("its lineage is known now"))
    }
}

impl<D: Disk, B: Base> Now<'_, D, B> {
    fn views(&self) -> Result<&Views<D, B>, StoreError> {
        match self.views.get() {
            Some(views) => Ok(views),
            None => {
                let views = Views::of(self.reader)?;
                Ok(self.views.get_or_init(|| views))
            }
        }
    }
}

impl<D: Disk, B: Base> Records for Now<'_, D, B> {
    fn resolved(&self, key: &[u8], stored: &Stored) -> Result<Record, HistoryError> {
        let views = self.views()?;
        views.check(stored.mod_revision)?;
        Ok(views.resolved(key, stored.clone())?)
    }

    fn before(&self, key: &[u8], revision: Revision) -> Result<Option<Record>, HistoryError> {
        let views = self.views()?;
        views.check(revision)?;
        match views.state_at(key, Revision(revision.0 - 1))? {
            Some(Slot::Live(stored)) => Ok(Some(views.resolved(key, stored)?)),
            Some(Slot::Deleted(_)) | None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;
    use crate::store::StoreNumber;
    use crate::store::base::TwinBase;
    use crate::store::history::EventBuffer;

    /// A window for each few thousand of the revisions that a recovery leaps over would never come to an end.
    #[test]
    fn a_window_that_ends_within_a_leap_goes_through_all_of_it() {
        let history = History::open(SimulatedDisk::new(1), StoreNumber(1), None, Revision(1))
            .expect("nothing is there");
        let mut buffer = EventBuffer::default();
        buffer.push(b"key", Slot::Deleted(Revision(2)).borrowed());
        history.push(buffer.take(GenerationNumber(1), 7).expect("an event was pushed"));
        history.seal(GenerationNumber(1)).expect("room");
        let images = history.image_writer(GenerationNumber(1), None).expect("room");
        images.finish().expect("room");
        history
            .leap(GenerationNumber(2), Revision(1_000_000))
            .expect("room");
        let reader = Reader::new(history, TwinBase::new());
        let read = |from, to| {
            let window = Window {
                from: Revision(from),
                to: Revision(to),
            };
            match reader.read(window).expect("it is whole") {
                WindowRead::Events { events, through } => (events.len(), through.0),
                WindowRead::Compacted { .. } => panic!("all is kept"),
            }
        };
        assert_eq!(read(2, 2), (1, 2));
        assert_eq!(read(2, 3), (1, 1_000_000));
        assert_eq!(read(500, 600), (0, 1_000_000));
    }
}
