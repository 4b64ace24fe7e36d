//! What transactions do, by the rules of the data model: operations in order, each seeing those before it, a key written
//! at most once, all at one revision or nothing at all. A range that is deleted counts as written, whatever it holds: none of
//! its keys is put before or after, and only deletes may overlap it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftkv_protocol::{
    Answer, Branch, Compare, ErrorCode, KeyValue, Keys, LeaseId, Lifetime, Op, OpResult, Previous, Record,
    Revision, Shape, Test, Txn, TxnResult,
};

use super::{Model, Outcome};

/// What a key is: its record and its deadline.
type Cell = Option<(Record, Option<u64>)>;

/// A transaction half-way.
struct Scratch<'m> {
    model: &'m Model,
    /// Keys that were written, and what they are now.
    written: BTreeMap<Bytes, Cell>,
    /// In this order.
    changed: Vec<Bytes>,
    /// Keys that were deleted by their name, and ranges that were.
    deleted: BTreeSet<Bytes>,
    cleared: Vec<Span>,
}

/// From a key, inclusive, to another, exclusive; `None`: to the last of all.
type Span = (Bytes, Option<Bytes>);

fn holds_key((from, to): &Span, key: &[u8]) -> bool {
    key >= &from[..] && to.as_ref().is_none_or(|to| key < &to[..])
}

impl Model {
    pub(super) fn transact(&mut self, txn: &Txn<'_>) -> Outcome {
        let mut scratch = Scratch {
            model: self,
            written: BTreeMap::new(),
            changed: Vec::new(),
            deleted: BTreeSet::new(),
            cleared: Vec::new(),
        };
        let (branch, results) = scratch.run(txn)?;
        let Scratch {
            mut written, changed, ..
        } = scratch;
        if !changed.is_empty() {
            self.revision += 1;
        }
        for key in changed {
            match written.remove(&key).flatten() {
                Some((record, deadline_us)) => self.set(&key, Some(record), deadline_us),
                None => self.set(&key, None, None),
            }
        }
        Ok(Answer::Txn(TxnResult {
            revision: Revision(self.revision),
            branch,
            results,
        }))
    }
}

impl Scratch<'_> {
    fn run(&mut self, txn: &Txn<'_>) -> Result<(Branch, Vec<OpResult>), ErrorCode> {
        let (branch, ops) = match txn.compare.iter().all(|compare| self.holds(compare)) {
            true => (Branch::Then, &txn.then),
            false => (Branch::Otherwise, &txn.otherwise),
        };
        let results: Result<Vec<OpResult>, ErrorCode> = ops.iter().map(|op| self.op(op)).collect();
        Ok((branch, results?))
    }

    fn holds(&self, Compare { keys, test }: &Compare<'_>) -> bool {
        let found = self.present(keys);
        match &found[..] {
            [] => passes(None, test),
            kvs => kvs.iter().all(|kv| passes(Some(&kv.record), test)),
        }
    }

    fn op(&mut self, op: &Op<'_>) -> Result<OpResult, ErrorCode> {
        match *op {
            Op::Put {
                key,
                value,
                lifetime,
                previous,
            } => {
                let key = Bytes::copy_from_slice(key);
                let before = self.kv(&key).filter(|_| previous == Previous::Wanted);
                let (deadline_us, lease) = self.lifetime(&key, lifetime)?;
                self.put(&key, Bytes::copy_from_slice(value), (deadline_us, lease))?;
                Ok(OpResult::Put { previous: before })
            }
            Op::Increment { key, by } => {
                let key = Bytes::copy_from_slice(key);
                let number = match self.cell(&key) {
                    None => 0,
                    Some((record, _)) => number_in(&record.value).ok_or(ErrorCode::NotANumber)?,
                };
                let sum = i64::try_from(number + i128::from(by)).map_err(|_| ErrorCode::NotANumber)?;
                let lifetime = self.lifetime(&key, Lifetime::Kept)?;
                self.put(&key, sum.to_string().into(), lifetime)?;
                Ok(OpResult::Incremented { value: sum })
            }
            Op::Delete { ref keys, previous } => {
                let found = self.present(keys);
                match span(keys) {
                    Some(span) => self.clear(span)?,
                    None => self.write(one(keys), None)?,
                }
                for kv in &found {
                    self.written.insert(kv.key.clone(), None);
                    self.changed.push(kv.key.clone());
                }
                Ok(OpResult::Deleted {
                    count: found.len() as u64,
                    previous: match previous {
                        Previous::Wanted => found,
                        Previous::Unwanted => Vec::new(),
                    },
                })
            }
            Op::Get {
                ref keys,
                shape,
                limit,
            } => Ok(self.get(keys, shape, limit)),
            Op::Txn(encoded) => {
                let txn = Txn::decode(encoded).expect("it was checked before it was proposed");
                let (branch, results) = self.run(&txn)?;
                Ok(OpResult::Txn { branch, results })
            }
        }
    }

    fn get(&self, keys: &Keys<'_>, shape: Shape, limit: Option<u32>) -> OpResult {
        let found = self.present(keys);
        let count = found.len() as u64;
        let shown = match shape {
            Shape::CountOnly => 0,
            Shape::Records | Shape::KeysOnly => limit.map_or(found.len(), |limit| limit as usize),
        };
        let kvs = found.into_iter().take(shown).map(|mut kv| {
            if shape == Shape::KeysOnly {
                kv.record.value = Bytes::new();
            }
            kv
        });
        OpResult::Got {
            kvs: kvs.collect(),
            count,
        }
    }

    /// What there is of these keys now, ascending.
    fn present(&self, keys: &Keys<'_>) -> Vec<KeyValue> {
        let Some(span) = span(keys) else {
            return self.kv(&one(keys)).into_iter().collect();
        };
        let known = self.model.keys.keys().chain(self.written.keys());
        let inside: BTreeSet<&Bytes> = known.filter(|key| holds_key(&span, key)).collect();
        inside.into_iter().filter_map(|key| self.kv(key)).collect()
    }

    /// A range is deleted: nothing in it may have been put.
    fn clear(&mut self, span: Span) -> Result<(), ErrorCode> {
        let mut puts = self.written.iter().filter(|(_, cell)| cell.is_some());
        if puts.any(|(key, _)| holds_key(&span, key)) {
            return Err(ErrorCode::BadRequest);
        }
        self.cleared.push(span);
        Ok(())
    }

    /// What a put gives its key of deadline and lease.
    fn lifetime(&self, key: &Bytes, lifetime: Lifetime) -> Result<(Option<u64>, Option<LeaseId>), ErrorCode> {
        match lifetime {
            Lifetime::Unlimited => Ok((None, None)),
            Lifetime::Ttl { ttl_ms } => Ok((Some(self.model.log_time_us + ttl_ms * 1000), None)),
            Lifetime::Lease(id) if self.model.leases.now(&id).is_none() => Err(ErrorCode::LeaseNotFound),
            Lifetime::Lease(id) => Ok((None, Some(id))),
            Lifetime::Kept => Ok(self
                .cell(key)
                .map_or((None, None), |(record, deadline_us)| (deadline_us, record.lease))),
        }
    }

    fn put(
        &mut self,
        key: &Bytes,
        value: Bytes,
        (deadline_us, lease): (Option<u64>, Option<LeaseId>),
    ) -> Result<(), ErrorCode> {
        let revision = Revision(self.model.revision + 1);
        let old = self.cell(key).map(|(record, _)| record);
        let record = Record {
            value,
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(0, |old| old.version) + 1,
            lease,
        };
        self.changed.push(key.clone());
        self.write(key.clone(), Some((record, deadline_us)))
    }

    /// A key is put or deleted by its name: once.
    fn write(&mut self, key: Bytes, cell: Cell) -> Result<(), ErrorCode> {
        let known = self.written.get(&key);
        let is_free = match cell {
            Some(_) => known.is_none() && !self.cleared.iter().any(|span| holds_key(span, &key)),
            None => known.is_none_or(Option::is_none) && self.deleted.insert(key.clone()),
        };
        if !is_free {
            return Err(ErrorCode::BadRequest);
        }
        self.written.insert(key, cell);
        Ok(())
    }

    fn cell(&self, key: &Bytes) -> Cell {
        match self.written.get(key) {
            Some(cell) => cell.clone(),
            None => self.model.cell(key),
        }
    }

    fn kv(&self, key: &Bytes) -> Option<KeyValue> {
        let (record, _) = self.cell(key)?;
        let key = key.clone();
        Some(KeyValue { key, record })
    }
}

fn one(keys: &Keys<'_>) -> Bytes {
    match keys {
        Keys::One(key) => Bytes::copy_from_slice(key),
        Keys::Range { .. } => unreachable!("a range was told from a key before"),
    }
}

/// The range, if it is one.
fn span(keys: &Keys<'_>) -> Option<Span> {
    match keys {
        Keys::One(_) => None,
        Keys::Range { from, to } => Some((Bytes::copy_from_slice(from), to.map(Bytes::copy_from_slice))),
    }
}

/// Does a record, or none, pass a test?
fn passes(record: Option<&Record>, test: &Test<'_>) -> bool {
    let number = |of: fn(&Record) -> u64| record.map_or(0, of);
    match *test {
        Test::Exists => record.is_some(),
        Test::Absent => record.is_none(),
        Test::Value(relation, value) => record.is_some_and(|record| relation.holds(&record.value[..], value)),
        Test::Version(relation, version) => relation.holds(&number(|record| record.version), &version),
        Test::CreateRevision(relation, revision) => {
            relation.holds(&number(|record| record.create_revision.0), &revision.0)
        }
        Test::ModRevision(relation, revision) => {
            relation.holds(&number(|record| record.mod_revision.0), &revision.0)
        }
        Test::Lease(relation, lease) => relation.holds(
            &number(|record| record.lease.map_or(0, |lease| lease.0)),
            &lease.map_or(0, |lease| lease.0),
        ),
    }
}

/// Decimal digits with a minus or no sign, of at most 64 bits.
fn number_in(value: &[u8]) -> Option<i128> {
    let (sign, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_i128, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        let number = number * 10 + digit;
        (number <= 1 << 64).then_some(number)
    })?;
    let number = sign * number;
    i64::try_from(number).ok().map(i128::from)
}
