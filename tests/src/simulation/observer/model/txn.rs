//! What transactions do, by the rules of the data model: operations in order, each seeing those before it, a key written
//! at most once, all at one revision or nothing at all.

use std::collections::BTreeMap;

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
}

impl Model {
    pub(super) fn transact(&mut self, txn: &Txn<'_>) -> Outcome {
        let mut scratch = Scratch {
            model: self,
            written: BTreeMap::new(),
            changed: Vec::new(),
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
        let record = self.cell(&one(keys)).map(|(record, _)| record);
        let number = |of: fn(&Record) -> u64| record.as_ref().map_or(0, of);
        match *test {
            Test::Exists => record.is_some(),
            Test::Absent => record.is_none(),
            Test::Value(relation, value) => record
                .as_ref()
                .is_some_and(|record| relation.holds(&record.value[..], value)),
            Test::Version(relation, version) => relation.holds(&number(|record| record.version), &version),
            Test::CreateRevision(relation, revision) => {
                relation.holds(&number(|record| record.create_revision.0), &revision.0)
            }
            Test::ModRevision(relation, revision) => {
                relation.holds(&number(|record| record.mod_revision.0), &revision.0)
            }
            Test::Lease(relation, lease) => {
                let id = |lease: Option<LeaseId>| lease.map_or(0, |lease| lease.0);
                relation.holds(
                    &number(|record| record.lease.map_or(0, |lease| lease.0)),
                    &id(lease),
                )
            }
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
                let key = one(keys);
                let before = self.kv(&key);
                if before.is_some() {
                    self.changed.push(key.clone());
                }
                self.write(key, None)?;
                Ok(OpResult::Deleted {
                    count: u64::from(before.is_some()),
                    previous: before
                        .filter(|_| previous == Previous::Wanted)
                        .into_iter()
                        .collect(),
                })
            }
            Op::Get {
                ref keys,
                shape,
                limit,
            } => Ok(self.get(&one(keys), shape, limit)),
            Op::Txn(encoded) => {
                let txn = Txn::decode(encoded).expect("it was checked before it was proposed");
                let (branch, results) = self.run(&txn)?;
                Ok(OpResult::Txn { branch, results })
            }
        }
    }

    fn get(&self, key: &Bytes, shape: Shape, limit: Option<u32>) -> OpResult {
        let found = self.kv(key);
        let count = u64::from(found.is_some());
        let shown = found
            .filter(|_| limit != Some(0) && shape != Shape::CountOnly)
            .map(|mut kv| {
                if shape == Shape::KeysOnly {
                    kv.record.value = Bytes::new();
                }
                kv
            });
        OpResult::Got {
            kvs: shown.into_iter().collect(),
            count,
        }
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

    fn write(&mut self, key: Bytes, cell: Cell) -> Result<(), ErrorCode> {
        match self.written.insert(key, cell) {
            None => Ok(()),
            Some(_) => Err(ErrorCode::BadRequest),
        }
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
        Keys::Range { .. } => panic!("a transaction over a range was decided, which nobody can propose"),
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
