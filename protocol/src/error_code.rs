//! The closed list of failures a client can see, with one HTTP status and one meaning for retry each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The closed list of what can go wrong, the same at every door; later ones are only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request itself is wrong; the same request will always be refused. HTTP 400.
    BadRequest,
    /// The key does not exist. HTTP 404.
    KeyNotFound,
    /// A condition did not hold. HTTP 409.
    RevisionMismatch,
    /// Over a limit: a key, value or end of a range; a request, its body or its leases; the operations of a transaction, what its
    /// ranges hold or what it answers; an event for a watch. Nothing was changed. HTTP 413.
    TooLarge,
    /// Refused early; nothing was proposed. Retry later. HTTP 429.
    Overloaded,
    /// No leader is known, or this node can not serve (unformed, replaced); nothing was proposed. HTTP 503.
    NoLeader,
    /// The disk is nearly full; nothing was proposed. HTTP 503.
    NoSpace,
    /// The write may or may not have happened, or may yet. HTTP 504.
    OutcomeUnknown,
    /// The revision asked for is no longer kept. HTTP 400.
    Compacted,
    /// The session has expired; the write was not applied. HTTP 409.
    SessionExpired,
    /// To a forwarding node only: the receiver does not lead; nothing was proposed. HTTP 503.
    NotLeader,
    /// The node that was asked serves nobody: it is about to stop, or is no member any more. Nothing was proposed; ask another
    /// one. HTTP 503.
    NotServing,
    /// The change of members would harm the cluster, or does not fit it as it is; nothing was changed. HTTP 409.
    MembershipRefused,
    /// There is no such lease (any more); nothing was changed. HTTP 404.
    LeaseNotFound,
    /// There is a lease of that id already. HTTP 409.
    LeaseExists,
    /// The value to be incremented is no number, or the sum would be none of 64 bits; nothing was changed. HTTP 409.
    NotANumber,
    /// Another request was executed under the same idempotency key; this one was not. HTTP 409.
    IdempotencyConflict,
    /// The store has not reached the revision asked for. HTTP 400.
    FutureRevision,
    /// The watch did not keep up, and asked to be ended then. HTTP 429.
    WatchTooSlow,
}

/// What sending the same request again would mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing was applied and never will be; the same request may succeed later or elsewhere.
    Safe,
    /// It may have been applied: again may mean twice.
    Unsafe,
    /// Nothing was applied, and the same request would be refused again.
    Never,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [ErrorCode; 19] = [
        ErrorCode::BadRequest,
        ErrorCode::KeyNotFound,
        ErrorCode::RevisionMismatch,
        ErrorCode::TooLarge,
        ErrorCode::Overloaded,
        ErrorCode::NoLeader,
        ErrorCode::NoSpace,
        ErrorCode::OutcomeUnknown,
        ErrorCode::Compacted,
        ErrorCode::SessionExpired,
        ErrorCode::NotLeader,
        ErrorCode::NotServing,
        ErrorCode::MembershipRefused,
        ErrorCode::LeaseNotFound,
        ErrorCode::LeaseExists,
        ErrorCode::NotANumber,
        ErrorCode::IdempotencyConflict,
        ErrorCode::FutureRevision,
        ErrorCode::WatchTooSlow,
    ];

    /// Its status at the HTTP door. 4xx, 429 and 503 promise: not applied, and never will be.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            ErrorCode::BadRequest | ErrorCode::Compacted | ErrorCode::FutureRevision => 400,
            ErrorCode::KeyNotFound | ErrorCode::LeaseNotFound => 404,
            ErrorCode::RevisionMismatch
            | ErrorCode::SessionExpired
            | ErrorCode::MembershipRefused
            | ErrorCode::LeaseExists
            | ErrorCode::NotANumber
            | ErrorCode::IdempotencyConflict => 409,
            ErrorCode::TooLarge => 413,
            ErrorCode::Overloaded | ErrorCode::WatchTooSlow => 429,
            ErrorCode::NoLeader | ErrorCode::NoSpace | ErrorCode::NotLeader | ErrorCode::NotServing => 503,
            ErrorCode::OutcomeUnknown => 504,
        }
    }

    /// Its stable name, as in the `code` of an HTTP error.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::KeyNotFound => "key_not_found",
            ErrorCode::RevisionMismatch => "revision_mismatch",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::NoLeader => "no_leader",
            ErrorCode::NoSpace => "no_space",
            ErrorCode::OutcomeUnknown => "outcome_unknown",
            ErrorCode::Compacted => "compacted",
            ErrorCode::SessionExpired => "session_expired",
            ErrorCode::NotLeader => "not_leader",
            ErrorCode::NotServing => "not_serving",
            ErrorCode::MembershipRefused => "membership_refused",
            ErrorCode::LeaseNotFound => "lease_not_found",
            ErrorCode::LeaseExists => "lease_exists",
            ErrorCode::NotANumber => "not_a_number",
            ErrorCode::IdempotencyConflict => "idempotency_conflict",
            ErrorCode::FutureRevision => "future_revision",
            ErrorCode::WatchTooSlow => "watch_too_slow",
        }
    }

    /// What sending the same request again would mean.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            ErrorCode::Overloaded
            | ErrorCode::NoLeader
            | ErrorCode::NoSpace
            | ErrorCode::NotLeader
            | ErrorCode::NotServing => Retry::Safe,
            ErrorCode::OutcomeUnknown => Retry::Unsafe,
            ErrorCode::BadRequest
            | ErrorCode::KeyNotFound
            | ErrorCode::RevisionMismatch
            | ErrorCode::TooLarge
            | ErrorCode::Compacted
            | ErrorCode::SessionExpired
            | ErrorCode::MembershipRefused
            | ErrorCode::LeaseNotFound
            | ErrorCode::LeaseExists
            | ErrorCode::NotANumber
            | ErrorCode::IdempotencyConflict
            | ErrorCode::FutureRevision
            | ErrorCode::WatchTooSlow => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_name_status_and_meaning_for_retry() {
        let expected = [
            (ErrorCode::BadRequest, "bad_request", 400, Retry::Never),
            (ErrorCode::KeyNotFound, "key_not_found", 404, Retry::Never),
            (
                ErrorCode::RevisionMismatch,
                "revision_mismatch",
                409,
                Retry::Never,
            ),
            (ErrorCode::TooLarge, "too_large", 413, Retry::Never),
            (ErrorCode::Overloaded, "overloaded", 429, Retry::Safe),
            (ErrorCode::NoLeader, "no_leader", 503, Retry::Safe),
            (ErrorCode::NoSpace, "no_space", 503, Retry::Safe),
            (ErrorCode::OutcomeUnknown, "outcome_unknown", 504, Retry::Unsafe),
            (ErrorCode::Compacted, "compacted", 400, Retry::Never),
            (ErrorCode::SessionExpired, "session_expired", 409, Retry::Never),
            (ErrorCode::NotLeader, "not_leader", 503, Retry::Safe),
            (ErrorCode::NotServing, "not_serving", 503, Retry::Safe),
            (
                ErrorCode::MembershipRefused,
                "membership_refused",
                409,
                Retry::Never,
            ),
            (ErrorCode::LeaseNotFound, "lease_not_found", 404, Retry::Never),
            (ErrorCode::LeaseExists, "lease_exists", 409, Retry::Never),
            (ErrorCode::NotANumber, "not_a_number", 409, Retry::Never),
            (
                ErrorCode::IdempotencyConflict,
                "idempotency_conflict",
                409,
                Retry::Never,
            ),
            (ErrorCode::FutureRevision, "future_revision", 400, Retry::Never),
            (ErrorCode::WatchTooSlow, "watch_too_slow", 429, Retry::Never),
        ];
        let actual = ErrorCode::ALL.map(|code| (code, code.name(), code.http_status(), code.retry()));
        assert_eq!(actual, expected);
    }

    #[test]
    fn only_an_unknown_outcome_is_unsafe_to_retry_and_only_it_is_a_504() {
        for code in ErrorCode::ALL {
            assert_eq!(code.retry() == Retry::Unsafe, code.http_status() == 504, "{code}");
        }
    }
}
