//! Transactions: compare, then do one thing or the other, atomically and at one revision.
//!
//! Operations run in order, and see what those before them did. A key is written at most once per transaction; what writes
//! one twice is refused as a whole, as is one that touches too many keys or answers too much. A transaction that is refused
//! changes nothing.
//!
//! A range that is deleted counts as written, whatever keys it holds: none of them may be put by the same transaction, before
//! or after. Only deletes may overlap it; they find what is left.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::check_ttl;
use crate::kv::check_end;
use crate::{ErrorCode, Failure, KeyValue, LeaseId, Limits, Revision};

/// Most compares and operations of one transaction, both branches and what is nested in them counted; and most keys that its
/// ranges may hold together, each key counted once. The same on every node: it decides what is applied.
pub const MAX_TXN_KEYS: usize = 10_000;

/// Most bytes of keys and values that the ranges of one transaction may hold together, each key counted once. The same on every
/// node.
pub const MAX_TXN_RANGE_BYTES: usize = 32 << 20;

/// Most keys that the ranges of one transaction may pass over as it runs, a key counted for each range that holds it: else a
/// few thousand ranges of all keys would be that many times the work. The same on every node.
pub const MAX_TXN_KEYS_PASSED: usize = 5 * MAX_TXN_KEYS;

/// Most bytes of keys and values that one transaction may answer. The same on every node.
pub const MAX_TXN_ANSWER_BYTES: usize = 4 << 20;

/// How deep transactions may be nested, the outermost counted.
pub const MAX_TXN_DEPTH: usize = 8;

/// A transaction, borrowing from its encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn<'a> {
    /// What must hold, all of it, for `then` to happen.
    #[serde(borrow)]
    pub compare: Vec<Compare<'a>>,
    /// What happens if all of it holds.
    pub then: Vec<Op<'a>>,
    /// What happens if not.
    pub otherwise: Vec<Op<'a>>,
}

/// The key or the range of keys that something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keys<'a> {
    /// One key.
    One(#[serde(with = "serde_bytes")] &'a [u8]),
    /// All keys from `from`, inclusive, to `to`, exclusive.
    Range {
        /// The first; empty: of all.
        #[serde(with = "serde_bytes")]
        from: &'a [u8],
        /// `None`: to the last of all.
        #[serde(with = "serde_bytes")]
        to: Option<&'a [u8]>,
    },
}

/// A condition on a key. On a range: it must hold for each key that exists in it; where none does, it is judged as for one key
/// that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare<'a> {
    /// On which keys.
    #[serde(borrow)]
    pub keys: Keys<'a>,
    /// What must hold.
    pub test: Test<'a>,
}

/// What must hold for a key. Revisions and version of a key that does not exist are 0, and it has no value and no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test<'a> {
    /// It exists.
    Exists,
    /// It does not exist.
    Absent,
    /// Of its value, bytewise. Never holds for a key that does not exist.
    Value(Relation, #[serde(with = "serde_bytes")] &'a [u8]),
    /// Of its version.
    Version(Relation, u64),
    /// Of the revision that created it.
    CreateRevision(Relation, Revision),
    /// Of the revision that last changed it.
    ModRevision(Relation, Revision),
    /// Of the lease that it hangs on; none counts as 0.
    Lease(Relation, Option<LeaseId>),
}

/// How the key's own (on the left) relates to what was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
}

impl Relation {
    /// Does it hold between the two?
    #[must_use]
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Relation::Equal => left == right,
            Relation::NotEqual => left != right,
            Relation::Less => left < right,
            Relation::Greater => left > right,
        }
    }
}

/// How long a key lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until it is deleted.
    #[default]
    Unlimited,
    /// So many milliseconds of log time; 1 to [`MAX_TTL_MS`](crate::MAX_TTL_MS).
    Ttl {
        /// Milliseconds.
        ttl_ms: u64,
    },
    /// As long as the lease.
    Lease(LeaseId),
    /// As its record until now says; unlimited for a new key.
    Kept,
}

/// Are the records from before a change wanted in the answer?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Previous {
    /// No.
    #[default]
    Unwanted,
    /// Yes.
    Wanted,
}

/// What of each record is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// All of it.
    #[default]
    Records,
    /// All but the value.
    KeysOnly,
    /// Only how many there are.
    CountOnly,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<'a> {
    /// Sets a key.
    Put {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: &'a [u8],
        /// The value.
        #[serde(with = "serde_bytes")]
        value: &'a [u8],
        /// How long it lives.
        lifetime: Lifetime,
        /// Is the old record wanted?
        previous: Previous,
    },
    /// Adds to the number that a key's value is, in decimal ASCII digits; a key that does not exist counts as 0. Its lifetime
    /// stays. A value that is no number, and a sum beyond 64 bits, refuse the transaction.
    Increment {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: &'a [u8],
        /// What is added.
        by: i64,
    },
    /// Deletes keys.
    Delete {
        /// Which.
        #[serde(borrow)]
        keys: Keys<'a>,
        /// Are the old records wanted?
        previous: Previous,
    },
    /// Reads keys. Of a range all are counted, whatever the limit, so it is bounded as any.
    Get {
        /// Which.
        #[serde(borrow)]
        keys: Keys<'a>,
        /// What of them.
        shape: Shape,
        /// At most so many; `None`: all.
        limit: Option<u32>,
    },
    /// A transaction within this one: [`Txn`], encoded by [`Txn::encode`], so that its depth is known before it is decoded.
    Txn(#[serde(with = "serde_bytes")] &'a [u8]),
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResult {
    /// The revision it made; the store's, when it changed nothing.
    pub revision: Revision,
    /// Which of the two happened.
    pub branch: Branch,
    /// Of each operation that ran, in order.
    pub results: Vec<OpResult>,
}

impl TxnResult {
    /// Did all compares hold?
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.branch == Branch::Then
    }

    /// What the operation at this place read; nothing if it was no get.
    #[must_use]
    pub fn read(&self, place: usize) -> &[KeyValue] {
        match self.results.get(place) {
            Some(OpResult::Got { kvs, .. }) => kvs,
            _ => &[],
        }
    }
}

/// Which operations of a transaction ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Branch {
    /// All compares held.
    Then,
    /// One did not.
    Otherwise,
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    /// The key was set.
    Put {
        /// Its record before, if wanted and there was one.
        previous: Option<KeyValue>,
    },
    /// The number is now this.
    Incremented {
        /// The sum.
        value: i64,
    },
    /// So many keys were deleted.
    Deleted {
        /// How many.
        count: u64,
        /// Their records before, if wanted, in key order.
        previous: Vec<KeyValue>,
    },
    /// What was there.
    Got {
        /// In key order.
        kvs: Vec<KeyValue>,
        /// How many keys there are, whatever the limit.
        count: u64,
    },
    /// A transaction within this one.
    Txn {
        /// Which of the two happened.
        branch: Branch,
        /// Of each operation that ran.
        results: Vec<OpResult>,
    },
}

impl<'a> Txn<'a> {
    /// Its encoding, as [`Op::Txn`] holds it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        postcard::to_allocvec(self)
            .expect("plain data always encodes")
            .into()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When the bytes are not exactly one transaction.
    pub fn decode(encoded: &'a [u8]) -> Result<Txn<'a>, postcard::Error> {
        match postcard::take_from_bytes(encoded)? {
            (txn, []) => Ok(txn),
            (_, _) => Err(postcard::Error::DeserializeBadEncoding),
        }
    }

    /// Does one of its branches write a key?
    #[must_use]
    pub fn has_puts(&self) -> bool {
        self.then.iter().chain(&self.otherwise).any(|op| match op {
            Op::Put { .. } | Op::Increment { .. } => true,
            Op::Delete { .. } | Op::Get { .. } => false,
            Op::Txn(encoded) => Txn::decode(encoded).is_ok_and(|txn| txn.has_puts()),
        })
    }

    /// What a client may ask for.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), Failure> {
        self.check_at(1, &mut 0, limits)
    }

    /// `count`: compares and operations of what was checked before.
    fn check_at(&self, depth: usize, count: &mut usize, limits: &Limits) -> Result<(), Failure> {
        if depth > MAX_TXN_DEPTH {
            return Err(refused(format!(
                "transactions are nested more than {MAX_TXN_DEPTH} deep"
            )));
        }
        *count += self.compare.len() + self.then.len() + self.otherwise.len();
        if *count > MAX_TXN_KEYS {
            return Err(Failure::new(
                ErrorCode::TooLarge,
                format!("the transaction has more than {MAX_TXN_KEYS} compares and operations"),
            ));
        }
        for compare in &self.compare {
            check_keys(&compare.keys, limits)?;
            if let Test::Value(_, value) = compare.test {
                limits.check_value(value)?;
            }
        }
        let mut ops = self.then.iter().chain(&self.otherwise);
        ops.try_for_each(|op| check_op(op, depth, count, limits))
    }
}

fn check_op(op: &Op<'_>, depth: usize, count: &mut usize, limits: &Limits) -> Result<(), Failure> {
    match op {
        Op::Put {
            key, value, lifetime, ..
        } => {
            limits.check_key(key)?;
            limits.check_value(value)?;
            match lifetime {
                Lifetime::Ttl { ttl_ms } => check_ttl(*ttl_ms),
                Lifetime::Lease(LeaseId(0)) => Err(refused("there is no lease 0".to_owned())),
                _ => Ok(()),
            }
        }
        Op::Increment { key, .. } => limits.check_key(key),
        Op::Delete { keys, .. } | Op::Get { keys, .. } => check_keys(keys, limits),
        Op::Txn(encoded) => Txn::decode(encoded)
            .map_err(|error| refused(format!("a nested transaction is not valid: {error}")))?
            .check_at(depth + 1, count, limits),
    }
}

fn check_keys(keys: &Keys<'_>, limits: &Limits) -> Result<(), Failure> {
    match keys {
        Keys::One(key) => limits.check_key(key),
        Keys::Range { from, to } => {
            check_end(from, limits)?;
            to.map_or(Ok(()), |to| check_end(to, limits))
        }
    }
}

fn refused(message: String) -> Failure {
    Failure::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(key: &[u8]) -> Op<'_> {
        Op::Get {
            keys: Keys::One(key),
            shape: Shape::Records,
            limit: None,
        }
    }

    fn of(op: Op<'_>) -> Txn<'_> {
        Txn {
            then: vec![op],
            ..Txn::default()
        }
    }

    fn refusal(txn: &Txn<'_>) -> ErrorCode {
        txn.check(&Limits::default()).expect_err("refused").code
    }

    fn nested(depth: usize) -> Bytes {
        let mut encoded = Txn::default().encode();
        for _ in 1..depth {
            let txn = Txn {
                then: vec![Op::Txn(&encoded)],
                ..Txn::default()
            };
            encoded = txn.encode();
        }
        encoded
    }

    #[test]
    fn a_transaction_is_as_deep_as_the_limit_and_no_deeper() {
        let limits = Limits::default();
        let (deepest, deeper) = (nested(MAX_TXN_DEPTH), nested(MAX_TXN_DEPTH + 1));
        assert_eq!(Txn::decode(&deepest).expect("one").check(&limits), Ok(()));
        assert_eq!(
            refusal(&Txn::decode(&deeper).expect("one")),
            ErrorCode::BadRequest
        );
        assert_eq!(
            refusal(&Txn {
                otherwise: vec![Op::Txn(b"?")],
                ..Txn::default()
            }),
            ErrorCode::BadRequest
        );
    }

    #[test]
    fn operations_are_counted_wherever_they_are_nested() {
        let half = Txn {
            then: vec![get(b"k"); MAX_TXN_KEYS / 2],
            ..Txn::default()
        };
        assert_eq!(half.check(&Limits::default()), Ok(()));
        let encoded = half.encode();
        let whole = Txn {
            otherwise: vec![Op::Txn(&encoded); 2],
            ..Txn::default()
        };
        assert_eq!(refusal(&whole), ErrorCode::TooLarge);
    }

    #[test]
    fn times_to_live_of_nothing_and_keys_of_nothing_are_bad_requests() {
        let put = |lifetime| Op::Put {
            key: b"k",
            value: b"v",
            lifetime,
            previous: Previous::Unwanted,
        };
        for op in [
            put(Lifetime::Ttl { ttl_ms: 0 }),
            put(Lifetime::Lease(LeaseId(0))),
            Op::Increment { key: b"", by: 1 },
        ] {
            assert_eq!(refusal(&of(op)), ErrorCode::BadRequest);
        }
    }

    #[test]
    fn an_end_of_a_range_is_bounded_as_keys_are() {
        let limits = Limits {
            key_bytes: 4,
            ..Limits::default()
        };
        let delete = |from, to| {
            of(Op::Delete {
                keys: Keys::Range { from, to },
                previous: Previous::Unwanted,
            })
        };
        // Everything; the key just behind the longest; nothing at all.
        for (from, to) in [(&b""[..], None), (b"", Some(&b"aaaa\0"[..])), (b"b", Some(b"a"))] {
            assert_eq!(delete(from, to).check(&limits), Ok(()));
        }
        for (from, to) in [(&b"123456"[..], None), (b"", Some(&b"123456"[..]))] {
            let refused = delete(from, to).check(&limits).expect_err("over-long");
            assert_eq!(refused.code, ErrorCode::TooLarge);
            let compare = Compare {
                keys: Keys::Range { from, to },
                test: Test::Absent,
            };
            let compared = Txn {
                compare: vec![compare],
                ..Txn::default()
            };
            assert!(compared.check(&limits).is_err());
        }
    }
}
