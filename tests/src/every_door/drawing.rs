//! Random sequences of operations, which come upon each other: few keys, and revisions that were told.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use raftkv_protocol::{Condition, KeySpan, Limits, Order, Previous, Relation, Revision, Shape};

use super::ask::{Ask, Keys, LeaseName, Life, Listing, Operation, Test, Transaction};
use super::told::Told;

const KEYS: [&[u8]; 9] = [
    b"a",
    b"a/1",
    b"a/1\0",
    b"a/2",
    b"b+ %?/#",
    b"b\xff",
    b"n",
    b"n2",
    b"\xff\xfe",
];

const VALUES: [&[u8]; 7] = [
    b"",
    b"v",
    b"7",
    b"-3",
    b"\0\xff any \"bytes\"",
    b"9223372036854775806",
    &[b'x'; 300],
];

/// Where ranges begin and end.
const ENDS: [&[u8]; 7] = [b"", b"a", b"a/", b"a/2", b"b", b"n", b"\xff"];

/// Nothing expires while a test runs.
const HOUR_MS: u64 = 3_600_000;

/// One in so many keys is none that can be.
const BAD_KEY: u32 = 60;

/// And one in so many values; these are large.
const BAD_VALUE: u32 = 400;

/// And one in so many times to live.
const BAD_TTL: u32 = 15;

/// Draws what to ask next.
#[derive(Debug)]
pub struct Drawing {
    rng: Rng,
    /// The newest revision that was told.
    revision: u64,
    /// The newest of each key that was.
    changed: BTreeMap<Bytes, Revision>,
    granted: usize,
    listings: usize,
    /// Is there nothing yet in the request that refuses it by itself? Of several faults each door may name another.
    is_sound: bool,
}

impl Drawing {
    /// The same sequence for the same seed and answers.
    #[must_use]
    pub fn new(seed: u64) -> Drawing {
        Drawing {
            rng: Rng::with_seed(seed),
            revision: 1,
            changed: BTreeMap::new(),
            granted: 0,
            listings: 0,
            is_sound: true,
        }
    }

    /// The next request.
    pub fn next_ask(&mut self) -> Ask {
        self.is_sound = true;
        match self.rng.u32(..24) {
            0..6 => Ask::Set {
                key: self.key(),
                value: self.value(),
                condition: self.condition(),
                life: self.life(),
            },
            6..9 => Ask::Get {
                key: self.key(),
                at: self.at(),
            },
            9 => self.delete(),
            10 => Ask::DeleteRange {
                span: self.span(),
                previous: self.previous(),
            },
            11 => Ask::Increment {
                key: self.key(),
                by: self.addend(),
            },
            12..17 => Ask::Transact(self.transaction(2)),
            17 | 18 => Ask::List(self.listing()),
            19 => Ask::GoOn(self.rng.usize(..=self.listings)),
            20 => Ask::Grant(self.ttl_ms()),
            21 => Ask::Renew(self.lease()),
            22 => match self.rng.u32(..3) {
                0 => Ask::Revoke(self.lease()),
                _ => Ask::Lease(self.lease()),
            },
            _ => Ask::Leases,
        }
    }

    /// What it came to.
    pub fn note(&mut self, ask: &Ask, told: &Told) {
        match (ask, told) {
            (Ask::Set { key, .. }, Told::Set(revision)) => {
                self.changed.insert(key.clone(), *revision);
            }
            (Ask::Get { key, at: None }, Told::Found(Some(row))) => {
                self.changed.insert(key.clone(), row.changed);
            }
            (Ask::List(_), _) => self.listings += 1,
            (Ask::Grant(_), Told::Granted(_)) => self.granted += 1,
            _ => {}
        }
        let revision = match told {
            Told::Set(revision) | Told::Deleted(_, revision) | Told::DeletedRange(_, revision, _) => {
                *revision
            }
            Told::Transacted(revision, _) => *revision,
            _ => return,
        };
        self.revision = self.revision.max(revision.0);
    }

    fn delete(&mut self) -> Ask {
        let key = self.key();
        let condition = match self.condition() {
            Condition::Absent => Condition::Always,
            other => other,
        };
        Ask::Delete { key, condition }
    }

    /// Once in so many times, and once in a request.
    fn is_fault(&mut self, one_in: u32) -> bool {
        let is_fault = self.is_sound && self.rng.u32(..one_in) == 0;
        self.is_sound &= !is_fault;
        is_fault
    }

    fn key(&mut self) -> Bytes {
        match self.is_fault(BAD_KEY) {
            true if self.rng.bool() => Bytes::new(),
            true => vec![b'k'; Limits::default().key_bytes + 1].into(),
            false => Bytes::from_static(KEYS[self.rng.usize(..KEYS.len())]),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.is_fault(BAD_VALUE) {
            true => vec![b'v'; Limits::default().value_bytes + 1].into(),
            false => Bytes::from_static(VALUES[self.rng.usize(..VALUES.len())]),
        }
    }

    /// A revision that was, or will be next.
    fn revision(&mut self) -> Revision {
        Revision(self.rng.u64(1..=self.revision + 1))
    }

    fn changed(&mut self) -> Revision {
        let told: Vec<Revision> = self.changed.values().copied().collect();
        match told.is_empty() {
            true => self.revision(),
            false => told[self.rng.usize(..told.len())],
        }
    }

    fn at(&mut self) -> Option<Revision> {
        match self.rng.u32(..3) {
            0 if self.is_fault(8) => Some(Revision(0)),
            0 => Some(self.revision()),
            _ => None,
        }
    }

    fn condition(&mut self) -> Condition {
        match self.rng.u32(..6) {
            0 => Condition::Absent,
            1 => Condition::ModRevision(self.changed()),
            2 => Condition::ModRevision(self.revision()),
            _ => Condition::Always,
        }
    }

    fn lease(&mut self) -> LeaseName {
        LeaseName(self.rng.usize(..=self.granted))
    }

    fn ttl_ms(&mut self) -> u64 {
        match self.is_fault(BAD_TTL) {
            true if self.rng.bool() => 0,
            true => 200 * 365 * 24 * HOUR_MS,
            false => HOUR_MS + self.rng.u64(..1000),
        }
    }

    fn life(&mut self) -> Life {
        match self.rng.u32(..6) {
            0 => Life::Ttl(self.ttl_ms()),
            1 => Life::Lease(self.lease()),
            _ => Life::Unlimited,
        }
    }

    fn span(&mut self) -> KeySpan {
        let end = |rng: &mut Rng| Bytes::from_static(ENDS[rng.usize(..ENDS.len())]);
        match self.rng.bool() {
            true => KeySpan::prefix(&end(&mut self.rng)),
            false => KeySpan {
                from: end(&mut self.rng),
                to: self.rng.bool().then(|| end(&mut self.rng)),
            },
        }
    }

    fn keys(&mut self) -> Keys {
        match self.rng.u32(..5) {
            0..3 => Keys::One(self.key()),
            _ => Keys::Span(self.span()),
        }
    }

    fn shape(&mut self) -> Shape {
        [Shape::Records, Shape::Records, Shape::KeysOnly, Shape::CountOnly][self.rng.usize(..4)]
    }

    fn previous(&mut self) -> Previous {
        match self.rng.bool() {
            true => Previous::Wanted,
            false => Previous::Unwanted,
        }
    }

    fn addend(&mut self) -> i64 {
        match self.rng.u32(..10) {
            0 => i64::MAX,
            1 => i64::MIN,
            _ => self.rng.i64(-5..6),
        }
    }

    fn listing(&mut self) -> Listing {
        Listing {
            span: self.span(),
            order: match self.rng.bool() {
                true => Order::Ascending,
                false => Order::Descending,
            },
            shape: self.shape(),
            at: self.at(),
            limit: self.rng.bool().then(|| self.rng.u32(..4)),
        }
    }

    fn transaction(&mut self, depth: u32) -> Transaction {
        let checks = self.rng.usize(..3);
        let [then, otherwise] = [self.rng.usize(..4), self.rng.usize(..3)];
        Transaction {
            checks: (0..checks).map(|_| (self.keys(), self.test())).collect(),
            then: (0..then).map(|_| self.operation(depth)).collect(),
            otherwise: (0..otherwise).map(|_| self.operation(depth)).collect(),
        }
    }

    fn test(&mut self) -> Test {
        let relations = [
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ];
        let relation = relations[self.rng.usize(..4)];
        match self.rng.u32(..7) {
            0 => Test::Exists,
            1 => Test::Absent,
            2 => Test::Value(relation, self.value()),
            3 => Test::Version(relation, self.rng.u64(..4)),
            4 => Test::Created(relation, self.changed()),
            5 => Test::Changed(relation, self.changed()),
            _ => {
                let lease = self.rng.bool().then(|| self.lease());
                // Ids are each store's own: which of two is less says nothing, but that none is less than any.
                let relation = match (relation, lease) {
                    (Relation::Less | Relation::Greater, Some(_)) => Relation::NotEqual,
                    (relation, _) => relation,
                };
                Test::Lease(relation, lease)
            }
        }
    }

    fn operation(&mut self, depth: u32) -> Operation {
        match self.rng.u32(..10) {
            0..4 => Operation::Put {
                key: self.key(),
                value: self.value(),
                life: match self.rng.u32(..4) {
                    0 => Life::Kept,
                    _ => self.life(),
                },
                previous: self.previous(),
            },
            4 => Operation::Increment {
                key: self.key(),
                by: self.addend(),
            },
            5 => Operation::Delete {
                keys: self.keys(),
                previous: self.previous(),
            },
            6 if depth > 0 => Operation::Nested(self.transaction(depth - 1)),
            _ => Operation::Get {
                keys: self.keys(),
                shape: self.shape(),
                limit: (self.rng.u32(..3) == 0).then(|| self.rng.u32(..3)),
            },
        }
    }
}
