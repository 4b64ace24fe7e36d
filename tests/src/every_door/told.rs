//! What is told, in one form for all doors.

use bytes::Bytes;
use raftkv_protocol::{
    Branch as TakenBranch, ErrorCode, KeyValue, LeaseState, OpResult, Record, Revision, TxnResult,
};

use super::ask::LeaseName;
use super::doors::Leases;

/// The most that a test may take: what a lease may have lost of its time meanwhile, milliseconds.
const LONGEST_TEST_MS: u64 = 900_000;

/// A key with its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// Its value; empty where it was not asked for.
    pub value: Bytes,
    /// The revision that created it.
    pub created: Revision,
    /// The revision that last changed it.
    pub changed: Revision,
    /// Writes since it was created.
    pub version: u64,
    /// Its lease.
    pub lease: Option<LeaseName>,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldLease {
    /// Which.
    pub name: LeaseName,
    /// How long it lives without renewal.
    pub ttl_ms: u64,
    /// How many keys hang on it.
    pub key_count: u64,
    /// Those keys, where they were asked for.
    pub keys: Vec<Bytes>,
}

/// What a branch of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Did all checks hold?
    pub succeeded: bool,
    /// Of each operation.
    pub done: Vec<Done>,
}

/// What an operation of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It put a key, where this was before, if that was wanted.
    Put(Option<Row>),
    /// It made this number.
    Sum(i64),
    /// It deleted so many keys, which were these, if that was wanted.
    Deleted(u64, Vec<Row>),
    /// It found these, of so many.
    Got(Vec<Row>, u64),
    /// It ran another one.
    Nested(Branch),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The key was set at this revision.
    Set(Revision),
    /// The condition did not hold; the key's revision now.
    ConditionFailed(Option<Revision>),
    /// What a key is.
    Found(Option<Row>),
    /// Was the key there, and the store's revision after it.
    Deleted(bool, Revision),
    /// So many keys, the store's revision after it, and what they were, if that was wanted.
    DeletedRange(u64, Revision, Vec<Row>),
    /// The number is this now.
    Sum(i64),
    /// The transaction ran; the store's revision after it.
    Transacted(Revision, Branch),
    /// A page of a range.
    Page {
        /// The revision that it is of.
        at: Revision,
        /// What it holds.
        rows: Vec<Row>,
        /// How many it passed.
        count: u64,
        /// Are there more pages?
        goes_on: bool,
    },
    /// There is no next page of that listing.
    NoPage,
    /// A lease was made, of so many milliseconds.
    Granted(u64),
    /// The lease lives so long again; `None`: there is none.
    Renewed(Option<u64>),
    /// The lease has ended, and with it so many keys.
    Revoked(u64),
    /// About a lease.
    Lease(Option<ToldLease>),
    /// About all leases.
    Leases(Vec<ToldLease>),
    /// It was refused.
    Refused(ErrorCode),
}

impl Row {
    pub(super) fn of(key: &Bytes, record: Record, leases: &Leases) -> Row {
        Row {
            key: key.clone(),
            value: record.value,
            created: record.create_revision,
            changed: record.mod_revision,
            version: record.version,
            lease: record.lease.map(|lease| leases.name(lease)),
        }
    }

    pub(super) fn all(kvs: Vec<KeyValue>, leases: &Leases) -> Vec<Row> {
        let row = |kv: KeyValue| Row::of(&kv.key, kv.record, leases);
        kvs.into_iter().map(row).collect()
    }
}

impl ToldLease {
    pub(super) fn of(state: LeaseState, leases: &Leases) -> ToldLease {
        let LeaseState {
            id,
            ttl_ms,
            remaining_ms,
            key_count,
            keys,
        } = state;
        assert!(
            remaining_ms <= ttl_ms && remaining_ms + LONGEST_TEST_MS >= ttl_ms,
            "a lease of {ttl_ms} ms lives for {remaining_ms} ms more"
        );
        ToldLease {
            name: leases.name(id),
            ttl_ms,
            key_count,
            keys,
        }
    }
}

impl Branch {
    fn of(branch: TakenBranch, results: Vec<OpResult>, leases: &Leases) -> Branch {
        let done = |result| match result {
            OpResult::Put { previous } => Done::Put(previous.map(|kv| Row::of(&kv.key, kv.record, leases))),
            OpResult::Incremented { value } => Done::Sum(value),
            OpResult::Deleted { count, previous } => Done::Deleted(count, Row::all(previous, leases)),
            OpResult::Got { kvs, count } => Done::Got(Row::all(kvs, leases), count),
            OpResult::Txn { branch, results } => Done::Nested(Branch::of(branch, results, leases)),
        };
        Branch {
            succeeded: branch == TakenBranch::Then,
            done: results.into_iter().map(done).collect(),
        }
    }
}

impl Told {
    pub(super) fn transacted(result: TxnResult, leases: &Leases) -> Told {
        Told::Transacted(result.revision, Branch::of(result.branch, result.results, leases))
    }

    /// What a set means that was asked for as [`super::ask::set_as_transaction`].
    pub(super) fn into_set(self) -> Told {
        match self {
            Told::Transacted(revision, Branch { succeeded: true, .. }) => Told::Set(revision),
            Told::Transacted(_, Branch { done, .. }) => match &done[..] {
                [Done::Got(rows, _)] => Told::ConditionFailed(rows.first().map(|row| row.changed)),
                other => panic!("a set looks at its key where the condition fails: {other:?}"),
            },
            other => other,
        }
    }
}
