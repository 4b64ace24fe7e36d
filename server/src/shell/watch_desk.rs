//! The node thread's side of watches: whose they are, from request to end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use raftkv_protocol::{ErrorCode, Failure, RequestId, WatchControl};

use super::watch_feed::{WatchFeed, WatchKey};
use super::watch_worker::Bundle;
use crate::config::Bounds;
use crate::native::ClientOutbox;
use crate::watch::ConnectionId;

/// How far a native client's watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The node looks whether it can begin. Credit and the wish to end it may come before that.
    Asked {
        credit_bytes: u32,
        is_cancelled: bool,
    },
    Begun,
}

#[derive(Debug)]
struct Connection {
    outbox: Rc<ClientOutbox>,
    watches: BTreeMap<RequestId, Standing>,
}

/// What a client said about a watch before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaidBefore {
    /// Nothing that matters, but that it takes so much more.
    Credit(u32),
    /// It wants no more of it, or is gone.
    Cancelled,
}

/// All watches of native clients.
#[derive(Debug)]
pub(crate) struct WatchDesk {
    feed: WatchFeed,
    bounds: Bounds,
    connections: RefCell<BTreeMap<ConnectionId, Connection>>,
    last_connection: Cell<u64>,
}

impl WatchDesk {
    pub(super) fn new(feed: WatchFeed, bounds: Bounds) -> WatchDesk {
        WatchDesk {
            feed,
            bounds,
            connections: RefCell::default(),
            last_connection: Cell::new(0),
        }
    }

    pub(crate) fn feed(&self) -> &WatchFeed {
        &self.feed
    }

    /// A name for a new connection.
    pub(crate) fn name_connection(&self) -> ConnectionId {
        let name = self.last_connection.get() + 1;
        self.last_connection.set(name);
        ConnectionId(name)
    }

    /// A client asks for a watch.
    ///
    /// # Errors
    /// `overloaded` when it has as many as it may, `bad_request` for a name that it uses already.
    pub(crate) fn ask(&self, outbox: &Rc<ClientOutbox>, request: RequestId) -> Result<(), Failure> {
        let mut connections = self.connections.borrow_mut();
        let connection = connections
            .entry(outbox.connection())
            .or_insert_with(|| Connection {
                outbox: outbox.clone(),
                watches: BTreeMap::new(),
            });
        let max = self.bounds.max_connection_watches;
        if connection.watches.len() >= max {
            let message = format!("this connection has {max} watches, which is as many as one may have");
            return Err(Failure::new(ErrorCode::Overloaded, message));
        }
        if connection.watches.contains_key(&request) {
            let message = format!("request id {} is that of a watch which goes on", request.0);
            return Err(Failure::new(ErrorCode::BadRequest, message));
        }
        let asked = Standing::Asked {
            credit_bytes: 0,
            is_cancelled: false,
        };
        connection.watches.insert(request, asked);
        Ok(())
    }

    /// A client says something about its watch.
    pub(crate) fn control(&self, key: WatchKey, control: WatchControl) {
        let mut connections = self.connections.borrow_mut();
        let connection = connections.get_mut(&key.connection);
        // It may have ended just now.
        let Some(standing) = connection.and_then(|this| this.watches.get_mut(&key.request)) else {
            return;
        };
        match (standing, control) {
            (Standing::Begun, control) => self.feed.control(key, control),
            (Standing::Asked { credit_bytes, .. }, WatchControl::Credit { bytes }) => {
                *credit_bytes = credit_bytes.saturating_add(bytes);
            }
            (Standing::Asked { is_cancelled, .. }, WatchControl::Cancel) => *is_cancelled = true,
        }
    }

    /// The node lets the watch begin.
    pub(super) fn begin(&self, key: WatchKey) -> SaidBefore {
        let mut connections = self.connections.borrow_mut();
        let connection = connections.get_mut(&key.connection);
        let Some(connection) = connection else {
            return SaidBefore::Cancelled;
        };
        match connection.watches.get_mut(&key.request) {
            Some(standing) => match *standing {
                Standing::Asked {
                    credit_bytes,
                    is_cancelled: false,
                } => {
                    *standing = Standing::Begun;
                    SaidBefore::Credit(credit_bytes)
                }
                Standing::Asked { .. } | Standing::Begun => {
                    connection.watches.remove(&key.request);
                    SaidBefore::Cancelled
                }
            },
            None => SaidBefore::Cancelled,
        }
    }

    /// The watch is over, or never began.
    pub(super) fn ended(&self, key: WatchKey) {
        let mut connections = self.connections.borrow_mut();
        if let Some(connection) = connections.get_mut(&key.connection) {
            connection.watches.remove(&key.request);
            if connection.watches.is_empty() {
                connections.remove(&key.connection);
            }
        }
    }

    /// The connection is gone, and with it its watches.
    pub(crate) fn closed(&self, connection: ConnectionId) {
        if self.connections.borrow_mut().remove(&connection).is_some() {
            self.feed.closed(connection);
        }
    }

    /// Puts what the watch thread made into the connection's outbox; that one, if the connection is still there.
    pub(super) fn deliver(&self, connection: ConnectionId, bundle: Bundle) -> Option<Rc<ClientOutbox>> {
        let outbox = self.connections.borrow().get(&connection)?.outbox.clone();
        outbox.take_frames(&bundle.bytes, bundle.charged);
        for request in bundle.ended {
            self.ended(WatchKey { connection, request });
        }
        Some(outbox)
    }

    /// Has every watch ended, and does its client know?
    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty() && self.feed.watching() == 0
    }
}
