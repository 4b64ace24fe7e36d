//! The consensus core of raftkv.
#![forbid(unsafe_code)]

mod apply;
mod config;
mod log;
mod membership;
mod message;
mod outbox;
mod progress;
mod proposal;
mod quorum;
mod raft;
mod read;
mod ready;
mod restore;
mod role;
mod shared;
pub mod simulation;
mod step;
mod types;
mod voting;

pub use config::{Config, ConfigError};
pub use membership::Configuration;
pub use message::{Campaign, Envelope, Message, ReadId, ReplicationSession, Round, Verdict};
pub use proposal::{Proposal, ProposeError, ReadError};
pub use raft::{Raft, RoleName};
pub use ready::{Fetch, FetchPurpose, ReadOutcome, Ready, StepDown, Transition, Write, WriteNumber};
pub use restore::{RestoreError, Restored};
pub use types::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Stamp, Term, Time};
