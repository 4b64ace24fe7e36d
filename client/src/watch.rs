//! Watches: every change of some keys, in order, from one node after the other without a gap and without a duplicate.

mod stream;

use std::time::Duration;

use raftkv_protocol::{
    EventFilter, HistoryEpoch, KeySpan, KeyValue, Previous, Revision, WatchEvent, WatchRequest, WatchStart,
    WhenSlow,
};

use crate::client::Client;

pub use stream::Watch;

/// The server is asked to say so often that it is still there, milliseconds; see [`stream::SILENCE_LIMIT`].
const HEARTBEAT_MS: u32 = 3_000;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// The state that the watch begins with follows, key by key. It may begin anew, if a connection was lost in the middle:
    /// what was told of it before is void then.
    SnapshotBegin,
    /// A key of that state.
    Current(KeyValue),
    /// That was all of it, as of this revision; every change of it follows.
    SnapshotEnd(Revision),
    /// A key changed.
    Change(WatchEvent),
    /// The next changes are the latest of their keys only: those between were left out, as was asked for.
    Gap,
    /// Everything up to this revision was told. Only if asked for.
    Progress(Revision),
}

/// From where a watch can be continued, by any client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchPosition {
    /// Everything up to here was taken out of the stream.
    pub revision: Revision,
    /// The history that the revision is of.
    pub epoch: HistoryEpoch,
}

/// A watch that is being described; see [`Client::watch`].
#[derive(Clone, Debug)]
#[must_use = "a watch begins with its stream"]
pub struct WatchBuilder {
    client: Client,
    request: WatchRequest,
    progress: Option<Duration>,
}

impl WatchBuilder {
    pub(crate) fn new(client: Client, span: KeySpan) -> WatchBuilder {
        WatchBuilder {
            client,
            request: WatchRequest {
                progress_ms: Some(HEARTBEAT_MS),
                ..WatchRequest::new(span)
            },
            progress: None,
        }
    }

    /// First the state as it is, then every change of it.
    pub fn from_snapshot(mut self) -> WatchBuilder {
        self.request.start = WatchStart::Snapshot;
        self
    }

    /// This revision and all after it; a later one is waited for.
    pub fn from_revision(mut self, revision: Revision) -> WatchBuilder {
        self.request.start = WatchStart::Revision(revision);
        self
    }

    /// Goes on behind where another watch was.
    pub fn from_position(mut self, position: WatchPosition) -> WatchBuilder {
        self.request.start = WatchStart::Revision(Revision(position.revision.0 + 1));
        self.request.epoch = Some(position.epoch);
        self
    }

    /// With each change, the record before it.
    pub fn with_previous(mut self) -> WatchBuilder {
        self.request.previous = Previous::Wanted;
        self
    }

    /// Only such changes.
    pub fn filter(mut self, filter: EventFilter) -> WatchBuilder {
        self.request.filter = filter;
        self
    }

    /// What happens when changes come faster than they are taken out of the stream. Every event, late, unless said.
    pub fn when_slow(mut self, when_slow: WhenSlow) -> WatchBuilder {
        self.request.when_slow = when_slow;
        self
    }

    /// Tells [`WatchItem::Progress`] when nothing else was told for so long.
    pub fn progress(mut self, every: Duration) -> WatchBuilder {
        let every_ms = u32::try_from(every.as_millis()).unwrap_or(u32::MAX);
        self.request.progress_ms = Some(every_ms.clamp(1, HEARTBEAT_MS));
        self.progress = Some(every);
        self
    }

    /// How much the server may send ahead, bytes of keys and values: what one watch may hold in this process. 1 MiB unless
    /// said.
    pub fn buffer_bytes(mut self, bytes: u32) -> WatchBuilder {
        self.request.credit_bytes = bytes.max(1);
        self
    }

    /// Begins it.
    #[must_use]
    pub fn stream(self) -> Watch {
        Watch::new(self.client, self.request, self.progress)
    }
}
