//! What the state machine executes. Encoded once, by the client library or the listener; the same bytes then go into the
//! log, to the followers and into their logs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Failure, Revision};

/// When a write may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    Always,
    /// Only if the key does not exist (`if_revision: 0` at the HTTP door).
    Absent,
    /// Only if the key exists and was last changed by this revision.
    ModRevision(Revision),
}

/// One command, borrowing from its encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command<'a> {
    /// Sets a key.
    Put {
        /// 1 to [`Limits::key_bytes`](crate::Limits) bytes.
        #[serde(with = "serde_bytes")]
        key: &'a [u8],
        /// Up to [`Limits::value_bytes`](crate::Limits) bytes.
        #[serde(with = "serde_bytes")]
        value: &'a [u8],
        /// When it may happen.
        condition: Condition,
        /// Deleted by itself so many milliseconds of log time after this write; at least 1.
        ttl_ms: Option<u64>,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: &'a [u8],
        /// When it may happen.
        condition: Condition,
    },
    /// Carries log time forward while keys with a TTL exist; proposed by the leader alone.
    Tick,
}

/// A command that was decoded and checked against the limits: the only form in which one can be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCommand {
    encoded: Bytes,
}

impl CheckedCommand {
    /// The encoding that goes into the log.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

#[allow(missing_docs, unused_variables, clippy::todo)]
impl CheckedCommand {
    /// Decodes and checks what came from a client. `Tick` is refused.
    pub fn from_client(encoded: Bytes, limits: &crate::Limits) -> Result<CheckedCommand, Failure> {
        todo!()
    }
    /// Encodes and checks.
    pub fn new(command: &Command<'_>, limits: &crate::Limits) -> Result<CheckedCommand, Failure> {
        todo!()
    }
    /// The leader's own [`Command::Tick`].
    pub fn tick() -> CheckedCommand {
        todo!()
    }
}

/// Decodes a command that was checked when it was proposed (from the log).
#[allow(missing_docs, unused_variables, clippy::todo, clippy::missing_errors_doc)]
pub fn decode_command(encoded: &[u8]) -> Result<Command<'_>, postcard::Error> {
    todo!()
}
