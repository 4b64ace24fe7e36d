//! The one error type of the crate, and what each error says about the request's fate.

use std::sync::Arc;
use std::time::Duration;

use raftkv_protocol::{ErrorCode, Failure, Revision};
use raftkv_tls::TlsError;
use thiserror::Error;

use crate::connection::ConnectionError;
use crate::coordination::FencingToken;

/// What an error says about the write it belongs to. A read changes nothing, so its errors are always [`Applied::No`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was not applied, and never will be.
    No,
    /// It may have been applied, or may yet be: read the key, or write again under a condition.
    Unknown,
}

/// Why a request failed. [`Error::applied`] tells 'not applied' from 'unknown'.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// The client was built without a single endpoint.
    #[error("no endpoint was given: name at least one server, as host:port")]
    NoEndpoints,
    /// An endpoint is not of the form `host:port`.
    #[error("the endpoint {endpoint:?} is not of the form host:port, such as 127.0.0.1:7001")]
    InvalidEndpoint {
        /// What was given.
        endpoint: String,
    },
    /// A certificate file can not be used.
    #[error("{0}")]
    Tls(Arc<TlsError>),
    /// The server, or this library before sending, refused the request as such: the same request will always be refused,
    /// or the failure's message says what must change first (`no_space`).
    #[error("{}", .0.message)]
    Rejected(Failure),
    /// The condition of a write did not hold.
    #[error("the condition does not hold: {}", describe_current(.current))]
    ConditionFailed {
        /// The key's mod_revision now; `None` when it does not exist.
        current: Option<Revision>,
    },
    /// The lock, permit or leadership that a write names as its guard, or a place in a queue, is not there any more; nothing
    /// was changed.
    #[error(
        "{token} is not held any more: its lease has ended or was revoked, and another may hold what it stood for; nothing was changed; acquire it anew before writing"
    )]
    NotHeld {
        /// What was named.
        token: FencingToken,
    },
    /// It was not this one's turn within the time that it was to wait. It has left the queue.
    #[error("others hold it: not acquired within {after:?}")]
    NotAcquired {
        /// How long it waited.
        after: Duration,
    },
    /// No server that was asked knew a leader within the time and the attempts allowed.
    #[error("the cluster has no leader: {}", .0.message)]
    NoLeader(Failure),
    /// The servers refused the request early, again and again, because their queues are full.
    #[error("the cluster is overloaded: {}; send fewer requests at once, or try again later", .0.message)]
    Overloaded(Failure),
    /// No endpoint took the request.
    #[error("no endpoint can be reached: {0}; check --endpoints and that a server runs there")]
    Unreachable(Arc<ConnectionError>),
    /// The time-out passed before the request was sent, or before a read was answered.
    #[error("no answer within {after:?}; nothing was changed by this request")]
    TimedOut {
        /// The request's time-out.
        after: Duration,
    },
    /// The write was sent and may or may not have happened, or may yet.
    #[error("the outcome of the write is unknown ({reason}): read the key before writing again")]
    OutcomeUnknown {
        /// How the answer was lost.
        reason: UnknownReason,
    },
    /// A read's connection was lost or broke the protocol, and so did the attempts after it.
    #[error("the read was not answered: {0}")]
    Unanswered(Arc<ConnectionError>),
    /// The server answered a question that was not asked: client and server do not belong together.
    #[error("the server answered {got} where {expected} was expected: use a client of the server's version")]
    UnexpectedAnswer {
        /// What the request calls for.
        expected: &'static str,
        /// What came.
        got: &'static str,
        /// Was it a write?
        applied: Applied,
    },
    /// The runtime on which the client's connections live has ended.
    #[error("the client is closed: the runtime on which it was first used has ended")]
    Closed,
}

/// How the answer to a write was lost.
#[derive(Clone, Debug, Error)]
pub enum UnknownReason {
    /// The time-out passed after the write was sent.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// The request's time-out.
        after: Duration,
    },
    /// The connection ended between request and answer.
    #[error("{0}")]
    ConnectionLost(Arc<ConnectionError>),
    /// The runtime on which the client's connections live ended before the answer came.
    #[error("the runtime on which the client was first used has ended")]
    Closed,
    /// The server itself does not know.
    #[error("{}", .0.message)]
    Server(Failure),
}

impl Error {
    /// Whether the write may have been applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Error::OutcomeUnknown { .. } => Applied::Unknown,
            Error::UnexpectedAnswer { applied, .. } => *applied,
            Error::NoEndpoints
            | Error::InvalidEndpoint { .. }
            | Error::Tls(_)
            | Error::Rejected(_)
            | Error::ConditionFailed { .. }
            | Error::NotHeld { .. }
            | Error::NotAcquired { .. }
            | Error::NoLeader(_)
            | Error::Overloaded(_)
            | Error::Unreachable(_)
            | Error::TimedOut { .. }
            | Error::Unanswered(_)
            | Error::Closed => Applied::No,
        }
    }

    /// The server's answer turned into an error: the one place where codes become variants.
    pub(crate) fn from_failure(failure: Failure) -> Error {
        match failure.code {
            ErrorCode::Overloaded => Error::Overloaded(failure),
            ErrorCode::NoLeader | ErrorCode::NotLeader | ErrorCode::NotServing => Error::NoLeader(failure),
            ErrorCode::OutcomeUnknown => Error::OutcomeUnknown {
                reason: UnknownReason::Server(failure),
            },
            ErrorCode::BadRequest
            | ErrorCode::KeyNotFound
            | ErrorCode::RevisionMismatch
            | ErrorCode::TooLarge
            | ErrorCode::NoSpace
            | ErrorCode::Compacted
            | ErrorCode::SessionExpired
            | ErrorCode::MembershipRefused
            | ErrorCode::LeaseNotFound
            | ErrorCode::LeaseExists
            | ErrorCode::NotANumber
            | ErrorCode::IdempotencyConflict
            | ErrorCode::FutureRevision
            | ErrorCode::WatchTooSlow => Error::Rejected(failure),
        }
    }
}

fn describe_current(current: &Option<Revision>) -> String {
    match current {
        Some(revision) => format!("the key was last changed by revision {revision}"),
        None => "the key does not exist".to_owned(),
    }
}
