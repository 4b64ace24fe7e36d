//! Where events wait for the loop: one queue for the tasks of the node thread, one for the other threads.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raftkv_protocol::{ErrorCode, Failure, Request};
use raftkv_raft::WriteNumber;
use tokio::sync::{Notify, oneshot};

use super::clock::Clock;
use super::pending::{Origin, Pending, Waiting};
use super::watch_worker::Bundle;
use crate::disk::RealDisk;
use crate::disk::quarantine::QuarantineError;
use crate::log::{Log, LogError};
use crate::metrics::{Asking, Figures, RequestKind};
use crate::replica::{Event, Hop};
use crate::store::StoreError;
use crate::watch::ConnectionId;

/// What another thread tells the loop.
pub(crate) enum Letter {
    /// Something happened to the node.
    Event(Event),
    /// Log writes up to this one are durable; how long it took to write and sync the last of them, if that is what was done.
    Persisted {
        last: WriteNumber,
        took: Option<Duration>,
    },
    /// A thread of the store has done a piece of work, and took so long for it.
    Took(Work, Duration),
    /// Monitoring asks.
    Figures(oneshot::Sender<Box<Figures>>),
    /// The log of a newly formed node is durable.
    LogMade(Log<RealDisk>),
    /// The log can not go on: the node stops now, with no further answer.
    LogFailed(LogError),
    /// The store's files can not be used any more: the node stops now, with no further answer.
    StoreFailed(StoreError),
    /// The file that keeps this node in quarantine could not be written: the node stops now, with no further answer.
    QuarantineFailed(QuarantineError),
    /// Parts of watches, for a connection.
    Watch {
        connection: ConnectionId,
        bundle: Bundle,
    },
    /// A thread that the node can not do without is gone: the node stops now, with no further answer.
    Panicked {
        /// Which.
        part: &'static str,
    },
    /// Stop gracefully.
    Stop,
}

/// What threads of the store take their time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Drain,
    Compaction,
}

/// The queue for other threads. Unbounded in itself: each sender has at most a few letters under way.
#[derive(Clone, Default)]
pub(crate) struct Mailbox {
    letters: Arc<Mutex<Vec<Letter>>>,
    bell: Arc<Notify>,
}

impl Mailbox {
    pub(crate) fn send(&self, letter: Letter) {
        self.letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(letter);
        self.bell.notify_one();
    }

    pub(crate) fn take_into(&self, letters: &mut Vec<Letter>) {
        letters.append(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until something was sent to this mailbox or pushed into its inbox.
    pub(crate) async fn wait(&self) {
        self.bell.notified().await;
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

/// A request as it came through a door.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) hop: Hop,
    pub(crate) timeout: Duration,
}

/// A request that was wrong in itself, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) asking: Asking,
    pub(crate) failure: Failure,
    pub(crate) origin: Origin,
}

/// The queue for tasks of the node thread, shared by all of them and the loop.
#[derive(Debug)]
pub(crate) struct Inbox {
    clock: Clock,
    events: RefCell<Vec<Event>>,
    refusals: RefCell<Vec<Refusal>>,
    pending: RefCell<Pending>,
    max_pending_bytes: usize,
    is_closed: Cell<bool>,
    bell: Arc<Notify>,
}

impl Inbox {
    /// An empty inbox that wakes the same loop as `mailbox`.
    pub(crate) fn beside(mailbox: &Mailbox, clock: Clock, max_pending_bytes: usize) -> Inbox {
        Inbox {
            clock,
            max_pending_bytes,
            events: RefCell::default(),
            refusals: RefCell::default(),
            pending: RefCell::default(),
            is_closed: Cell::new(false),
            bell: mailbox.bell.clone(),
        }
    }

    /// Puts an event in, for the loop's next batch.
    pub(crate) fn push(&self, event: Event) {
        let mut events = self.events.borrow_mut();
        if events.is_empty() {
            self.bell.notify_one();
        }
        events.push(event);
    }

    /// Puts a request in; its answer goes to `origin`. Refused at once when those that wait hold too many bytes: the node
    /// bounds their number, and a few thousand large ones would still be more than any memory.
    pub(crate) fn ask(&self, asked: Asked, origin: Origin) {
        let size_bytes = size_bytes(&asked.request);
        let asking = Asking {
            kind: RequestKind::of(&asked.request),
            hop: asked.hop,
        };
        if self.pending.borrow().size_bytes() + size_bytes > self.max_pending_bytes {
            return self.refuse(asking, overloaded(), origin);
        }
        let now = self.clock.now();
        let waiting = Waiting {
            origin,
            asking,
            since: now,
        };
        let token = self.pending.borrow_mut().insert(waiting, size_bytes);
        self.push(Event::Request {
            token,
            request: asked.request,
            hop: asked.hop,
            deadline: now.after(asked.timeout),
        });
    }

    /// Puts in an answer that needs no node: the request was wrong in itself. It leaves with the loop's next batch, which
    /// knows what belongs in its header.
    pub(crate) fn refuse(&self, asking: Asking, failure: Failure, origin: Origin) {
        let refusal = Refusal {
            asking,
            failure,
            origin,
        };
        self.refusals.borrow_mut().push(refusal);
        self.bell.notify_one();
    }

    pub(crate) fn take_refusals(&self) -> Vec<Refusal> {
        self.refusals.take()
    }

    /// Exchanges what waits for the empty `events`.
    pub(crate) fn swap(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut *self.events.borrow_mut(), events);
    }

    /// The loop has ended: nothing that is put in from here on is ever looked at.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub(crate) fn pending(&self) -> std::cell::RefMut<'_, Pending> {
        self.pending.borrow_mut()
    }
}

fn size_bytes(request: &Request) -> usize {
    match request {
        Request::Write(command) => command.encoded().len(),
        Request::Get { key, .. } => key.len(),
        Request::Range(range) => range.span.from.len() + range.cursor.as_ref().map_or(0, bytes::Bytes::len),
        Request::Watch(watch) => watch.span.from.len(),
        Request::Status
        | Request::Member(_)
        | Request::Scrub(_)
        | Request::Lease(_)
        | Request::WatchControl(_) => 0,
    }
}

fn overloaded() -> Failure {
    Failure::new(
        ErrorCode::Overloaded,
        "the requests that wait at this node hold all the memory they may; nothing was done, try again later",
    )
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::{CheckedCommand, Command, Condition, Limits};
    use tokio::sync::oneshot;

    use super::*;

    fn write(value: &[u8]) -> Asked {
        let put = Command::Put {
            key: b"k",
            value,
            condition: Condition::Always,
            ttl_ms: None,
        };
        Asked {
            request: Request::Write(CheckedCommand::new(&put, &Limits::default()).expect("valid")),
            hop: Hop::First,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn requests_that_hold_too_many_bytes_are_refused_until_some_are_answered() {
        let inbox = Inbox::beside(&Mailbox::default(), Clock::start(), 2500);
        let ask = || inbox.ask(write(&[0; 1000]), Origin::Call(oneshot::channel().0));
        (0..3).for_each(|_| ask());
        let refusals = inbox.take_refusals();
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].failure.code, ErrorCode::Overloaded);
        let mut events = Vec::new();
        inbox.swap(&mut events);
        let [Event::Request { token, .. }, Event::Request { .. }] = events[..] else {
            panic!("expected two requests, got {events:?}");
        };
        assert!(inbox.pending().remove(token).is_some());
        ask();
        assert!(inbox.take_refusals().is_empty());
    }
}
