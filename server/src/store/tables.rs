//! What memory holds all of, though it is in the base too: deadlines, leases with what hangs on them, sessions, and the
//! names of writes. Their rows are read once, at the start or when a snapshot came.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{LeaseId, SessionId};
use raftkv_raft::Index;

use super::base::{BaseView, Row};
use super::error::StoreError;
use super::key::Key;
use super::leases::{ChangedLeases, StoredLease};
use super::once::Remembered;
use super::outcome::Outcome;
use super::rows;
use super::sessions::Session;
use super::state::damaged;

/// As a version of the base holds them.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Keys that expire by themselves, and when.
    pub(super) deadlines: Vec<(u64, Key)>,
    pub(super) leases: Vec<(LeaseId, StoredLease)>,
    pub(super) attached: Vec<(LeaseId, Key)>,
    pub(super) sessions: Vec<(SessionId, Session)>,
    pub(super) remembered: Vec<(Index, Remembered)>,
}

impl Tables {
    /// The deadlines of keys, ascending.
    pub fn deadlines(&self) -> impl Iterator<Item = (u64, &Key)> {
        self.deadlines
            .iter()
            .map(|(deadline_us, key)| (*deadline_us, key))
    }

    /// The leases with their time to live and their deadlines, ascending.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, u64, u64)> {
        let leases = self.leases.iter();
        leases.map(|(id, lease)| (*id, lease.ttl_ms, lease.deadline_us))
    }

    /// What hangs on leases, ascending.
    pub fn attached(&self) -> impl Iterator<Item = (LeaseId, &Key)> {
        self.attached.iter().map(|(id, key)| (*id, key))
    }

    /// The sessions with their deadlines, and what their unacknowledged writes came to, by sequence.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, u64, BTreeMap<u64, Outcome>)> {
        let sessions = self.sessions.iter();
        sessions.map(|(id, session)| (*id, session.deadline_us, session.outcomes()))
    }

    /// What was executed under idempotency keys, by the index of its entry: the key, and what it came to.
    pub fn remembered(&self) -> impl Iterator<Item = (Index, &[u8], Outcome)> {
        let remembered = self.remembered.iter();
        remembered.map(|(index, one)| (*index, one.key(), one.outcome()))
    }
}

/// All tables that a version of the base holds.
///
/// # Errors
/// Of the base, or when a row is damaged.
pub fn tables_in(view: &impl BaseView) -> Result<Tables, StoreError> {
    let too_short = "a row's key is too short";
    let deadline = |key: &[u8], _: &[u8]| rows::deadline_of_row(key).ok_or(too_short);
    let lease = |key: &[u8], value: &[u8]| {
        let id = rows::number_of_row(key).ok_or(too_short)?;
        Ok((LeaseId(id), StoredLease::decode(value)?))
    };
    let attached = |key: &[u8], _: &[u8]| rows::attached_of_row(key).ok_or(too_short);
    let session = |key: &[u8], value: &[u8]| {
        let id = rows::number_of_row(key).ok_or(too_short)?;
        Ok((SessionId(id), Session::decode(value)?))
    };
    let remembered = |key: &[u8], value: &[u8]| {
        let index = rows::number_of_row(key).and_then(Index::new);
        Ok((
            index.ok_or("a row's key has no index")?,
            Remembered::decode(value)?,
        ))
    };
    Ok(Tables {
        deadlines: table(view, rows::DEADLINES, deadline)?,
        leases: table(view, rows::LEASES, lease)?,
        attached: table(view, rows::ATTACHED, attached)?,
        sessions: table(view, rows::SESSIONS, session)?,
        remembered: table(view, rows::REMEMBERED, remembered)?,
    })
}

fn table<T>(
    view: &impl BaseView,
    space: u8,
    decode: impl Fn(&[u8], &[u8]) -> Result<T, &'static str>,
) -> Result<Vec<T>, StoreError> {
    let decoded = |row: Result<(Bytes, Bytes), StoreError>| {
        let (key, value) = row?;
        decode(&key, &value).map_err(damaged)
    };
    view.range(&[space], Some(&[space + 1])).map(decoded).collect()
}

/// What a generation changed of leases, sessions and names of writes, as of its end. What hangs on leases is told by the
/// records.
#[derive(Debug, Default)]
pub(super) struct ChangedTables {
    pub(super) leases: ChangedLeases,
    pub(super) sessions: Vec<Row>,
    pub(super) remembered: Vec<Row>,
    /// Memory that all of it holds, about.
    pub(super) size_bytes: u64,
}

impl ChangedTables {
    /// Their rows, ascending.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        let others = self.sessions.iter().chain(&self.remembered).cloned();
        self.leases.rows().chain(others)
    }
}
