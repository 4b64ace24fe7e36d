//! The observer's own store: what the decided entries make of an empty one. Written from the rules of the data model, not
//! from the store's code; slow and simple. It keeps every version of every key, so that any answer can be checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use raftkv_protocol::{Answer, Command, Condition, KeySpan, Record, Revision, decode_command};
use raftkv_raft::{Entry, EntryKind};

use super::Attempt;

/// A key from one revision on.
#[derive(Clone, Debug)]
struct Version {
    since: u64,
    record: Option<Record>,
    deadline_us: Option<u64>,
}

/// What a write did, and where.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) index: u64,
    pub(super) answer: Answer,
}

/// The numbers of the store after an entry.
#[derive(Clone, Copy, Debug)]
struct After {
    revision: u64,
    log_time_us: u64,
    oldest_kept: u64,
}

/// See the module.
pub(super) struct Model {
    revision: u64,
    log_time_us: u64,
    oldest_kept: u64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    deadlines: BTreeSet<(u64, Bytes)>,
    /// What it was after each index; index 1 first.
    after: Vec<After>,
    effects: HashMap<Attempt, Effect>,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            revision: 1,
            log_time_us: 0,
            oldest_kept: 1,
            keys: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            after: Vec::new(),
            effects: HashMap::new(),
        }
    }

    /// Applies the next decided entry; names the attempt that a put carries in its value.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<Attempt> {
        self.log_time_us = self.log_time_us.max(entry.stamp.log_time_us);
        while let Some((at, _)) = self.deadlines.first()
            && *at <= self.log_time_us
        {
            let (_, key) = self.deadlines.pop_first().expect("it was just seen");
            self.change(&key, None, None);
        }
        let attempt = match (entry.kind, decode_command(&entry.payload)) {
            (EntryKind::Command, Ok(command)) => self.execute(&command),
            (EntryKind::Command | EntryKind::Noop | EntryKind::Configuration, _) => None,
        };
        self.after.push(After {
            revision: self.revision,
            log_time_us: self.log_time_us,
            oldest_kept: self.oldest_kept,
        });
        attempt
    }

    fn execute(&mut self, command: &Command<'_>) -> Option<Attempt> {
        let index = self.after.len() as u64 + 1;
        match *command {
            Command::Put {
                key,
                value,
                condition,
                ttl_ms,
            } => {
                let key = Bytes::copy_from_slice(key);
                let old = self.latest(&key);
                let answer = if is_met(condition, old.as_ref()) {
                    let mod_revision = Revision(self.revision + 1);
                    let record = Record {
                        value: Bytes::copy_from_slice(value),
                        create_revision: old.as_ref().map_or(mod_revision, |old| old.create_revision),
                        mod_revision,
                        version: old.as_ref().map_or(0, |old| old.version) + 1,
                        lease: None,
                    };
                    let deadline_us = ttl_ms.map(|ttl_ms| self.log_time_us + ttl_ms * 1000);
                    self.change(&key, Some(record), deadline_us);
                    Answer::Put {
                        revision: mod_revision,
                    }
                } else {
                    failed(old.as_ref())
                };
                let attempt = Attempt::of_value(value)?;
                self.effects.insert(attempt, Effect { index, answer });
                Some(attempt)
            }
            Command::Delete { key, condition } => {
                let key = Bytes::copy_from_slice(key);
                let old = self.latest(&key);
                if old.is_some() && is_met(condition, old.as_ref()) {
                    self.change(&key, None, None);
                }
                None
            }
            Command::KeepHistoryFrom { oldest } => {
                self.oldest_kept = self.oldest_kept.max(oldest.0.min(self.revision));
                None
            }
            Command::Tick => None,
            _ => panic!("a command that nobody can propose was decided"),
        }
    }

    fn change(&mut self, key: &Bytes, record: Option<Record>, deadline_us: Option<u64>) {
        self.revision += 1;
        let versions = self.keys.entry(key.clone()).or_default();
        if let Some(old) = versions.last().and_then(|version| version.deadline_us) {
            self.deadlines.remove(&(old, key.clone()));
        }
        if let Some(at) = deadline_us {
            self.deadlines.insert((at, key.clone()));
        }
        versions.push(Version {
            since: self.revision,
            record,
            deadline_us,
        });
    }

    fn latest(&self, key: &[u8]) -> Option<Record> {
        self.keys.get(key)?.last()?.record.clone()
    }

    /// What the attempt did, if it was decided.
    pub(super) fn effect(&self, attempt: Attempt) -> Option<&Effect> {
        self.effects.get(&attempt)
    }

    /// The revision after the entry at `index`.
    pub(super) fn revision_at_index(&self, index: u64) -> Option<u64> {
        self.after_index(index).map(|after| after.revision)
    }

    /// The log time reached with the entry at `index`.
    pub(super) fn log_time_at_index(&self, index: u64) -> Option<u64> {
        self.after_index(index).map(|after| after.log_time_us)
    }

    /// The oldest kept revision after the entry at `index`.
    pub(super) fn oldest_kept_at_index(&self, index: u64) -> Option<u64> {
        self.after_index(index).map(|after| after.oldest_kept)
    }

    fn after_index(&self, index: u64) -> Option<After> {
        match index {
            0 => Some(After {
                revision: 1,
                log_time_us: 0,
                oldest_kept: 1,
            }),
            _ => self.after.get(index as usize - 1).copied(),
        }
    }

    /// The oldest revision that is agreed to be kept.
    pub(super) fn oldest_kept(&self) -> u64 {
        self.oldest_kept
    }

    /// All keys that there ever were, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.keys()
    }

    /// Keys, records and deadlines at a revision, in the order of keys.
    pub(super) fn state_at(&self, revision: u64) -> impl Iterator<Item = (&Bytes, &Record, Option<u64>)> {
        self.keys.iter().filter_map(move |(key, versions)| {
            let count = versions.partition_point(|version| version.since <= revision);
            let version = versions[..count].last()?;
            Some((key, version.record.as_ref()?, version.deadline_us))
        })
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The key as of a revision.
    pub(super) fn record_at(&self, key: &[u8], revision: u64) -> Option<Record> {
        let versions = self.keys.get(key)?;
        let count = versions.partition_point(|version| version.since <= revision);
        versions[..count].last()?.record.clone()
    }

    /// All changes of some keys at `from..=to`, in the order of keys: each with its revision and what the key became.
    pub(super) fn changes_of(
        &self,
        span: &KeySpan,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = (&Bytes, u64, Option<&Record>)> {
        let keys = self.keys.iter().filter(|(key, _)| span.contains(key));
        keys.flat_map(move |(key, versions)| {
            let first = versions.partition_point(|version| version.since < from);
            let within = versions[first..]
                .iter()
                .take_while(move |version| version.since <= to);
            within.map(move |version| (key, version.since, version.record.as_ref()))
        })
    }

    /// Did the revision delete this key?
    pub(super) fn is_deletion(&self, key: &[u8], revision: u64) -> bool {
        let version = self.keys.get(key).and_then(|versions| {
            let at = versions
                .binary_search_by_key(&revision, |version| version.since)
                .ok()?;
            versions.get(at)
        });
        version.is_some_and(|version| version.record.is_none())
    }

    /// Was the key, at some revision in `from..=to`, last changed by `current` (`None`: absent)?
    pub(super) fn was_ever(&self, key: &[u8], current: Option<Revision>, from: u64, to: u64) -> bool {
        let Some(versions) = self.keys.get(key) else {
            return current.is_none();
        };
        let first = versions.partition_point(|version| version.since <= from);
        let before = match first {
            0 => current.is_none(),
            _ => matches(&versions[first - 1], current),
        };
        before
            || versions[first..]
                .iter()
                .take_while(|version| version.since <= to)
                .any(|version| matches(version, current))
    }
}

fn matches(version: &Version, current: Option<Revision>) -> bool {
    version.record.as_ref().map(|record| record.mod_revision) == current
}

fn is_met(condition: Condition, record: Option<&Record>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => record.is_none(),
        Condition::ModRevision(revision) => record.is_some_and(|record| record.mod_revision == revision),
    }
}

fn failed(record: Option<&Record>) -> Answer {
    Answer::ConditionFailed {
        current: record.map(|record| record.mod_revision),
    }
}
