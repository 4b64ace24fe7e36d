//! What a transaction would do, found out before anything changes: so one that is refused half-way has changed nothing.
//!
//! Each operation sees what those before it did. A key is written at most once, so the record beneath a planned change is
//! always the store's own. What a range holds is what was there before the entry (`ranges.rs`) and is there still, and what
//! was put into it since.

use std::borrow::Cow;

use bytes::Bytes;
use raftkv_protocol::{
    Branch, Compare, ErrorCode, Failure, KeyValue, Keys, LeaseId, Lifetime, MAX_TXN_ANSWER_BYTES,
    MAX_TXN_KEYS_PASSED, Op, OpResult, Previous, Record, Revision, Shape, Test, Txn,
};
use raftkv_raft::simulation::{mark, mutant};

use super::leases::MAX_KEYS_PER_LEASE;
use super::lookup::Truth;
use super::machine::Store;
use super::needs::nested;
use super::written::{Fate, Written};

/// What becomes of one key.
#[derive(Debug)]
pub(super) enum Change<'a> {
    /// It is set.
    Put {
        value: Cow<'a, [u8]>,
        deadline_us: Option<u64>,
        lease: Option<LeaseId>,
    },
    /// It was there.
    Delete,
}

/// A transaction that can be carried out.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// In the order of the operations, each key once.
    pub(super) changes: Vec<(Cow<'a, [u8]>, Change<'a>)>,
    pub(super) branch: Branch,
    pub(super) results: Vec<OpResult>,
}

impl<'a> Plan<'a> {
    /// Plans `txn` over what `store` holds; memory has all that it depends on.
    ///
    /// # Errors
    /// Why all of it is refused; the same on every node.
    pub(super) fn of(store: &Store, txn: &Txn<'a>) -> Result<Plan<'a>, Failure> {
        store.check_ranges()?;
        let mut planner = Planner {
            store,
            revision: Revision(store.revision.0 + 1),
            changes: Vec::new(),
            written: Written::default(),
            answer_bytes: 0,
            keys_passed: 0,
        };
        let (branch, results) = planner.run(txn)?;
        Ok(Plan {
            changes: planner.changes,
            branch,
            results,
        })
    }
}

struct Planner<'s, 'a> {
    store: &'s Store,
    /// That of the changes.
    revision: Revision,
    changes: Vec<(Cow<'a, [u8]>, Change<'a>)>,
    written: Written<'a>,
    /// Of keys and values in the results.
    answer_bytes: usize,
    /// By ranges.
    keys_passed: usize,
}

/// A key as the next operation sees it, but for its creation and version.
struct Current<'c> {
    value: &'c [u8],
    mod_revision: Revision,
    deadline_us: Option<u64>,
    lease: Option<LeaseId>,
}

impl<'a> Planner<'_, 'a> {
    fn run(&mut self, txn: &Txn<'a>) -> Result<(Branch, Vec<OpResult>), Failure> {
        let holds = self.all_hold(&txn.compare)? || mutant("branch_taken_without_its_compares");
        let (branch, ops) = match holds {
            true => (Branch::Then, &txn.then),
            false => {
                mark("transaction: the other branch ran");
                (Branch::Otherwise, &txn.otherwise)
            }
        };
        let results: Result<Vec<_>, _> = ops.iter().map(|op| self.run_op(op)).collect();
        Ok((branch, results?))
    }

    fn all_hold(&mut self, compares: &[Compare<'a>]) -> Result<bool, Failure> {
        for Compare { keys, test } in compares {
            let holds = match *keys {
                Keys::One(key) => self.passes(Some(key), test),
                Keys::Range { from, to } => match &self.keys_in(from, to)?[..] {
                    [] => self.passes(None, test),
                    keys => keys.iter().all(|key| self.passes(Some(key), test)),
                },
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does the test hold for this key; `None`: for one that does not exist?
    fn passes(&self, key: Option<&[u8]>, test: &Test<'_>) -> bool {
        let current = || key.and_then(|key| self.current(key));
        let record = || key.and_then(|key| self.record(key));
        let number = |of: fn(&Record) -> u64| record().as_ref().map_or(0, of);
        match *test {
            Test::Exists => current().is_some(),
            Test::Absent => current().is_none(),
            Test::Value(relation, value) => {
                current().is_some_and(|current| relation.holds(current.value, value))
            }
            Test::Version(relation, version) => relation.holds(&number(|record| record.version), &version),
            Test::CreateRevision(relation, Revision(revision)) => {
                relation.holds(&number(|record| record.create_revision.0), &revision)
            }
            Test::ModRevision(relation, revision) => relation.holds(
                &current().map_or(Revision(0), |current| current.mod_revision),
                &revision,
            ),
            Test::Lease(relation, lease) => {
                let number = |lease: Option<LeaseId>| lease.map_or(0, |lease| lease.0);
                let current = current().and_then(|current| current.lease);
                relation.holds(&number(current), &number(lease))
            }
        }
    }

    fn run_op(&mut self, op: &Op<'a>) -> Result<OpResult, Failure> {
        match op {
            Op::Put {
                key,
                value,
                lifetime,
                previous,
            } => self.put(key, value, *lifetime, *previous),
            Op::Increment { key, by } => self.increment(key, *by),
            Op::Delete { keys, previous } => match *keys {
                Keys::One(key) => self.delete(key, *previous),
                Keys::Range { from, to } => self.delete_range((from, to), *previous),
            },
            Op::Get { keys, shape, limit } => self.get(*keys, *shape, *limit),
            Op::Txn(encoded) => {
                mark("transaction: one within another ran");
                let (branch, results) = self.run(&nested(encoded))?;
                Ok(OpResult::Txn { branch, results })
            }
        }
    }

    fn put(
        &mut self,
        key: &'a [u8],
        value: &'a [u8],
        lifetime: Lifetime,
        previous: Previous,
    ) -> Result<OpResult, Failure> {
        let previous = self.previous(key, previous)?;
        let (deadline_us, lease) = match lifetime {
            Lifetime::Unlimited => (None, None),
            Lifetime::Ttl { ttl_ms } => (Some(self.store.deadline_after(ttl_ms)), None),
            Lifetime::Lease(id) => (None, Some(self.live_lease(id)?)),
            Lifetime::Kept => self.lifetime_of(key),
        };
        let change = Change::Put {
            value: Cow::Borrowed(value),
            deadline_us,
            lease,
        };
        self.change(key, change)?;
        Ok(OpResult::Put { previous })
    }

    fn increment(&mut self, key: &'a [u8], by: i64) -> Result<OpResult, Failure> {
        let old = match self.current(key) {
            Some(current) => number_in(current.value).ok_or_else(|| not_a_number("a value is no number"))?,
            None => 0,
        };
        let by = if mutant("increment_done_twice") {
            by * 2
        } else {
            by
        };
        let sum = old.checked_add(by);
        let sum = sum.ok_or_else(|| not_a_number("a sum is no number of 64 bits"))?;
        let (deadline_us, lease) = self.lifetime_of(key);
        let change = Change::Put {
            value: Cow::Owned(sum.to_string().into_bytes()),
            deadline_us,
            lease,
        };
        self.change(key, change)?;
        Ok(OpResult::Incremented { value: sum })
    }

    fn delete(&mut self, key: &'a [u8], previous: Previous) -> Result<OpResult, Failure> {
        let previous = self.previous(key, previous)?;
        let is_there = self.current(key).is_some();
        self.written.delete(key)?;
        if is_there {
            self.changes.push((Cow::Borrowed(key), Change::Delete));
        }
        Ok(OpResult::Deleted {
            count: u64::from(is_there),
            previous: previous.into_iter().collect(),
        })
    }

    fn delete_range(
        &mut self,
        (from, to): (&'a [u8], Option<&'a [u8]>),
        previous: Previous,
    ) -> Result<OpResult, Failure> {
        let keys = self.keys_in(from, to)?;
        let mut records = Vec::new();
        for key in &keys {
            records.extend(self.previous(key, previous)?);
        }
        self.written.delete_range(from, to)?;
        let count = keys.len() as u64;
        let deletes = keys.iter().map(|key| (Cow::Owned(key.to_vec()), Change::Delete));
        self.changes.extend(deletes);
        Ok(OpResult::Deleted {
            count,
            previous: records,
        })
    }

    fn get(&mut self, keys: Keys<'a>, shape: Shape, limit: Option<u32>) -> Result<OpResult, Failure> {
        let keys = match keys {
            Keys::One(key) if self.current(key).is_some() => vec![Bytes::copy_from_slice(key)],
            Keys::One(_) => Vec::new(),
            Keys::Range { from, to } => self.keys_in(from, to)?,
        };
        let shown = match shape {
            Shape::CountOnly => 0,
            Shape::Records | Shape::KeysOnly => limit.map_or(usize::MAX, |limit| limit as usize),
        };
        let mut kvs = Vec::new();
        for key in keys.iter().take(shown) {
            let record = self.record(key);
            let found = record.map(|record| KeyValue {
                key: key.clone(),
                record: match shape {
                    Shape::KeysOnly => Record {
                        value: Bytes::new(),
                        ..record
                    },
                    Shape::Records | Shape::CountOnly => record,
                },
            });
            kvs.extend(self.answered(found)?);
        }
        Ok(OpResult::Got {
            kvs,
            count: keys.len() as u64,
        })
    }

    /// The keys of a range that are there, ascending.
    fn keys_in(&mut self, from: &[u8], to: Option<&[u8]>) -> Result<Vec<Bytes>, Failure> {
        let stored = self.store.gathered_in(from, to);
        let put: Vec<Bytes> = self
            .written
            .put_in(from, to)
            .map(Bytes::copy_from_slice)
            .collect();
        self.keys_passed += 1 + stored.len() + put.len();
        if self.keys_passed > MAX_TXN_KEYS_PASSED {
            let message = format!(
                "the ranges of the transaction pass more than {MAX_TXN_KEYS_PASSED} keys, one counted for each range that holds \
                 it; nothing was changed. Name fewer or narrower ranges"
            );
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let mut keys: Vec<Bytes> = stored.iter().cloned().chain(put).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.current(key).is_some());
        Ok(keys)
    }

    /// The key's record from before a change, if it is wanted.
    fn previous(&mut self, key: &[u8], previous: Previous) -> Result<Option<KeyValue>, Failure> {
        match previous {
            Previous::Unwanted => Ok(None),
            Previous::Wanted => {
                let found = self.record(key).map(|record| KeyValue {
                    key: Bytes::copy_from_slice(key),
                    record,
                });
                self.answered(found)
            }
        }
    }

    /// Counts what goes into the answer.
    fn answered(&mut self, found: Option<KeyValue>) -> Result<Option<KeyValue>, Failure> {
        let bytes = found
            .as_ref()
            .map_or(0, |kv| kv.key.len() + kv.record.value.len());
        self.answer_bytes += bytes;
        if self.answer_bytes > MAX_TXN_ANSWER_BYTES {
            let message = format!(
                "the transaction would answer more than {MAX_TXN_ANSWER_BYTES} bytes of keys and values; nothing was changed"
            );
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        Ok(found)
    }

    /// A key is put.
    fn change(&mut self, key: &'a [u8], change: Change<'a>) -> Result<(), Failure> {
        self.written
            .put(key, self.changes.len())
            .inspect_err(|_| mark("transaction: refused half-way"))?;
        self.changes.push((Cow::Borrowed(key), change));
        Ok(())
    }

    /// Deadline and lease of the record until now.
    fn lifetime_of(&self, key: &[u8]) -> (Option<u64>, Option<LeaseId>) {
        let current = self.current(key);
        current.map_or((None, None), |current| (current.deadline_us, current.lease))
    }

    fn live_lease(&self, id: LeaseId) -> Result<LeaseId, Failure> {
        if self.store.leases.get(id).is_none() {
            return Err(lease_not_found(id));
        }
        if self.store.leases.key_count(id) >= MAX_KEYS_PER_LEASE {
            let message = format!(
                "on lease {id} hang {MAX_KEYS_PER_LEASE} keys, the most that may; nothing was changed"
            );
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        Ok(id)
    }

    /// What becomes of a key as far as it is planned; `None`: nothing.
    fn planned(&self, key: &[u8]) -> Option<&Change<'a>> {
        if mutant("operation_blind_to_those_before") {
            return None;
        }
        match self.written.fate(key) {
            Fate::Untouched => None,
            Fate::Put(place) => Some(&self.changes[place].1),
            Fate::Gone => Some(&Change::Delete),
        }
    }

    fn current(&self, key: &[u8]) -> Option<Current<'_>> {
        match self.planned(key) {
            Some(Change::Delete) => None,
            Some(Change::Put {
                value,
                deadline_us,
                lease,
            }) => Some(Current {
                value,
                mod_revision: self.revision,
                deadline_us: *deadline_us,
                lease: *lease,
            }),
            None => match self.store.truth(key) {
                Truth::Absent => None,
                Truth::Live(stored) => Some(Current {
                    value: &stored.value,
                    mod_revision: stored.mod_revision,
                    deadline_us: stored.deadline_us,
                    lease: stored.lease,
                }),
                Truth::Unknown => unreachable!("an entry waits for the records that it depends on"),
            },
        }
    }

    /// The whole record of a key as the next operation sees it.
    fn record(&self, key: &[u8]) -> Option<Record> {
        let stored = match self.store.whole(key) {
            Truth::Live(stored) => stored.record(),
            Truth::Absent => None,
            Truth::Unknown => unreachable!("an entry waits for the records that it depends on"),
        };
        match self.planned(key) {
            None => stored,
            Some(Change::Delete) => None,
            Some(Change::Put { value, lease, .. }) => Some(Record {
                value: Bytes::copy_from_slice(value),
                create_revision: stored.as_ref().map_or(self.revision, |old| old.create_revision),
                mod_revision: self.revision,
                version: stored.map_or(0, |old| old.version) + 1,
                lease: *lease,
            }),
        }
    }
}

/// The number that a value is, in decimal digits, with a minus or no sign.
fn number_in(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

fn not_a_number(what: &str) -> Failure {
    Failure::new(ErrorCode::NotANumber, format!("{what}; nothing was changed"))
}

pub(super) fn lease_not_found(id: LeaseId) -> Failure {
    let message = format!("there is no lease {id} (any more); nothing was changed");
    Failure::new(ErrorCode::LeaseNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_digits_and_nothing_else() {
        for (value, number) in [
            (&b"0"[..], Some(0)),
            (b"-7", Some(-7)),
            (b"007", Some(7)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"9223372036854775808", None),
            (b"+7", None),
            (b" 7", None),
            (b"7\n", None),
            (b"0x7", None),
            (b"", None),
            (b"-", None),
            (b"\xff", None),
        ] {
            assert_eq!(number_in(value), number, "{value:?}");
        }
    }
}
