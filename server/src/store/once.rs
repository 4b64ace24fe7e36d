//! Idempotency keys: a command under a key that was used lately is not executed again, but answered as it was.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, Failure, Revision};
use raftkv_raft::Index;
use raftkv_raft::simulation::{mark, mutant};
use serde::{Deserialize, Serialize};

use super::base::Row;
use super::effects::EffectsHash;
use super::outcome::{Kept, MAX_KEPT_BYTES, Outcome};
use super::rows;

/// Most keys that are remembered; beyond that the oldest are forgotten first.
pub(super) const MAX_REMEMBERED: usize = 100_000;
/// How long a key is remembered, microseconds of log time: a day.
const REMEMBERED_US: u64 = 24 * 3600 * 1_000_000;
/// Most bytes of outcomes that are remembered.
const MAX_BYTES: usize = 256 << 20;

const FORMAT_VERSION: u8 = 1;

/// Memory that a row costs beside its key and its outcome, about.
const ROW_BYTES: u64 = 96;

/// One idempotency key, as its row holds it: the row's key is the index of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    key: Vec<u8>,
    /// It is forgotten at this log time, microseconds.
    until_us: u64,
    /// Of the command's bytes.
    fingerprint: u64,
    kept: Kept,
}

/// On disk: a version byte, then this in postcard. A released struct never changes.
#[derive(Serialize, Deserialize)]
struct Version1 {
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    until_us: u64,
    fingerprint: u64,
    #[serde(with = "serde_bytes")]
    outcome: Vec<u8>,
}

impl Remembered {
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.kept.outcome()
    }

    fn encode(&self) -> Bytes {
        let version_1 = Version1 {
            key: self.key.clone(),
            until_us: self.until_us,
            fingerprint: self.fingerprint,
            outcome: self.kept.encode(),
        };
        let encoded = postcard::to_extend(&version_1, vec![FORMAT_VERSION]);
        encoded.expect("numbers and bytes always encode").into()
    }

    /// Reads a row's value back.
    ///
    /// # Errors
    /// A sentence when the bytes are none of this version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Remembered, &'static str> {
        let (version, rest) = bytes.split_first().ok_or("an idempotency key's row is empty")?;
        if *version != FORMAT_VERSION {
            return Err("an idempotency key of another format version");
        }
        let read: Version1 = postcard::from_bytes(rest).map_err(|_| "an idempotency key does not decode")?;
        Ok(Remembered {
            key: read.key,
            until_us: read.until_us,
            fingerprint: read.fingerprint,
            kept: Kept::decode(&read.outcome)?,
        })
    }
}

/// What a command's bytes are told apart by: of equal bytes equal on every machine.
pub(super) fn fingerprint(command: &[u8]) -> u64 {
    let mut hash = EffectsHash::EMPTY;
    hash.add_bytes(command);
    hash.value()
}

/// The keys used lately.
///
/// # Invariants
/// * `order` has each of `by_index` once, ascending, and so have the log times at which they are forgotten: log time never
///   falls.
/// * `by_key` says the same as `by_index`.
#[derive(Debug, Default)]
pub(super) struct OnceTable {
    by_index: BTreeMap<Index, Remembered>,
    by_key: BTreeMap<Vec<u8>, Index>,
    kept_bytes: usize,
    /// Remembered or forgotten since the generation began, in the order in which that happened.
    changed: VecDeque<Index>,
    /// What the rows of these will hold, at most.
    changed_bytes: u64,
}

impl OnceTable {
    /// As a base holds them.
    pub(super) fn restored(remembered: Vec<(Index, Remembered)>) -> OnceTable {
        let mut restored = OnceTable::default();
        if mutant("idempotency_keys_lost_at_a_restart") {
            return restored;
        }
        for (index, one) in remembered {
            restored.kept_bytes += one.kept.size_bytes();
            restored.by_key.insert(one.key.clone(), index);
            restored.by_index.insert(index, one);
        }
        restored
    }

    /// What is answered to a command of this fingerprint under this key; `None`: it is to be executed.
    pub(super) fn find(&self, key: &[u8], fingerprint: u64) -> Option<Outcome> {
        let remembered = self.by_index.get(self.by_key.get(key)?)?;
        if remembered.fingerprint == fingerprint || mutant("idempotency_key_taken_for_the_command") {
            mark("idempotency key: command answered again");
            return Some(remembered.kept.outcome());
        }
        mark("idempotency key: another command refused");
        Some(Err(Failure::new(
            ErrorCode::IdempotencyConflict,
            "another request was executed under the same idempotency key; this one was not",
        )))
    }

    /// The command of the entry `index` was executed under `key`.
    pub(super) fn remember(
        &mut self,
        index: Index,
        (key, fingerprint): (&[u8], u64),
        log_time_us: u64,
        outcome: &Outcome,
        revision: Revision,
    ) {
        let kept = Kept::of(outcome, revision, MAX_KEPT_BYTES);
        self.kept_bytes += kept.size_bytes();
        self.changed_bytes += ROW_BYTES + (key.len() + kept.size_bytes()) as u64;
        let remembered = Remembered {
            key: key.to_vec(),
            until_us: log_time_us.saturating_add(REMEMBERED_US),
            fingerprint,
            kept,
        };
        self.by_key.insert(remembered.key.clone(), index);
        self.by_index.insert(index, remembered);
        self.changed.push_back(index);
        while self.by_index.len() > MAX_REMEMBERED || self.kept_bytes > MAX_BYTES {
            self.forget_first();
        }
    }

    /// When the oldest is forgotten, microseconds of log time.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.by_index.first_key_value().map(|(_, first)| first.until_us)
    }

    /// Forgets the oldest.
    pub(super) fn forget_first(&mut self) {
        if let Some((index, first)) = self.by_index.pop_first() {
            self.kept_bytes -= first.kept.size_bytes();
            self.by_key.remove(&first.key);
            self.changed.push_back(index);
            self.changed_bytes += ROW_BYTES;
        }
    }

    /// Memory that its drain will hold on to for what changed since the generation began, at most.
    pub(super) fn changed_bytes(&self) -> u64 {
        self.changed_bytes
    }

    /// The rows of what the generation that ends now changed, ascending.
    pub(super) fn take_changed(&mut self) -> Vec<Row> {
        self.changed_bytes = 0;
        let mut changed: Vec<Index> = std::mem::take(&mut self.changed).into();
        changed.sort_unstable();
        changed.dedup();
        let row = |index: Index| Row {
            key: rows::once_row(index),
            value: self.by_index.get(&index).map(Remembered::encode),
        };
        changed.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_protocol::Answer;

    fn index(index: u64) -> Index {
        Index::new(index).expect("not 0")
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let mut table = OnceTable::default();
        let outcome = Ok(Answer::Put {
            revision: Revision(3),
        });
        table.remember(index(5), (b"key", 0x1234), 0, &outcome, Revision(3));
        let rows = table.take_changed();
        let value = rows[0].value.as_ref().expect("it is remembered");
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01036b657980c0ddeec102b424020003");
        let read = Remembered::decode(value).expect("just encoded");
        assert_eq!(Some(&read), table.by_index.get(&index(5)));
        for length in 0..value.len() {
            assert!(Remembered::decode(&value[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut table = OnceTable::default();
        let outcome = Ok(Answer::SessionDone);
        for at in 1..=MAX_REMEMBERED as u64 + 1 {
            table.remember(index(at), (&at.to_le_bytes(), at), at, &outcome, Revision(1));
        }
        assert_eq!(table.find(&1_u64.to_le_bytes(), 1), None);
        assert_eq!(table.find(&2_u64.to_le_bytes(), 2), Some(Ok(Answer::SessionDone)));
        let conflict = table
            .find(&2_u64.to_le_bytes(), 3)
            .expect("it is remembered")
            .unwrap_err();
        assert_eq!(conflict.code, ErrorCode::IdempotencyConflict);
        assert_eq!(table.next_us(), Some(2 + REMEMBERED_US));
        assert_eq!(table.take_changed().len(), MAX_REMEMBERED + 1);
    }
}
