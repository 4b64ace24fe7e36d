//! What callers ask of a node, and why it may say no.

use thiserror::Error;

use crate::{EntryKind, NodeId, Stamp};

/// A command that asks for a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Command (configurations have a call of their own).
    pub kind: EntryKind,
    /// Log time and session.
    pub stamp: Stamp,
    /// The encoded command.
    pub payload: bytes::Bytes,
}

/// A proposal that was not accepted: nothing of it is in any log, and never will be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// Leadership is being transferred (R66).
    #[error("leadership is being transferred to {target}")]
    TransferUnderWay {
        /// To whom.
        target: NodeId,
    },
    /// Too many accepted bytes are not committed yet (R78).
    #[error("{uncommitted_bytes} bytes wait to be committed")]
    Overloaded {
        /// How many.
        uncommitted_bytes: usize,
    },
}

/// A read batch that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// Too many batches wait already.
    #[error("too many reads wait for a confirmation")]
    Overloaded,
}
