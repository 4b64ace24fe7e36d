//! How a command ends: what the exit code says and what is said on standard error.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use raftkv_client::{Applied, Error, ErrorCode, LeaseId};
use raftkv_tls::mint::MintError;
use thiserror::Error;

use crate::txn::SyntaxError;

/// The command did what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The key does not exist. An answer, not a trouble, but scripts want to know.
    NotFound,
    /// The conditions of a transaction do not hold. An answer as well.
    ConditionFailed,
    /// The command that was run ended with this code.
    CommandEnded(u8),
}

/// The command did not.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("no value: give it as an argument, as - with the value on standard input, or as --file PATH")]
    NoValue,
    #[error("the key is empty")]
    EmptyKey,
    #[error("--to must be behind --from: there is no key between them")]
    NothingBetween,
    #[error("cannot read the value from {}: {source}", path.display())]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("cannot read the value from standard input: {0}")]
    ReadInput(io::Error),
    #[error("the answer came, but can not be written to standard output: {0}")]
    Write(io::Error),
    #[error(
        "the write was applied, but its answer can not be written to standard output: {0}; read the key before writing again"
    )]
    WriteAfterChange(io::Error),
    #[error("cannot start: {0}; the system is out of file descriptors or memory")]
    Runtime(io::Error),
    #[error("cannot read {}: {source}", path.display())]
    ReadLines { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
    #[error(
        "{name:?} is not usable as the name of files: letters, digits, '-', '_', '.' and '@', and not \"ca\""
    )]
    HolderName { name: String },
    #[error("{} is there already: --renew makes a new certificate in its place", path.display())]
    CertificateThere { path: PathBuf },
    #[error(
        "{} is missing, which signs for {}: make certificates where it is kept, or give another --directory for a new authority",
        key.display(), certificate.display()
    )]
    NoAuthorityKey { key: PathBuf, certificate: PathBuf },
    #[error("{0}")]
    Mint(#[from] MintError),
    #[error("no transaction: give a file with its text, or the text on standard input; see kvctl txn --help")]
    NoTransaction,
    #[error("no lines: give a file with them, or the lines on standard input")]
    NoLines,
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error(
        "line {line} is no key with its value: {reason}; {imported} keys of the lines before it were imported"
    )]
    NotAKey {
        line: u64,
        reason: String,
        imported: u64,
    },
    #[error(
        "importing stopped before line {line}: {source}; {imported} keys were imported, and it may be run again"
    )]
    Import { line: u64, imported: u64, source: Error },
    #[error(
        "--guarded needs RAFTKV_LOCK_KEY and RAFTKV_LOCK_TOKEN in the environment: run it by kvctl lock NAME -- COMMAND"
    )]
    NoGuard,
    #[error("cannot run {command:?}: {source}")]
    Command { command: OsString, source: io::Error },
    #[error(
        "the lock was lost while the command ran, so the command was ended: another may hold the lock now"
    )]
    LockLost,
    #[error("the leadership was lost: another may lead now")]
    LeadershipLost,
    #[error("the lease {lease} could not be renewed in time, and may have ended")]
    LeaseLost { lease: LeaseId },
    #[error("none of the servers asked can be reached: check --endpoints and that a server runs there")]
    NobodyAnswers,
}

/// The numbers that `--help` documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    NotFound = 1,
    Usage = 2,
    Unavailable = 3,
    ConditionFailed = 4,
    OutcomeUnknown = 5,
}

pub(crate) fn exit_code(outcome: &Result<Outcome, Trouble>) -> ExitCode {
    match outcome {
        Ok(Outcome::CommandEnded(code)) => ExitCode::from(*code),
        outcome => ExitCode::from(exit(outcome) as u8),
    }
}

fn exit(outcome: &Result<Outcome, Trouble>) -> Exit {
    match outcome {
        Ok(Outcome::Done | Outcome::CommandEnded(_)) => Exit::Done,
        Ok(Outcome::NotFound) => Exit::NotFound,
        Ok(Outcome::ConditionFailed) => Exit::ConditionFailed,
        Err(Trouble::Client(error) | Trouble::Import { source: error, .. }) => exit_of(error),
        Err(
            Trouble::NoValue
            | Trouble::EmptyKey
            | Trouble::NothingBetween
            | Trouble::ReadFile { .. }
            | Trouble::ReadLines { .. }
            | Trouble::WriteFile { .. }
            | Trouble::HolderName { .. }
            | Trouble::CertificateThere { .. }
            | Trouble::NoAuthorityKey { .. }
            | Trouble::Mint(_)
            | Trouble::NoTransaction
            | Trouble::NoLines
            | Trouble::Syntax(_)
            | Trouble::NotAKey { .. }
            | Trouble::NoGuard
            | Trouble::Command { .. }
            | Trouble::ReadInput(_),
        ) => Exit::Usage,
        // To exit as if nothing had been changed would be a lie.
        Err(Trouble::WriteAfterChange(_)) => Exit::OutcomeUnknown,
        // What was done under it may be whole or not.
        Err(Trouble::LockLost | Trouble::LeadershipLost) => Exit::OutcomeUnknown,
        Err(Trouble::LeaseLost { .. } | Trouble::Write(_) | Trouble::Runtime(_) | Trouble::NobodyAnswers) => {
            Exit::Unavailable
        }
    }
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::NoEndpoints | Error::InvalidEndpoint { .. } | Error::Tls(_) => Exit::Usage,
        Error::Rejected(failure) => exit_of_code(failure.code),
        Error::ConditionFailed { .. } | Error::NotHeld { .. } | Error::NotAcquired { .. } => {
            Exit::ConditionFailed
        }
        Error::OutcomeUnknown { .. }
        | Error::UnexpectedAnswer {
            applied: Applied::Unknown,
            ..
        } => Exit::OutcomeUnknown,
        Error::NoLeader(_)
        | Error::Overloaded(_)
        | Error::Unreachable(_)
        | Error::TimedOut { .. }
        | Error::Unanswered(_)
        | Error::UnexpectedAnswer {
            applied: Applied::No, ..
        }
        | Error::Closed => Exit::Unavailable,
    }
}

fn exit_of_code(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::BadRequest | ErrorCode::TooLarge | ErrorCode::Compacted | ErrorCode::FutureRevision => {
            Exit::Usage
        }
        ErrorCode::KeyNotFound | ErrorCode::LeaseNotFound => Exit::NotFound,
        ErrorCode::RevisionMismatch
        | ErrorCode::MembershipRefused
        | ErrorCode::LeaseExists
        | ErrorCode::NotANumber
        | ErrorCode::IdempotencyConflict => Exit::ConditionFailed,
        ErrorCode::OutcomeUnknown => Exit::OutcomeUnknown,
        ErrorCode::Overloaded
        | ErrorCode::WatchTooSlow
        | ErrorCode::NoLeader
        | ErrorCode::NoSpace
        | ErrorCode::SessionExpired
        | ErrorCode::NotLeader
        | ErrorCode::NotServing => Exit::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_client::{Failure, UnknownReason};
    use std::time::Duration;

    #[test]
    fn each_kind_of_end_has_the_exit_code_that_the_help_documents() {
        let after = Duration::from_secs(1);
        let rejected = |code| Error::Rejected(Failure::new(code, "because"));
        let cases = [
            (Error::NoEndpoints, 2),
            (rejected(ErrorCode::TooLarge), 2),
            (rejected(ErrorCode::BadRequest), 2),
            (rejected(ErrorCode::NoSpace), 3),
            (rejected(ErrorCode::MembershipRefused), 4),
            (Error::NoLeader(Failure::new(ErrorCode::NoLeader, "because")), 3),
            (Error::TimedOut { after }, 3),
            (Error::ConditionFailed { current: None }, 4),
            (
                Error::OutcomeUnknown {
                    reason: UnknownReason::TimedOut { after },
                },
                5,
            ),
            (
                Error::UnexpectedAnswer {
                    expected: "a",
                    got: "b",
                    applied: Applied::Unknown,
                },
                5,
            ),
            (
                Error::UnexpectedAnswer {
                    expected: "a",
                    got: "b",
                    applied: Applied::No,
                },
                3,
            ),
        ];
        for (error, expected) in cases {
            let described = format!("{error}");
            assert_eq!(exit(&Err(Trouble::Client(error))) as u8, expected, "{described}");
        }
        assert_eq!(exit(&Ok(Outcome::Done)) as u8, 0);
        assert_eq!(exit(&Ok(Outcome::NotFound)) as u8, 1);
        assert_eq!(exit(&Err(Trouble::NoValue)) as u8, 2);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(exit(&Err(Trouble::Write(full()))) as u8, 3);
        assert_eq!(exit(&Err(Trouble::WriteAfterChange(full()))) as u8, 5);
    }
}
