//! Where events wait for the loop: one queue for the tasks of the node thread, one for the other threads.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raftkv_protocol::{Failure, Request};
use tokio::sync::Notify;

use super::clock::Clock;
use super::pending::{Origin, Pending};
use crate::disk::RealDisk;
use crate::log::{Log, LogError};
use crate::replica::{Event, Hop};

/// What another thread tells the loop.
pub(crate) enum Letter {
    /// Something happened to the node.
    Event(Event),
    /// The log of a newly formed node is durable.
    LogMade(Log<RealDisk>),
    /// The log can not go on: the node stops now, with no further answer.
    LogFailed(LogError),
    /// Stop gracefully.
    Stop,
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
    is_closed: Cell<bool>,
    bell: Arc<Notify>,
}

impl Inbox {
    /// An empty inbox that wakes the same loop as `mailbox`.
    pub(crate) fn beside(mailbox: &Mailbox, clock: Clock) -> Inbox {
        Inbox {
            clock,
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

    /// Puts a request in; its answer goes to `origin`.
    pub(crate) fn ask(&self, asked: Asked, origin: Origin) {
        let token = self.pending.borrow_mut().insert(origin);
        self.push(Event::Request {
            token,
            request: asked.request,
            hop: asked.hop,
            deadline: self.clock.now().after(asked.timeout),
        });
    }

    /// Puts in an answer that needs no node: the request was wrong in itself. It leaves with the loop's next batch, which
    /// knows what belongs in its header.
    pub(crate) fn refuse(&self, failure: Failure, origin: Origin) {
        self.refusals.borrow_mut().push(Refusal { failure, origin });
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
