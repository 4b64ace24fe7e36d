//! Outcomes of commands, kept so that a command which is sent again is answered as it was.

use raftkv_protocol::{Answer, ErrorCode, Failure, LeaseId, Revision, SessionId, TxnResult};
use serde::{Deserialize, Serialize};

/// What a command came to. A failure says nothing about the leader: it is the same on every node.
pub type Outcome = Result<Answer, Failure>;

/// An outcome of more bytes is not kept: a command that is sent again learns only that it was applied.
pub(super) const MAX_KEPT_BYTES: usize = 64 << 10;

/// On disk, in postcard. A released variant never changes; others are only added.
#[derive(Serialize, Deserialize)]
enum Version1 {
    Put { revision: Revision },
    Deleted { existed: bool, revision: Revision },
    ConditionFailed { current: Option<Revision> },
    Txn(TxnResult),
    LeaseGranted { id: LeaseId, ttl_ms: u64 },
    LeasesRenewed(Vec<Option<u64>>),
    LeaseRevoked { deleted: u64, revision: Revision },
    SessionOpened { session: SessionId, ttl_ms: u64 },
    SessionDone,
    Refused { code: ErrorCode, message: String },
    NotKept { revision: Revision },
}

/// An outcome as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// By far the most: no allocation of its own.
    Put(Revision),
    /// Any other, encoded.
    Encoded(Box<[u8]>),
    /// It was applied, the store's revision then, and its answer was too large.
    TooLarge(Revision),
}

impl Kept {
    /// Keeps `outcome`, of a command after which the store was at `revision`, in at most `room` bytes.
    pub(super) fn of(outcome: &Outcome, revision: Revision, room: usize) -> Kept {
        if let Ok(Answer::Put { revision }) = outcome {
            return Kept::Put(*revision);
        }
        let encoded = postcard::to_allocvec(&version_1(outcome)).expect("plain data always encodes");
        if encoded.len() > room.min(MAX_KEPT_BYTES) {
            return Kept::TooLarge(revision);
        }
        Kept::Encoded(encoded.into())
    }

    /// Bytes it takes beside itself.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Kept::Put(_) | Kept::TooLarge(_) => 0,
            Kept::Encoded(encoded) => encoded.len(),
        }
    }

    /// What is answered when the command is sent again.
    ///
    /// # Panics
    /// When it is damaged; what is read from disk is checked by [`Kept::decode`].
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Kept::Put(revision) => Ok(Answer::Put { revision: *revision }),
            Kept::TooLarge(revision) => Err(Failure::new(
                ErrorCode::OutcomeUnknown,
                format!(
                    "it was applied once, behind it the store was at revision {revision}; its answer was too large to be kept"
                ),
            )),
            Kept::Encoded(encoded) => {
                let decoded =
                    postcard::from_bytes(encoded).expect("what is kept was encoded or checked here");
                from_version_1(decoded)
            }
        }
    }

    /// As it is on disk.
    pub(super) fn encode(&self) -> Vec<u8> {
        let version_1 = match self {
            Kept::Encoded(encoded) => return encoded.to_vec(),
            Kept::Put(revision) => Version1::Put { revision: *revision },
            Kept::TooLarge(revision) => Version1::NotKept { revision: *revision },
        };
        postcard::to_allocvec(&version_1).expect("plain data always encodes")
    }

    /// Reads it back.
    ///
    /// # Errors
    /// A sentence when the bytes are no outcome.
    pub(super) fn decode(bytes: &[u8]) -> Result<Kept, &'static str> {
        match postcard::from_bytes(bytes) {
            Ok(Version1::Put { revision }) => Ok(Kept::Put(revision)),
            Ok(Version1::NotKept { revision }) => Ok(Kept::TooLarge(revision)),
            Ok(_) => Ok(Kept::Encoded(bytes.into())),
            Err(_) => Err("a kept outcome does not decode"),
        }
    }
}

fn version_1(outcome: &Outcome) -> Version1 {
    match outcome {
        Ok(Answer::Put { revision }) => Version1::Put { revision: *revision },
        Ok(Answer::Deleted { existed, revision }) => Version1::Deleted {
            existed: *existed,
            revision: *revision,
        },
        Ok(Answer::ConditionFailed { current }) => Version1::ConditionFailed { current: *current },
        Ok(Answer::Txn(result)) => Version1::Txn(result.clone()),
        Ok(Answer::LeaseGranted { id, ttl_ms }) => Version1::LeaseGranted {
            id: *id,
            ttl_ms: *ttl_ms,
        },
        Ok(Answer::LeasesRenewed(renewed)) => Version1::LeasesRenewed(renewed.clone()),
        Ok(Answer::LeaseRevoked { deleted, revision }) => Version1::LeaseRevoked {
            deleted: *deleted,
            revision: *revision,
        },
        Ok(Answer::SessionOpened { session, ttl_ms }) => Version1::SessionOpened {
            session: *session,
            ttl_ms: *ttl_ms,
        },
        Ok(Answer::SessionDone) => Version1::SessionDone,
        Ok(
            answer @ (Answer::Found(_)
            | Answer::NotFound
            | Answer::Status(_)
            | Answer::Members(_)
            | Answer::Read { .. }
            | Answer::Range(_)
            | Answer::Lease(_)
            | Answer::Leases(_)
            | Answer::Watch(_)
            | Answer::Scrub(_)),
        ) => unreachable!("no command answers {answer:?}"),
        Err(failure) => Version1::Refused {
            code: failure.code,
            message: failure.message.clone(),
        },
    }
}

fn from_version_1(kept: Version1) -> Outcome {
    match kept {
        Version1::Put { revision } => Ok(Answer::Put { revision }),
        Version1::Deleted { existed, revision } => Ok(Answer::Deleted { existed, revision }),
        Version1::ConditionFailed { current } => Ok(Answer::ConditionFailed { current }),
        Version1::Txn(result) => Ok(Answer::Txn(result)),
        Version1::LeaseGranted { id, ttl_ms } => Ok(Answer::LeaseGranted { id, ttl_ms }),
        Version1::LeasesRenewed(renewed) => Ok(Answer::LeasesRenewed(renewed)),
        Version1::LeaseRevoked { deleted, revision } => Ok(Answer::LeaseRevoked { deleted, revision }),
        Version1::SessionOpened { session, ttl_ms } => Ok(Answer::SessionOpened { session, ttl_ms }),
        Version1::SessionDone => Ok(Answer::SessionDone),
        Version1::Refused { code, message } => Err(Failure::new(code, message)),
        Version1::NotKept { revision } => Kept::TooLarge(revision).outcome(),
    }
}
