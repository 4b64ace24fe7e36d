//! How the loop tells watches what was recorded, and lets them begin.

use raftkv_protocol::{ErrorCode, Failure, RequestId, Response, Revision, WatchRequest, WatchStart};

use super::super::ServerError;
use super::super::pending::{Origin, Waiting};
use super::super::watch_desk::SaidBefore;
use super::super::watch_feed::{Beginning, Sink, WatchKey};
use super::NodeLoop;
use crate::replica::WatchBegin;
use crate::store::base::Base;
use crate::store::history::EventBlock;
use crate::watch::{Begin, Start};

impl NodeLoop {
    /// History has them before the watches are told: what these are not told they read there.
    pub(super) fn record(&self, events: EventBlock) {
        if self.watches.feed().watching() == 0 {
            self.store.record(events);
            return;
        }
        let term = self.node.raft().map_or(0, |raft| raft.term().0);
        self.store.record(events.clone());
        self.watches.feed().recorded(events, term);
    }

    /// Hands a watch over to its thread.
    pub(super) fn begin_watch(&mut self, begin: WatchBegin) -> Result<(), ServerError> {
        let WatchBegin {
            token,
            mut request,
            header,
            snapshot,
        } = begin;
        let waiting = self.inbox.pending().remove(token);
        let Some(Waiting {
            origin,
            asking,
            since,
        }) = waiting
        else {
            tracing::error!(?token, "a watch began twice; this is a defect of the server");
            return Ok(());
        };
        let took = self.answered_at.since(since);
        let max = self.context.bounds.max_watches;
        if self.watches.feed().watching() >= max {
            self.requests.record(asking, Some(ErrorCode::Overloaded), took);
            let message =
                format!("this node has {max} watches, which is as many as it may have; ask another one");
            let outcome = Err(Failure::new(ErrorCode::Overloaded, message));
            self.deliver(origin, Response { header, outcome });
            return Ok(());
        }
        self.requests.record(asking, None, took);
        let Some((key, sink)) = self.sink_of(origin, &mut request) else {
            return Ok(());
        };
        let start = match request.start {
            WatchStart::Now => Start::From(Revision(header.revision.0 + 1)),
            WatchStart::Revision(from) => Start::From(from),
            WatchStart::Snapshot => Start::Snapshot(header.revision),
        };
        let snapshot = match snapshot {
            Some(pinned) => Some((pinned, self.store.files().base.view()?)),
            None => None,
        };
        self.watches.feed().begin(Beginning {
            key,
            begin: Begin {
                request,
                start,
                head: header.revision,
                connection: key.connection,
            },
            header,
            snapshot,
            sink,
        });
        Ok(())
    }

    /// Where the watch's parts go; `None`: its client has gone, or wants no more of it.
    fn sink_of(&self, origin: Origin, request: &mut WatchRequest) -> Option<(WatchKey, Sink)> {
        match origin {
            Origin::NativeWatch { outbox, request: id } => {
                outbox.note_begun();
                let key = WatchKey {
                    connection: outbox.connection(),
                    request: id,
                };
                match self.watches.begin(key) {
                    SaidBefore::Cancelled => return None,
                    SaidBefore::Credit(bytes) => {
                        request.credit_bytes = request.credit_bytes.saturating_add(bytes);
                    }
                }
                Some((key, Sink::Outbox))
            }
            Origin::Watch(watcher) => {
                let key = WatchKey {
                    connection: watcher.connection,
                    request: RequestId(0),
                };
                // Who has gone is found out with the first part.
                let _ = watcher.feed.send(self.watches.feed().clone());
                Some((key, Sink::Channel(watcher.answers)))
            }
            Origin::Native { .. } | Origin::Call(_) => {
                unreachable!("a watch is asked for where answers can be many")
            }
        }
    }
}
