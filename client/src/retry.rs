//! What an attempt's outcome means for the request: done, or once more.
//!
//! A write is tried again only when the attempt before is known not to have been applied. A read changes nothing, so it
//! may always be tried again; it is not when the server broke the protocol, because it would do so again.

use std::sync::Arc;
use std::time::Duration;

use raftkv_protocol::{Address, Answer, ErrorCode, Failure, Request, Response, ScrubCommand};

use crate::call::{Delivery, Undelivered};
use crate::connection::ConnectionError;
use crate::endpoints::Preference;
use crate::error::{Error, UnknownReason};

/// What matters about a request for trying it again and for choosing whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Through the log.
    Write,
    /// The same, numbered within a session: sent again it is applied once.
    NumberedWrite,
    /// Linearizable.
    Read,
    /// About the node that answers: its own state, or its status.
    Local,
}

impl Kind {
    pub(crate) fn of(request: &Request) -> Kind {
        match request {
            Request::Write(command) if command.once().is_some() => Kind::NumberedWrite,
            // A change of members that was sent may have happened, as a write may.
            Request::Write(_) | Request::Member(_) | Request::Scrub(ScrubCommand::Start) => Kind::Write,
            Request::Get { consistency, .. } if consistency.is_local() => Kind::Local,
            Request::Get { .. } => Kind::Read,
            Request::Range(range) if range.consistency.is_local() => Kind::Local,
            Request::Range(_) | Request::Lease(_) => Kind::Read,
            Request::Watch(_)
            | Request::WatchControl(_)
            | Request::Status
            | Request::Scrub(ScrubCommand::Status) => Kind::Local,
        }
    }

    pub(crate) fn preference(self) -> Preference {
        match self {
            Kind::Write | Kind::NumberedWrite | Kind::Read => Preference::Leader,
            Kind::Local => Preference::AsGiven,
        }
    }

    /// How much of the time that is left one attempt may use. A read leaves half of it for another node, as the first
    /// may be hung; a write that was sent is not tried again, so it waits for all of it.
    pub(crate) fn attempt_time(self, left: Duration) -> Duration {
        match self {
            Kind::Write => left,
            Kind::NumberedWrite | Kind::Read | Kind::Local => left / 2,
        }
    }

    fn is_write(self) -> bool {
        matches!(self, Kind::Write | Kind::NumberedWrite)
    }
}

/// What to do now.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The request is over.
    Done(Result<Response, Error>),
    /// Not applied, or known if it comes again: try again.
    Again(Again),
}

/// A further attempt.
#[derive(Debug)]
pub(crate) struct Again {
    /// What to tell the caller if there is neither time nor an attempt left.
    pub(crate) error: Error,
    /// Where.
    pub(crate) whom: Whom,
}

/// Where a further attempt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The endpoint failed: at once to another one, if there is one.
    Another,
    /// The server says who leads: at once there.
    Leader(Address),
    /// The cluster can not serve now: later.
    AnyoneLater,
}

/// Judges one attempt of a request that the caller waits for `timeout` in all.
pub(crate) fn judge(kind: Kind, delivery: Delivery, timeout: Duration) -> Verdict {
    match delivery {
        Ok(Response {
            header: _,
            outcome: Err(failure),
        }) => judge_failure(kind, failure),
        Ok(response) => Verdict::Done(Ok(response)),
        Err(Undelivered::Refused(failure)) => Verdict::Done(Err(Error::Rejected(failure))),
        Err(Undelivered::Abandoned) if kind.is_write() => unknown(UnknownReason::Closed),
        Err(Undelivered::Closed | Undelivered::Abandoned) => Verdict::Done(Err(Error::Closed)),
        Err(Undelivered::NotSent(error)) => again(Error::Unreachable(error), Whom::Another),
        Err(Undelivered::ExpiredUnsent) => again(Error::TimedOut { after: timeout }, Whom::Another),
        Err(Undelivered::ExpiredSent) => match kind {
            Kind::Write => unknown(UnknownReason::TimedOut { after: timeout }),
            Kind::NumberedWrite => again_if_unknown(UnknownReason::TimedOut { after: timeout }),
            Kind::Read | Kind::Local => again(Error::TimedOut { after: timeout }, Whom::Another),
        },
        Err(Undelivered::Unanswered(error)) => judge_unanswered(kind, error),
    }
}

fn judge_failure(kind: Kind, failure: Failure) -> Verdict {
    let whom = match failure.code {
        ErrorCode::Overloaded | ErrorCode::NoLeader => Whom::AnyoneLater,
        ErrorCode::NotLeader => match &failure.leader {
            Some(leader) => Whom::Leader(leader.address.clone()),
            None => Whom::AnyoneLater,
        },
        // Avoided from now on, so that whoever is preferred next is another one.
        ErrorCode::NotServing => match &failure.leader {
            Some(leader) if kind != Kind::Local => Whom::Leader(leader.address.clone()),
            Some(_) | None => Whom::Another,
        },
        // A read of which the server lost track changed nothing, and a numbered write is known when it comes again.
        ErrorCode::OutcomeUnknown if kind != Kind::Write => Whom::AnyoneLater,
        ErrorCode::OutcomeUnknown
        | ErrorCode::BadRequest
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
        | ErrorCode::WatchTooSlow => return Verdict::Done(Err(Error::from_failure(failure))),
    };
    match (failure.code, kind) {
        (ErrorCode::OutcomeUnknown, Kind::Read | Kind::Local) => again(Error::NoLeader(failure), whom),
        _ => again(Error::from_failure(failure), whom),
    }
}

fn judge_unanswered(kind: Kind, error: Arc<ConnectionError>) -> Verdict {
    match kind {
        Kind::Write => unknown(UnknownReason::ConnectionLost(error)),
        Kind::NumberedWrite if error.is_protocol_violation() => unknown(UnknownReason::ConnectionLost(error)),
        Kind::NumberedWrite => again_if_unknown(UnknownReason::ConnectionLost(error)),
        Kind::Read | Kind::Local if error.is_protocol_violation() => {
            Verdict::Done(Err(Error::Unanswered(error)))
        }
        Kind::Read | Kind::Local => again(Error::Unanswered(error), Whom::Another),
    }
}

fn again(error: Error, whom: Whom) -> Verdict {
    Verdict::Again(Again { error, whom })
}

fn again_if_unknown(reason: UnknownReason) -> Verdict {
    again(Error::OutcomeUnknown { reason }, Whom::Another)
}

/// What a numbered write that may have been applied by an attempt before is told, when the last one ends so. Refusals that the
/// state machine gave are its answer, however often it was asked; those given before it say nothing of earlier attempts.
pub(crate) fn after_unknown(error: Error, unknown: Error) -> Error {
    let is_of_state_machine = match &error {
        Error::ConditionFailed { .. } => true,
        Error::Rejected(failure) => matches!(
            failure.code,
            ErrorCode::LeaseNotFound
                | ErrorCode::LeaseExists
                | ErrorCode::NotANumber
                | ErrorCode::RevisionMismatch
                | ErrorCode::IdempotencyConflict
        ),
        _ => false,
    };
    match is_of_state_machine {
        true => error,
        false => unknown,
    }
}

fn unknown(reason: UnknownReason) -> Verdict {
    Verdict::Done(Err(Error::OutcomeUnknown { reason }))
}

/// An answer's name, for an error about one that does not fit.
pub(crate) fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Found(_) => "a record",
        Answer::NotFound => "'not found'",
        Answer::Put { .. } => "the revision of a put",
        Answer::Deleted { .. } => "the result of a delete",
        Answer::ConditionFailed { .. } => "'condition failed'",
        Answer::Status(_) => "a status",
        Answer::Members(_) => "the members",
        Answer::Read { .. } => "a read with its basis",
        Answer::Txn(_) => "the result of a transaction",
        Answer::Range(_) => "a page of a range",
        Answer::LeaseGranted { .. } => "a granted lease",
        Answer::LeasesRenewed(_) => "renewed leases",
        Answer::LeaseRevoked { .. } => "a revoked lease",
        Answer::Lease(_) => "a lease",
        Answer::Leases(_) => "leases",
        Answer::SessionOpened { .. } => "an open session",
        Answer::SessionDone => "the end of a session's command",
        Answer::Watch(_) => "a part of a watch",
        Answer::Scrub(_) => "how the scrub stands",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::Applied;
    use raftkv_protocol::{Header, HistoryEpoch, NodeId, Revision};

    const KINDS: [Kind; 4] = [Kind::Write, Kind::NumberedWrite, Kind::Read, Kind::Local];

    fn lost() -> Arc<ConnectionError> {
        let source = io::Error::from(io::ErrorKind::ConnectionReset);
        Arc::new(ConnectionError::Lost {
            address: Address::from("a:1"),
            source,
        })
    }

    fn failed(code: ErrorCode) -> Delivery {
        let header = Header {
            cluster: None,
            node: NodeId(1),
            term: 1,
            revision: Revision(1),
            epoch: HistoryEpoch(1),
        };
        Ok(Response {
            header,
            outcome: Err(Failure::new(code, "because")),
        })
    }

    fn verdict(kind: Kind, delivery: Delivery) -> Verdict {
        judge(kind, delivery, Duration::from_secs(1))
    }

    #[test]
    fn a_write_is_tried_again_exactly_when_the_failure_promises_that_it_was_not_applied_and_later_may_help() {
        for code in ErrorCode::ALL {
            let again = matches!(verdict(Kind::Write, failed(code)), Verdict::Again(_));
            let helps = [
                ErrorCode::Overloaded,
                ErrorCode::NoLeader,
                ErrorCode::NotLeader,
                ErrorCode::NotServing,
            ]
            .contains(&code);
            assert_eq!(again, helps, "{code:?}");
        }
    }

    #[test]
    fn a_write_that_was_sent_and_not_answered_has_an_unknown_outcome() {
        let unknown = [
            Err(Undelivered::Unanswered(lost())),
            Err(Undelivered::ExpiredSent),
            Err(Undelivered::Abandoned),
            failed(ErrorCode::OutcomeUnknown),
        ];
        for delivery in unknown {
            match verdict(Kind::Write, delivery) {
                Verdict::Done(Err(error)) => assert_eq!(error.applied(), Applied::Unknown, "{error}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_numbered_write_is_sent_again_and_stays_unknown_until_the_state_machine_says() {
        for delivery in [
            Err(Undelivered::Unanswered(lost())),
            Err(Undelivered::ExpiredSent),
            failed(ErrorCode::OutcomeUnknown),
        ] {
            let unknown = match verdict(Kind::NumberedWrite, delivery) {
                Verdict::Again(again) => again.error,
                Verdict::Done(outcome) => panic!("{outcome:?}"),
            };
            assert_eq!(unknown.applied(), Applied::Unknown);
            let then = |code| {
                after_unknown(
                    Error::from_failure(Failure::new(code, "because")),
                    unknown.clone(),
                )
            };
            assert_eq!(then(ErrorCode::NotANumber).applied(), Applied::No);
            for code in [
                ErrorCode::NoSpace,
                ErrorCode::Overloaded,
                ErrorCode::SessionExpired,
                ErrorCode::NoLeader,
            ] {
                assert_eq!(then(code).applied(), Applied::Unknown, "{code:?}");
            }
        }
    }

    #[test]
    fn what_was_not_sent_is_tried_again_elsewhere_and_ends_as_not_applied() {
        for kind in KINDS {
            for delivery in [Err(Undelivered::NotSent(lost())), Err(Undelivered::ExpiredUnsent)] {
                match verdict(kind, delivery) {
                    Verdict::Again(again) => {
                        assert_eq!((again.error.applied(), again.whom), (Applied::No, Whom::Another));
                    }
                    Verdict::Done(outcome) => panic!("{outcome:?}"),
                }
            }
        }
    }

    #[test]
    fn reads_are_tried_again_whatever_happened_to_them_and_never_end_as_unknown() {
        let lost = [
            Err(Undelivered::Unanswered(lost())),
            Err(Undelivered::ExpiredSent),
            failed(ErrorCode::OutcomeUnknown),
        ];
        for delivery in lost {
            for kind in [Kind::Read, Kind::Local] {
                match verdict(kind, delivery.clone()) {
                    Verdict::Again(again) => assert_eq!(again.error.applied(), Applied::No),
                    Verdict::Done(outcome) => panic!("{outcome:?}"),
                }
            }
        }
    }
}
