//! One attempt of one request, on its way from a caller to a connection's task and back.

use std::sync::Arc;

use raftkv_protocol::{Failure, Request, Response};
use tokio::sync::oneshot;
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
    /// Where the outcome goes. A caller that went away has closed it.
    pub(crate) answer: oneshot::Sender<Delivery>,
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
