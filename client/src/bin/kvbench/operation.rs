//! What a logical client does, step by step.

use raftkv_client::LeaseId;

use crate::target::{Answered, Found};

/// One operation of a logical client, or the step at which it is if it takes several requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get {
        key: u64,
    },
    /// `write` numbers all writes of this run.
    Put {
        key: u64,
        write: u64,
    },
    /// Reads a page of keys, from this one on.
    Scan {
        key: u64,
    },
    /// The first half of a compare and set: reads the key.
    CasRead {
        key: u64,
        write: u64,
    },
    /// The second half: writes if the key is still what was read.
    CasWrite {
        key: u64,
        write: u64,
    },
    /// Moves an amount from one key to another.
    Transfer {
        from: u64,
        to: u64,
        write: u64,
        step: TransferStep,
    },
    /// Grants a lease, lets a key hang on it, and revokes it, which deletes the key.
    Lease {
        key: u64,
        write: u64,
        step: LeaseStep,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferStep {
    ReadFrom,
    ReadTo,
    /// Writes both, if both are still what was read.
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseStep {
    Grant,
    Attach(LeaseId),
    Revoke(LeaseId),
}

impl Operation {
    /// The key that it is about; of two, the first.
    pub(crate) fn key(self) -> u64 {
        match self {
            Operation::Get { key }
            | Operation::Scan { key }
            | Operation::Put { key, .. }
            | Operation::CasRead { key, .. }
            | Operation::CasWrite { key, .. }
            | Operation::Lease { key, .. } => key,
            Operation::Transfer { from, .. } => from,
        }
    }

    /// The next step, after this answer to the one before; `None`: the operation has ended.
    pub(crate) fn after(self, answered: &Answered) -> Option<Operation> {
        match self {
            Operation::CasRead { key, write } => read(answered).map(|_| Operation::CasWrite { key, write }),
            Operation::Transfer {
                from,
                to,
                write,
                step,
            } => {
                let step = step.after(answered)?;
                Some(Operation::Transfer {
                    from,
                    to,
                    write,
                    step,
                })
            }
            Operation::Lease { key, write, step } => {
                let step = step.after(answered)?;
                Some(Operation::Lease { key, write, step })
            }
            Operation::Get { .. }
            | Operation::Put { .. }
            | Operation::Scan { .. }
            | Operation::CasWrite { .. } => None,
        }
    }
}

impl TransferStep {
    fn after(self, answered: &Answered) -> Option<TransferStep> {
        match self {
            TransferStep::ReadFrom => read(answered).map(|_| TransferStep::ReadTo),
            TransferStep::ReadTo => read(answered).map(|_| TransferStep::Write),
            TransferStep::Write => None,
        }
    }
}

impl LeaseStep {
    fn after(self, answered: &Answered) -> Option<LeaseStep> {
        match (self, answered) {
            (LeaseStep::Grant, Answered::Granted(lease)) => Some(LeaseStep::Attach(*lease)),
            (LeaseStep::Attach(lease), Answered::Written(_)) => Some(LeaseStep::Revoke(lease)),
            (LeaseStep::Grant | LeaseStep::Attach(_) | LeaseStep::Revoke(_), _) => None,
        }
    }
}

fn read(answered: &Answered) -> Option<&Option<Found>> {
    match answered {
        Answered::Read(found) => Some(found),
        Answered::Scanned { .. }
        | Answered::Written(_)
        | Answered::Conflict
        | Answered::Granted(_)
        | Answered::Revoked
        | Answered::Refused(_)
        | Answered::Unknown(_) => None,
    }
}

/// What the reads of an operation found, the last two of them; a key that does not exist as `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) before: Option<Found>,
    pub(crate) last: Option<Found>,
}

impl Seen {
    /// Keeps what was found; other answers tell nothing of a key.
    pub(crate) fn keep(&mut self, answered: &Answered) {
        if let Some(found) = read(answered) {
            self.before = std::mem::replace(&mut self.last, found.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_step_that_fails_ends_the_operation() {
        let lease = |step| Operation::Lease {
            key: 1,
            write: 2,
            step,
        };
        let id = LeaseId(9);
        let attach = lease(LeaseStep::Attach(id));
        assert_eq!(
            lease(LeaseStep::Grant).after(&Answered::Granted(id)),
            Some(attach)
        );
        let revoke = Some(lease(LeaseStep::Revoke(id)));
        assert_eq!(attach.after(&Answered::Written(None)), revoke);
        assert_eq!(attach.after(&Answered::Refused("overloaded")), None);
        assert_eq!(lease(LeaseStep::Revoke(id)).after(&Answered::Revoked), None);
    }

    #[test]
    fn the_last_two_reads_are_kept_in_order_even_if_they_found_nothing() {
        let found = |value: &'static str| {
            Some(Found {
                value: Bytes::from_static(value.as_bytes()),
                revision: None,
            })
        };
        let mut seen = Seen::default();
        seen.keep(&Answered::Read(found("a")));
        seen.keep(&Answered::Read(None));
        assert_eq!((seen.before.clone(), seen.last.clone()), (found("a"), None));
        seen.keep(&Answered::Conflict);
        seen.keep(&Answered::Read(found("b")));
        assert_eq!((seen.before, seen.last), (None, found("b")));
    }
}
