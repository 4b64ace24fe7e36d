//! The commands that tenants send. Where it can be, each attempt's is unlike any other (a value, a summand, an id that
//! names it), so that what is decided tells whose it was.

use std::cell::RefCell;

use bytes::Bytes;
use fastrand::Rng;
use raftkv_protocol::{
    CheckedCommand, Command, Compare, Condition, Keys, LeaseId, Lifetime, Limits, Op, Previous, Relation,
    Revision, Shape, Test, Txn,
};

use crate::simulation::observer::Attempt;

/// Seeds of ranges begin here.
const RANGES: u64 = 1 << 32;

/// No tenant is ever granted a lease of this id or above, up to those that the server chooses.
const NO_LEASE: u64 = 1 << 40;

/// What goes into commands beside what is drawn.
pub(super) struct Material<'a> {
    pub(super) attempt: Attempt,
    pub(super) keys: u8,
    pub(super) padding: usize,
    /// The latest lease that the tenant was granted.
    pub(super) lease: Option<LeaseId>,
    /// The highest revision that was shown.
    pub(super) revision: u64,
    pub(super) leases: &'a [LeaseId],
}

pub(super) fn number_key(key: u8) -> Bytes {
    format!("number{key}").into()
}

pub(super) fn text_key(key: u8) -> Bytes {
    format!("text{key}").into()
}

pub(super) fn checked(command: &Command<'_>) -> CheckedCommand {
    CheckedCommand::new(command, &Limits::default()).expect("drawn within the limits")
}

impl Material<'_> {
    fn value(&self) -> Bytes {
        self.attempt.value(self.padding)
    }

    pub(super) fn put(&self, key: u8) -> CheckedCommand {
        checked(&Command::Put {
            key: &text_key(key),
            value: &self.value(),
            condition: Condition::Always,
            ttl_ms: None,
        })
    }

    pub(super) fn delete(&self, key: u8) -> CheckedCommand {
        let key = text_key(key);
        let delete = Op::Delete {
            keys: Keys::One(&key),
            previous: Previous::Wanted,
        };
        checked(&Command::Txn(Txn {
            then: vec![delete],
            ..Txn::default()
        }))
    }

    pub(super) fn increment(&self, key: u8) -> CheckedCommand {
        let key = number_key(key);
        let increment = Op::Increment {
            key: &key,
            by: self.attempt.0 as i64,
        };
        checked(&Command::Txn(Txn {
            then: vec![increment],
            ..Txn::default()
        }))
    }

    /// The same bytes from whoever sends it, but for the key.
    pub(super) fn named(&self, name: u8, key: u8) -> CheckedCommand {
        let key = number_key(key);
        let increment = Op::Increment { key: &key, by: 1 };
        let command = checked(&Command::Txn(Txn {
            then: vec![increment],
            ..Txn::default()
        }));
        checked(&Command::Once {
            idempotency_key: format!("name{name}").as_bytes(),
            command: command.encoded(),
        })
    }

    pub(super) fn hang(&self, key: u8) -> Option<CheckedCommand> {
        let (key, value) = (text_key(key), self.value());
        let put = Op::Put {
            key: &key,
            value: &value,
            lifetime: Lifetime::Lease(self.lease?),
            previous: Previous::Unwanted,
        };
        Some(checked(&Command::Txn(Txn {
            then: vec![put],
            ..Txn::default()
        })))
    }

    pub(super) fn renew(&self) -> Option<CheckedCommand> {
        let mut ids = self.leases.to_vec();
        (!ids.is_empty()).then_some(())?;
        ids.push(LeaseId(NO_LEASE + self.attempt.0));
        Some(checked(&Command::RenewLeases { ids }))
    }

    /// Compares and operations over several keys, now and then one within another.
    pub(super) fn transact(&self, draw: u32) -> CheckedCommand {
        let rng = &mut Rng::with_seed(u64::from(draw));
        // Ranges are drawn apart, so that all else of a draw is what it was before there were any.
        let ranges = RefCell::new(Rng::with_seed(RANGES + u64::from(draw)));
        let (texts, numbers): (Vec<Bytes>, Vec<Bytes>) =
            (0..self.keys).map(|key| (text_key(key), number_key(key))).unzip();
        let value = self.value();
        let from = Source {
            texts: &texts,
            numbers: &numbers,
            value: &value,
            material: self,
            ranges,
        };
        let inner = from.txn(rng, None).encode();
        let inner = (rng.u32(..5) == 0).then_some(&inner[..]);
        checked(&Command::Txn(from.txn(rng, inner)))
    }
}

/// What operations borrow from.
struct Source<'a> {
    texts: &'a [Bytes],
    numbers: &'a [Bytes],
    value: &'a Bytes,
    material: &'a Material<'a>,
    ranges: RefCell<Rng>,
}

impl<'a> Source<'a> {
    fn txn(&self, rng: &mut Rng, inner: Option<&'a [u8]>) -> Txn<'a> {
        let compare = (0..rng.usize(..3)).map(|_| self.compare(rng)).collect();
        let mut then: Vec<Op<'a>> = (0..rng.usize(1..5)).map(|_| self.op(rng)).collect();
        let mut otherwise: Vec<Op<'a>> = (0..rng.usize(..4)).map(|_| self.op(rng)).collect();
        for branch in [&mut then, &mut otherwise] {
            branch.extend(inner.map(Op::Txn));
        }
        Txn {
            compare,
            then,
            otherwise,
        }
    }

    fn key(&self, rng: &mut Rng) -> &'a [u8] {
        let all = if rng.bool() { self.texts } else { self.numbers };
        &all[rng.usize(..all.len())]
    }

    /// A key; one time in four a range, of the tenants' own keys: what other clients hold is not theirs to delete.
    fn keys(&self, rng: &mut Rng) -> Keys<'a> {
        let one = self.key(rng);
        let rng = &mut *self.ranges.borrow_mut();
        if rng.u32(..4) != 0 {
            return Keys::One(one);
        }
        let (from, to): (&[u8], &[u8]) = match rng.u32(..8) {
            0 => (b"number", b"texu"),
            1 => (b"number", b"numbes"),
            2 => (b"text", b"texu"),
            // Often empty, and of any kind.
            3 => (one, self.key(rng)),
            _ => (one, if one.starts_with(b"n") { b"numbes" } else { b"texu" }),
        };
        match from < to {
            true => Keys::Range { from, to: Some(to) },
            false => Keys::One(one),
        }
    }

    fn compare(&self, rng: &mut Rng) -> Compare<'a> {
        let relations = [
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ];
        let relation = relations[rng.usize(..4)];
        let revision = Revision(self.material.revision.saturating_sub(rng.u64(..20)));
        let test = match rng.u32(..8) {
            0 => Test::Exists,
            1 => Test::Absent,
            2 => Test::Value(relation, b"5"),
            3 => Test::Version(relation, rng.u64(..4)),
            4 => Test::CreateRevision(relation, revision),
            5 | 6 => Test::ModRevision(relation, revision),
            _ => Test::Lease(relation, self.material.lease),
        };
        Compare {
            keys: self.keys(rng),
            test,
        }
    }

    fn op(&self, rng: &mut Rng) -> Op<'a> {
        let previous = match rng.bool() {
            true => Previous::Wanted,
            false => Previous::Unwanted,
        };
        match rng.u32(..10) {
            0..3 => Op::Put {
                key: &self.texts[rng.usize(..self.texts.len())],
                value: self.value,
                lifetime: self.lifetime(rng),
                previous,
            },
            3 => Op::Put {
                key: &self.numbers[rng.usize(..self.numbers.len())],
                value: if rng.u32(..8) == 0 { b"no number" } else { b"41" },
                lifetime: self.lifetime(rng),
                previous,
            },
            4..6 => Op::Increment {
                key: &self.numbers[rng.usize(..self.numbers.len())],
                by: 1 + (self.material.attempt.0 & 0xffff) as i64,
            },
            6 => Op::Delete {
                keys: self.keys(rng),
                previous,
            },
            _ => Op::Get {
                keys: self.keys(rng),
                shape: [Shape::Records, Shape::Records, Shape::KeysOnly, Shape::CountOnly][rng.usize(..4)],
                limit: [None, None, Some(0), Some(1)][rng.usize(..4)],
            },
        }
    }

    fn lifetime(&self, rng: &mut Rng) -> Lifetime {
        match (rng.u32(..8), self.material.lease) {
            (0, _) => Lifetime::Ttl {
                ttl_ms: rng.u64(1..2_000),
            },
            (1, _) => Lifetime::Kept,
            (2..4, Some(lease)) => Lifetime::Lease(lease),
            _ => Lifetime::Unlimited,
        }
    }
}
