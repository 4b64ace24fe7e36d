//! What each key must be, by what its only writer was told.
//!
//! Each key has one writer, which asks one thing at a time, so its acknowledged writes are known in their order and with
//! their revisions: the key's whole record follows, now and at every revision in the past. A write whose outcome is
//! unknown ends its key: it may have happened, or happen later, and nothing is written on top of it.

mod clients;
mod past;
mod read_back;

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{Record, Revision};

pub use clients::{Load, LoadPlan};
pub use past::StoppedNode;
pub use read_back::{assert_all_keys, read_stale};

/// A write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    revision: Revision,
    /// `None`: the key was deleted.
    value: Option<Bytes>,
}

/// What may have come after the writes that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum End {
    /// Nothing.
    #[default]
    Open,
    /// Perhaps this write (`None`: a delete), of unknown outcome.
    Unknown(Option<Bytes>),
    /// The key expires soon, or has.
    Expires,
    /// Perhaps this put, of unknown outcome, and then the key expired.
    MayExpire(Bytes),
}

/// All that is known of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    writes: Vec<Write>,
    end: End,
}

impl Story {
    /// The key was written and nobody doubts what it is: its writer may go on.
    fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// A put that was acknowledged.
    fn put(&mut self, revision: Revision, value: Bytes) {
        let value = Some(value);
        self.writes.push(Write { revision, value });
    }

    /// A delete that was acknowledged, of a key that existed.
    fn deleted(&mut self, revision: Revision) {
        let value = None;
        self.writes.push(Write { revision, value });
    }

    /// What the known writes up to `at` make of the key.
    fn record_at(&self, at: Revision) -> Option<Record> {
        let known = self.writes.iter().take_while(|write| write.revision <= at);
        known.fold(None, |record: Option<Record>, write| {
            let value = write.value.clone()?;
            Some(Record {
                value,
                create_revision: record
                    .as_ref()
                    .map_or(write.revision, |record| record.create_revision),
                mod_revision: write.revision,
                version: record.map_or(0, |record| record.version) + 1,
                lease: None,
            })
        })
    }

    /// The record now.
    fn record(&self) -> Option<Record> {
        self.record_at(Revision(u64::MAX))
    }

    /// Can the key have been this at `at`?
    ///
    /// # Errors
    /// What it should have been.
    fn allows(&self, found: Option<&Record>, at: Revision) -> Result<(), String> {
        let known = self.record_at(at);
        if found == known.as_ref() {
            return Ok(());
        }
        let last = self.writes.last().map_or(Revision(0), |write| write.revision);
        let is_next = |value: &Bytes, found: &Record| {
            let expected = Record {
                value: value.clone(),
                create_revision: known
                    .as_ref()
                    .map_or(found.mod_revision, |known| known.create_revision),
                mod_revision: found.mod_revision,
                version: known.as_ref().map_or(0, |known| known.version) + 1,
                lease: None,
            };
            *found == expected && last < found.mod_revision && found.mod_revision <= at
        };
        let is_possible = at > last
            && match (&self.end, found) {
                (End::Open, _)
                | (End::Unknown(None) | End::Expires, Some(_))
                | (End::Unknown(Some(_)), None) => false,
                (End::Unknown(None) | End::Expires | End::MayExpire(_), None) => true,
                (End::Unknown(Some(value)) | End::MayExpire(value), Some(found)) => is_next(value, found),
            };
        match is_possible {
            true => Ok(()),
            false => Err(format!(
                "at {at} it is {found:?}, but was {known:?}; its last writes: {:?}, then {:?}",
                &self.writes[self.writes.len().saturating_sub(3)..],
                self.end
            )),
        }
    }
}

/// The stories of all keys.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    stories: BTreeMap<Bytes, Story>,
}

impl Ledger {
    /// All keys that were ever written, or may have been.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.stories.keys()
    }

    /// Those that expire, and were written for sure.
    pub fn expiring(&self) -> impl Iterator<Item = &Bytes> {
        let expires = |(_, story): &(&Bytes, &Story)| story.end == End::Expires;
        self.stories.iter().filter(expires).map(|(key, _)| key)
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.stories.values().map(|story| story.writes.len()).sum()
    }

    /// How many have an unknown outcome.
    #[must_use]
    pub fn unknown(&self) -> usize {
        let unknown = |story: &&Story| matches!(story.end, End::Unknown(_) | End::MayExpire(_));
        self.stories.values().filter(unknown).count()
    }

    /// Compares everything with `found`: all records there were at `at`.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, found: &BTreeMap<Bytes, Record>, at: Revision) -> Result<(), String> {
        if let Some(foreign) = found.keys().find(|key| !self.stories.contains_key(*key)) {
            return Err(format!("nobody ever wrote {foreign:?}"));
        }
        for (key, story) in &self.stories {
            let allowed = story.allows(found.get(key), at);
            allowed.map_err(|what| format!("{key:?}: {what}"))?;
        }
        Ok(())
    }

    /// Checks that no revision was given twice.
    ///
    /// # Panics
    /// When one was.
    #[track_caller]
    pub fn assert_revisions_differ(&self) {
        let mut owners = BTreeMap::new();
        for (key, story) in &self.stories {
            for write in &story.writes {
                let other = owners.insert(write.revision, key);
                assert_eq!(other, None, "{key:?} was written at {} as well", write.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &'static str, create: u64, change: u64, version: u64) -> Record {
        Record {
            value: Bytes::from(value),
            create_revision: Revision(create),
            mod_revision: Revision(change),
            version,
            lease: None,
        }
    }

    fn story() -> Story {
        let mut story = Story::default();
        story.put(Revision(3), "a".into());
        story.put(Revision(5), "b".into());
        story.deleted(Revision(7));
        story.put(Revision(9), "c".into());
        story
    }

    #[test]
    fn acknowledged_writes_tell_the_record_at_every_revision() {
        let story = story();
        for (at, expected) in [
            (2, None),
            (3, Some(record("a", 3, 3, 1))),
            (6, Some(record("b", 3, 5, 2))),
            (7, None),
            (9, Some(record("c", 9, 9, 1))),
        ] {
            assert_eq!(story.record_at(Revision(at)), expected, "at {at}");
            assert_eq!(story.allows(expected.as_ref(), Revision(at)), Ok(()));
        }
        for wrong in [
            None,
            Some(record("b", 9, 9, 1)),
            Some(record("c", 3, 9, 1)),
            Some(record("c", 9, 9, 2)),
            Some(record("c", 9, 10, 1)),
        ] {
            assert!(story.allows(wrong.as_ref(), Revision(20)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_write_of_unknown_outcome_is_allowed_either_way_behind_the_known_ones() {
        let mut story = story();
        story.end = End::Unknown(Some("d".into()));
        let done = record("d", 9, 12, 2);
        assert_eq!(story.allows(Some(&done), Revision(12)), Ok(()));
        assert_eq!(story.allows(story.record().as_ref(), Revision(12)), Ok(()));
        assert!(
            story.allows(Some(&done), Revision(11)).is_err(),
            "from the future"
        );
        assert!(story.allows(None, Revision(12)).is_err());
        story.end = End::Unknown(None);
        assert_eq!(story.allows(None, Revision(12)), Ok(()));
        assert!(story.allows(None, Revision(9)).is_err(), "its last put was at 9");
        assert!(story.allows(Some(&done), Revision(12)).is_err());
    }
}
