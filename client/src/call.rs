//! One attempt of one request, on its way from a caller to a connection's task and back.

use std::sync::Arc;

use raftkv_protocol::{Failure, Request, RequestId, Response};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::connection::ConnectionError;

/// What a connection's task is handed.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) request: Request,
    /// When the caller stops waiting. The task keeps this time for it, so that whether the request had been sent by then
    /// is known.
    pub(crate) deadline: Instant,
    /// Where the outcome goes.
    pub(crate) waiter: Waiter,
}

/// Who waits for what comes back.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// For one answer. A caller that went away has closed it.
    One(oneshot::Sender<Delivery>),
    /// For many, until a failure.
    Many(WatchNumber, mpsc::UnboundedSender<Delivery>),
    /// For none: it is about the watch of that number.
    Nobody(WatchNumber),
}

/// Names a watch on its connection. Its number is its request's id: those of other requests are higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WatchNumber(pub(crate) u32);

impl WatchNumber {
    pub(crate) fn id(self) -> RequestId {
        RequestId(self.0.into())
    }

    /// The watch that an answer's id names; `None`: it is another request's.
    pub(crate) fn of(id: RequestId) -> Option<WatchNumber> {
        u32::try_from(id.0).ok().map(WatchNumber)
    }
}

impl Waiter {
    /// Has the caller gone?
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Waiter::One(answer) => answer.is_closed(),
            Waiter::Many(_, answers) => answers.is_closed(),
            Waiter::Nobody(_) => false,
        }
    }

    /// Tells the outcome; a caller that went away does not want to know.
    pub(crate) fn deliver(self, delivery: Delivery) {
        match self {
            Waiter::One(answer) => drop(answer.send(delivery)),
            Waiter::Many(_, answers) => drop(answers.send(delivery)),
            Waiter::Nobody(_) => {}
        }
    }
}

/// The outcome of one attempt.
pub(crate) type Delivery = Result<Response, Undelivered>;

/// Why an attempt brought no answer, and how far it got.
#[derive(Clone, Debug)]
pub(crate) enum Undelivered {
    /// Nothing of it was sent: there was no connection.
    NotSent(Arc<ConnectionError>),
    /// Nothing of it was sent: the server would not take it.
    Refused(Failure),
    /// The deadline passed before it was sent.
    ExpiredUnsent,
    /// It was sent, wholly or in part; then the connection ended.
    Unanswered(Arc<ConnectionError>),
    /// It was sent; the deadline passed without an answer.
    ExpiredSent,
    /// Nothing of it was sent: the connection's task is gone.
    Closed,
    /// The connection's task went away with it: it may have been sent.
    Abandoned,
}
