//! The consensus core of raftkv.
#![forbid(unsafe_code)]

mod config;
mod membership;
mod message;
mod raft;
mod ready;
pub mod simulation;
mod types;

pub use config::{Config, ConfigError};
pub use membership::Configuration;
pub use message::{Campaign, Envelope, Message, ReadId, ReplicationSession, Round, Verdict};
pub use raft::{Proposal, ProposeError, Raft, ReadError, RestoreError, Restored, RoleName};
pub use ready::{Fetch, FetchPurpose, ReadOutcome, Ready, StepDown, Transition, Write, WriteNumber};
pub use types::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Stamp, Term, Time};
