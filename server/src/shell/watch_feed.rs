//! What the watch thread is told, and how.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use raftkv_protocol::{Failure, Header, RequestId, Response, Revision, WatchControl};
use tokio::sync::mpsc::UnboundedSender;

use super::store_workers::StoreFiles;
use crate::store::Pinned;
use crate::store::base::LsmView;
use crate::store::history::EventBlock;
use crate::watch::{Begin, ConnectionId};

/// Events that wait for the watch thread, bytes. Beyond, it is told nothing and reads them from history, so that a disk which
/// holds it up costs no memory.
const MAX_QUEUED_BYTES: u64 = 16 << 20;

/// A watch, as its client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WatchKey {
    pub(crate) connection: ConnectionId,
    pub(crate) request: RequestId,
}

/// Where a watch's parts go.
#[derive(Debug)]
pub(super) enum Sink {
    /// The outbox of its native connection.
    Outbox,
    /// Another thread.
    Channel(UnboundedSender<Response>),
}

/// A watch begins.
pub(super) struct Beginning {
    pub(super) key: WatchKey,
    pub(super) begin: Begin,
    pub(super) header: Header,
    /// The state it begins with: memory's part, and the base beneath.
    pub(super) snapshot: Option<(Pinned, LsmView)>,
    pub(super) sink: Sink,
}

/// What the watch thread is told.
pub(super) enum Order {
    Begin(Box<Beginning>),
    Applied {
        block: EventBlock,
        term: u64,
    },
    Control {
        key: WatchKey,
        control: WatchControl,
    },
    /// The connection is gone.
    Closed(ConnectionId),
    /// Its outbox has passed on what was charged with so many bytes.
    Drained {
        connection: ConnectionId,
        bytes: u64,
    },
    EndAll(Failure),
    /// A snapshot of this revision took the store's place.
    Replaced(StoreFiles, Revision),
    Stop,
}

/// What both sides count.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Watches that begun and have not ended.
    pub(super) watching: AtomicUsize,
    /// Events in the queue, bytes.
    pub(super) queued_bytes: AtomicU64,
    /// The last revision that was recorded while there was a watch, whether it was told or not.
    pub(super) head: AtomicU64,
}

/// The way to the watch thread, for all others.
#[derive(Clone, Debug)]
pub(crate) struct WatchFeed {
    orders: Sender<Order>,
    counts: Arc<Counts>,
}

impl WatchFeed {
    pub(super) fn new(orders: Sender<Order>, counts: Arc<Counts>) -> WatchFeed {
        WatchFeed { orders, counts }
    }

    fn order(&self, order: Order) {
        // A thread that is gone has said why.
        let _ = self.orders.send(order);
    }

    /// How many watches there are.
    pub(super) fn watching(&self) -> usize {
        self.counts.watching.load(Ordering::Acquire)
    }

    /// Events were recorded, in history already. Costs next to nothing while nobody watches.
    pub(super) fn recorded(&self, block: EventBlock, term: u64) {
        let (_, last) = block.revisions();
        let queued = self.counts.queued_bytes.load(Ordering::Relaxed);
        if queued <= MAX_QUEUED_BYTES {
            self.counts
                .queued_bytes
                .fetch_add(block.size_bytes(), Ordering::Relaxed);
            self.order(Order::Applied { block, term });
        }
        self.counts.head.store(last.0, Ordering::Release);
    }

    pub(super) fn begin(&self, beginning: Beginning) {
        self.counts.watching.fetch_add(1, Ordering::AcqRel);
        self.order(Order::Begin(Box::new(beginning)));
    }

    pub(crate) fn control(&self, key: WatchKey, control: WatchControl) {
        self.order(Order::Control { key, control });
    }

    pub(crate) fn closed(&self, connection: ConnectionId) {
        self.order(Order::Closed(connection));
    }

    pub(crate) fn drained(&self, connection: ConnectionId, bytes: u64) {
        self.order(Order::Drained { connection, bytes });
    }

    pub(super) fn end_all(&self, failure: Failure) {
        self.order(Order::EndAll(failure));
    }

    /// The thread ends.
    pub(super) fn stop(&self) {
        self.order(Order::Stop);
    }

    pub(super) fn replaced(&self, files: StoreFiles, revision: Revision) {
        self.order(Order::Replaced(files, revision));
    }
}

impl Counts {
    pub(super) fn head(&self) -> Revision {
        Revision(self.head.load(Ordering::Acquire))
    }
}
