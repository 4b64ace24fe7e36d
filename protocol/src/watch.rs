//! Watches: every change of some keys, in order, without a gap and without a duplicate.
//!
//! A watch is a request with many answers, all under its id: [`WatchPart`]s, until a failure ends it. The client gives credit
//! in bytes; what it has not asked for the server does not send, and does not keep either: it reads it again from history.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Failure, HistoryEpoch, KeySpan, KeyValue, Limits, Previous, Record, Revision};

/// What a watch wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// Changes of these keys.
    pub span: KeySpan,
    /// From when on.
    pub start: WatchStart,
    /// The epoch that a revision in `start` is of; another one than the server's ends the watch with `compacted`.
    pub epoch: Option<HistoryEpoch>,
    /// Is the record before each change wanted?
    pub previous: Previous,
    /// Which changes.
    pub filter: EventFilter,
    /// What happens when changes come faster than credit.
    pub when_slow: WhenSlow,
    /// When nothing was sent for so long, a part without events tells how far the watch is; `None`: never. Milliseconds.
    pub progress_ms: Option<u32>,
    /// The first credit, bytes of keys and values; more comes with credit frames under the same id.
    pub credit_bytes: u32,
}

impl WatchRequest {
    /// Every change of `span` from now on.
    #[must_use]
    pub fn new(span: KeySpan) -> WatchRequest {
        WatchRequest {
            span,
            start: WatchStart::Now,
            epoch: None,
            previous: Previous::Unwanted,
            filter: EventFilter::All,
            when_slow: WhenSlow::EveryEvent,
            progress_ms: None,
            credit_bytes: 1 << 20,
        }
    }

    /// Checks it against the limits.
    ///
    /// # Errors
    /// `too_large` for an over-long end.
    pub fn check(&self, limits: &Limits) -> Result<(), Failure> {
        self.span.check(limits)
    }
}

/// From when on a watch sees changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchStart {
    /// Everything that is acknowledged after the watch began (the first part tells from which revision on).
    #[default]
    Now,
    /// This revision and all after it; in the future: when it comes.
    Revision(Revision),
    /// First the state as it is, then every change of it.
    Snapshot,
}

/// Which changes a watch wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventFilter {
    /// All.
    #[default]
    All,
    /// Keys that were set.
    Puts,
    /// Keys that were deleted or expired.
    Deletes,
}

/// What happens to a watch that does not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WhenSlow {
    /// It gets every event, late, from history; it ends with `compacted` when history does not keep them any more.
    #[default]
    EveryEvent,
    /// It gets each key's latest state, with a mark ([`PartKind::Conflated`]) that events between are left out.
    LatestPerKey,
    /// It ends with `watch_too_slow`.
    Drop,
}

/// One answer of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPart {
    /// What the events are.
    pub kind: PartKind,
    /// Every event up to this revision was told with this part or before it. A watch resumes at the one after.
    pub through: Revision,
    /// In order. All events of one revision are in one part.
    pub events: Vec<WatchEvent>,
}

impl WatchPart {
    /// What it takes of a watch's credit, bytes.
    #[must_use]
    pub fn credit_bytes(&self) -> u64 {
        self.events.iter().map(WatchEvent::credit_bytes).sum()
    }
}

/// What the events of a part are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartKind {
    /// A part of the state that a watch from a snapshot begins with, in key order; `through` is the state's revision only
    /// with [`PartKind::SnapshotEnd`], before it is the revision the watch would have to begin anew from (0).
    Snapshot,
    /// The last of those.
    SnapshotEnd,
    /// Changes, each of them.
    Changes,
    /// Changes, of each key the latest: events between were left out.
    Conflated,
    /// None: tells how far the watch is.
    Progress,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchEvent {
    /// The key was set.
    Put {
        /// The key and its record.
        kv: KeyValue,
        /// The record before, if wanted and there was one.
        previous: Option<Record>,
    },
    /// The key was deleted, or expired.
    Delete {
        /// The key.
        key: Bytes,
        /// The revision that did it.
        revision: Revision,
        /// The record before, if wanted.
        previous: Option<Record>,
    },
}

impl WatchEvent {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            WatchEvent::Put { kv, .. } => &kv.key,
            WatchEvent::Delete { key, .. } => key,
        }
    }

    /// What it takes of a watch's credit: bytes of its key and of its values.
    #[must_use]
    pub fn credit_bytes(&self) -> u64 {
        let (key, value, previous) = match self {
            WatchEvent::Put { kv, previous } => (&kv.key, kv.record.value.len(), previous),
            WatchEvent::Delete { key, previous, .. } => (key, 0, previous),
        };
        let previous = previous.as_ref().map_or(0, |record| record.value.len());
        (key.len() + value + previous) as u64
    }

    /// The revision of the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            WatchEvent::Put { kv, .. } => kv.record.mod_revision,
            WatchEvent::Delete { revision, .. } => *revision,
        }
    }
}
