//! What is asked, in the terms of no door.

use bytes::Bytes;
use raftkv_protocol::{Condition, KeySpan, Order, Previous, Relation, Revision, Shape};

/// A lease by its place among those that were granted; a place that none has names a lease that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseName(pub usize);

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until it is deleted.
    Unlimited,
    /// So many milliseconds.
    Ttl(u64),
    /// As long as a lease.
    Lease(LeaseName),
    /// As it would have: of a put in a transaction alone.
    Kept,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Sets a key.
    Set {
        /// Which.
        key: Bytes,
        /// To what.
        value: Bytes,
        /// When it may happen.
        condition: Condition,
        /// How long it lives.
        life: Life,
    },
    /// Reads a key.
    Get {
        /// Which.
        key: Bytes,
        /// As of when; `None`: now.
        at: Option<Revision>,
    },
    /// Deletes a key.
    Delete {
        /// Which.
        key: Bytes,
        /// When it may happen.
        condition: Condition,
    },
    /// Deletes all keys of a range.
    DeleteRange {
        /// Which.
        span: KeySpan,
        /// Are the old records wanted?
        previous: Previous,
    },
    /// Adds to a number.
    Increment {
        /// Which.
        key: Bytes,
        /// What is added.
        by: i64,
    },
    /// Runs a transaction.
    Transact(Transaction),
    /// Reads the first page of a range.
    List(Listing),
    /// Reads the next page of the listing that was asked for at this place among all.
    GoOn(usize),
    /// Makes a lease of so many milliseconds.
    Grant(u64),
    /// Renews a lease.
    Renew(LeaseName),
    /// Ends a lease.
    Revoke(LeaseName),
    /// Tells about a lease and its keys.
    Lease(LeaseName),
    /// Tells about all leases.
    Leases,
}

/// A listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Which keys.
    pub span: KeySpan,
    /// In which order.
    pub order: Order,
    /// What of them.
    pub shape: Shape,
    /// As of when; `None`: now.
    pub at: Option<Revision>,
    /// So many keys a page; `None`: all at once.
    pub limit: Option<u32>,
}

/// One key or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One.
    One(Bytes),
    /// A range.
    Span(KeySpan),
}

/// What must hold for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It exists.
    Exists,
    /// It does not.
    Absent,
    /// Of its value.
    Value(Relation, Bytes),
    /// Of its version.
    Version(Relation, u64),
    /// Of the revision that created it.
    Created(Relation, Revision),
    /// Of the revision that last changed it.
    Changed(Relation, Revision),
    /// Of its lease.
    Lease(Relation, Option<LeaseName>),
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold.
    pub checks: Vec<(Keys, Test)>,
    /// What happens then.
    pub then: Vec<Operation>,
    /// What happens if not.
    pub otherwise: Vec<Operation>,
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put {
        /// Which.
        key: Bytes,
        /// To what.
        value: Bytes,
        /// How long it lives.
        life: Life,
        /// Is the old record wanted?
        previous: Previous,
    },
    /// Adds to a number.
    Increment {
        /// Which.
        key: Bytes,
        /// What is added.
        by: i64,
    },
    /// Deletes keys.
    Delete {
        /// Which.
        keys: Keys,
        /// Are the old records wanted?
        previous: Previous,
    },
    /// Reads keys.
    Get {
        /// Which.
        keys: Keys,
        /// What of them.
        shape: Shape,
        /// At most so many.
        limit: Option<u32>,
    },
    /// One within this one.
    Nested(Transaction),
}

/// The set of a key as a transaction: for what a plain set does not know at a door.
pub(super) fn set_as_transaction(
    key: &Bytes,
    value: &Bytes,
    condition: Condition,
    life: Life,
) -> Transaction {
    let keys = || Keys::One(key.clone());
    let check = match condition {
        Condition::Always => None,
        Condition::Absent => Some((keys(), Test::Absent)),
        Condition::ModRevision(revision) => Some((keys(), Test::Changed(Relation::Equal, revision))),
    };
    let put = Operation::Put {
        key: key.clone(),
        value: value.clone(),
        life,
        previous: Previous::Unwanted,
    };
    let look = Operation::Get {
        keys: keys(),
        shape: Shape::KeysOnly,
        limit: None,
    };
    Transaction {
        checks: check.into_iter().collect(),
        then: vec![put],
        otherwise: vec![look],
    }
}
