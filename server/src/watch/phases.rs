//! What one watch is doing.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{Revision, WhenSlow};
use raftkv_raft::Time;

use super::groups::GroupNumber;
use super::{ConnectionId, WatchId};

/// One watch. Small: a node has tens of thousands.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) group: GroupNumber,
    pub(super) connection: ConnectionId,
    pub(super) when_slow: WhenSlow,
    /// After so long without a part it is told how far it is.
    pub(super) progress: Option<Duration>,
    pub(super) last_sent: Time,
    /// When it is looked at next.
    pub(super) timer: Time,
    /// Bytes that it takes; below zero when the last part was more than it had asked for.
    pub(super) credit: i64,
    pub(super) phase: Phase,
}

/// See the module `watch`.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Gets the state that it begins with.
    Snapshot(Box<Snapshot>),
    /// Lacks events from `next` on, which stand in history.
    Behind { next: Revision, reading: Reading },
    /// Wants nothing before a revision that has not come.
    Future { next: Revision },
    /// Has every event up to the hub's head.
    Live,
}

/// Could a watch that is behind take what is read?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is among those that the next windows are for.
    Ready,
    /// It has no credit, or its connection takes no more.
    Starved,
}

/// The state that a watch begins with, as far as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Revision,
    /// The last key that was sent.
    pub(super) after: Option<Bytes>,
    /// The state is given back then, unless a page was taken.
    pub(super) held_until: Time,
    /// Is a page being read?
    pub(super) is_read: bool,
}

/// What a connection's watches have on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub(super) watches: BTreeSet<WatchId>,
    /// Bytes that its outbox has not passed on yet, about.
    pub(super) queued_bytes: u64,
    /// Watches that wait for the outbox.
    pub(super) starved: BTreeSet<WatchId>,
}
