//! Answers on their way to one native connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use raftkv_protocol::{RequestId, Response, encode_response};
use raftkv_tls::{Flushed, Stream};
use tokio::sync::Notify;

use crate::config::Bounds;
use crate::shell::WatchFeed;
use crate::transport::socket;
use crate::watch::ConnectionId;

/// The write side of a client's connection, shared by its task and the loop.
///
/// Answers are encoded straight into one buffer, and the loop writes it once per batch. What the socket does not take
/// is written by the connection's own task. Beyond a bound answers wait unencoded (they share the store's memory), and
/// the connection reads no further request until the client has taken its answers.
#[derive(Debug)]
pub(crate) struct ClientOutbox {
    stream: Rc<Stream>,
    bounds: Bounds,
    connection: ConnectionId,
    /// Who wants to know when frames of watches have left.
    feed: WatchFeed,
    state: RefCell<State>,
    /// Rings when the socket did not take everything.
    stalled: Notify,
    /// Rings when there is room for another request.
    room: Notify,
    /// Rings when the connection is finishing and may be idle.
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    unsent: BytesMut,
    waiting: VecDeque<(RequestId, Response)>,
    /// Bytes that were put into `unsent` so far, and that left it.
    put_bytes: u64,
    sent_bytes: u64,
    /// Frames of watches that have not left: where they end, and what the watch thread charged for them.
    of_watches: VecDeque<(u64, u64)>,
    /// Requests read whose answer has not come yet.
    unanswered: usize,
    is_listed_for_flush: bool,
    is_finishing: bool,
    failed: Option<io::Error>,
}

/// Should the loop flush this connection at the end of its batch?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// It is the first answer of this batch for the connection.
    New,
    /// The loop knows already.
    Known,
}

impl ClientOutbox {
    pub(crate) fn new(
        stream: Rc<Stream>,
        bounds: Bounds,
        (connection, feed): (ConnectionId, WatchFeed),
    ) -> ClientOutbox {
        ClientOutbox {
            stream,
            bounds,
            connection,
            feed,
            state: RefCell::default(),
            stalled: Notify::new(),
            room: Notify::new(),
            idle: Notify::new(),
        }
    }

    /// A request was read.
    pub(crate) fn note_request(&self) {
        self.state.borrow_mut().unanswered += 1;
    }

    /// Its connection's name.
    pub(crate) fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// A request that was noted is a watch, which goes on: nothing waits for it.
    pub(crate) fn note_begun(&self) {
        let state = &mut *self.state.borrow_mut();
        state.unanswered = state.unanswered.saturating_sub(1);
    }

    /// Takes whole frames of watches. The watch thread keeps to a bound of its own on what is in here.
    pub(crate) fn take_frames(&self, frames: &[u8], charged: u64) {
        let state = &mut *self.state.borrow_mut();
        state.unsent.extend_from_slice(frames);
        state.put_bytes += frames.len() as u64;
        state.of_watches.push_back((state.put_bytes, charged));
    }

    /// Must the loop be told to flush it?
    pub(crate) fn list(&self) -> Listing {
        if std::mem::replace(&mut self.state.borrow_mut().is_listed_for_flush, true) {
            Listing::Known
        } else {
            Listing::New
        }
    }

    /// Takes the answer of a request that was noted.
    pub(crate) fn answer(&self, request: RequestId, response: Response) -> Listing {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        state.unanswered = state.unanswered.saturating_sub(1);
        if state.waiting.is_empty() && state.unsent.len() < self.bounds.max_connection_unsent_bytes {
            state.encode(request, &response);
        } else {
            state.waiting.push_back((request, response));
        }
        drop(guard);
        self.list()
    }

    /// Writes what the socket takes; leaves the rest to the connection's task. The loop calls it once per batch.
    pub(crate) fn flush(&self) {
        let state = &mut *self.state.borrow_mut();
        state.is_listed_for_flush = false;
        match state.write(&self.stream, self.bounds.max_connection_unsent_bytes) {
            Ok(Flushed::All) => {}
            Ok(Flushed::Part) => self.stalled.notify_one(),
            Err(error) => {
                state.failed = Some(error);
                self.stalled.notify_one();
            }
        }
        let passed_on = state.charges_that_left();
        if passed_on > 0 {
            self.feed.drained(self.connection, passed_on);
        }
        if state.is_finishing {
            self.idle.notify_one();
        } else if state.has_room(&self.bounds) {
            self.room.notify_one();
        }
    }

    /// Reads no more requests, and ends the connection when those under way are answered: what its handshake promised
    /// holds no more.
    pub(crate) fn finish(&self) {
        self.state.borrow_mut().is_finishing = true;
        self.idle.notify_one();
    }

    /// Waits until a connection that is finishing is idle.
    pub(crate) async fn finished(&self) {
        loop {
            self.idle.notified().await;
            if self.state.borrow().is_finishing && self.is_idle() {
                return;
            }
        }
    }

    /// Writes what the loop had to leave, for as long as the connection lives.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) async fn write_rest(&self) -> io::Result<std::convert::Infallible> {
        loop {
            self.stalled.notified().await;
            if let Some(error) = self.state.borrow_mut().failed.take() {
                return Err(error);
            }
            self.stream.writable().await?;
            self.flush();
        }
    }

    /// Waits until the connection may have another request under way.
    pub(crate) async fn wait_for_room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.state.borrow().has_room(&self.bounds)
    }

    /// Has every request its answer, and every answer left?
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        state.unanswered == 0
            && state.unsent.is_empty()
            && state.waiting.is_empty()
            && !self.stream.has_unsent()
    }
}

impl State {
    fn write(&mut self, stream: &Stream, limit: usize) -> io::Result<Flushed> {
        loop {
            let before = self.unsent.len();
            let flushed = socket::flush(stream, &mut self.unsent)?;
            self.sent_bytes += (before - self.unsent.len()) as u64;
            if flushed == Flushed::Part || self.waiting.is_empty() {
                return Ok(flushed);
            }
            while self.unsent.len() < limit
                && let Some((request, response)) = self.waiting.pop_front()
            {
                self.encode(request, &response);
            }
        }
    }

    fn encode(&mut self, request: RequestId, response: &Response) {
        let before = self.unsent.len();
        encode_response(&mut self.unsent, request, response);
        self.put_bytes += (self.unsent.len() - before) as u64;
    }

    /// What was charged for frames that have left since the last call.
    fn charges_that_left(&mut self) -> u64 {
        let mut left = 0;
        while let Some((_, charged)) = self.of_watches.pop_front_if(|(end, _)| *end <= self.sent_bytes) {
            left += charged;
        }
        left
    }

    fn has_room(&self, bounds: &Bounds) -> bool {
        !self.is_finishing
            && self.unanswered < bounds.max_connection_requests
            && self.waiting.is_empty()
            && self.unsent.len() < bounds.max_connection_unsent_bytes
    }
}
