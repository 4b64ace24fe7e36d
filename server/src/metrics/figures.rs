//! All that is told at one moment, as data.

use std::time::SystemTime;

use super::{Durations, EventCounts, Requests};
use crate::replica::NodeFigures;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Consensus, state and members.
    pub(crate) node: NodeFigures,
    /// What is on the disk of the state.
    pub(crate) store: StoreFigures,
    /// Requests that were answered.
    pub(crate) requests: Requests,
    /// Bytes of those that wait.
    pub(crate) waiting_bytes: usize,
    /// What the threads beside the node's took their time for.
    pub(crate) work: WorkFigures,
    /// What the node told its operator.
    pub(crate) events: EventCounts,
    /// Connections of native clients, and of nodes that pass requests on.
    pub(crate) native_clients: usize,
    /// Watches that have begun and not ended.
    pub(crate) watches: usize,
}

/// What the HTTP thread knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HttpFigures {
    /// When this node's certificate expires; `None`: it has none.
    pub(crate) certificate_expires: Option<SystemTime>,
    /// Open connections.
    pub(crate) connections: usize,
    /// How many answers had which status.
    pub(crate) answers: Vec<(u16, u64)>,
}

/// Base and history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreFigures {
    /// Bytes of the base's tables, about.
    pub(crate) base_bytes: u64,
    /// Tables that wait to be merged.
    pub(crate) waiting_tables: usize,
    /// Bytes of history's files.
    pub(crate) history_bytes: u64,
    /// Events in history.
    pub(crate) history_events: u64,
}

/// How long work on the disk took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkFigures {
    /// Writing a batch to the log, and its sync.
    pub(crate) log_writes: Durations,
    /// Putting a generation into the base, pauses included.
    pub(crate) drains: Durations,
    /// Merging tables, a piece at a time.
    pub(crate) compactions: Durations,
}
