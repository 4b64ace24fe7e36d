//! The consensus core of raftkv: Raft as plain, deterministic code.
//!
//! One [`Raft`] is one group on one node. It does no I/O, reads no clock, starts no thread and awaits nothing: events go
//! in as calls that carry the time, and everything that must happen next comes out of [`Raft::take_ready`] as one value.
//! So whole clusters run in one thread under a seed, and each failure replays.
//!
//! # How it goes
//!
//! **Log.** The group agrees on a log of entries, each named by its [`EntryId`]: term and index. Two logs that hold the
//! same id hold the same prefix (paper §5.3). All nodes of a formed group hold the same founding entry at index 1, so each
//! append has an entry before it to be checked against. The core keeps the terms of all entries and the newest entries;
//! older ones it asks back from the durable log by a [`Fetch`].
//!
//! **Elections.** A follower that hears from no leader for a time-out, drawn anew each time (paper §5.2), first asks
//! whether it could win (pre-vote, thesis 9.6). Voters that heard from a leader lately refuse, and ignore real requests
//! too (thesis 4.2.3); a leader that no quorum answers steps down (check-quorum, thesis 6.2). These three are one feature
//! and always on: each alone lets some half-connected node rule, or depose, for ever. A voter votes once a term, for a log
//! at least as up-to-date as its own (paper §5.4.1). A reset connection to the leader's process ends a follower's
//! patience early.
//!
//! **Replication.** The new leader appends a no-op, and finds with each follower the last entry they share, by whole
//! terms rather than single entries (end of paper §5.3). Then it pipelines appends within a window. A follower cuts only
//! what really conflicts, and acknowledges only what is durable.
//!
//! **Commitment.** Committed is what a quorum has made durable, if it is of the leader's own term; older entries come
//! along with it (paper §5.4.2). The leader writes its own disk while its appends travel (thesis 10.2.1), and counts
//! itself only once that write is done. A node applies what is committed *and* durable at home.
//!
//! **Reads.** ReadIndex (thesis 6.4): a leader with a commit in its term confirms its commit index by a round of heartbeats
//! sent after the read came; one round serves all reads that gathered. Any node may ask, and serves from its own state.
//!
//! **Snapshots.** The caller cuts its durable log behind a snapshot of its own, and says so ([`Raft::compacted`]). A follower
//! whose next entry is gone gets a snapshot instead (thesis 5.1): the leader's core asks its caller for it
//! ([`Ready::snapshots`]) and appends nothing meanwhile; heartbeats go on. The bytes travel outside of the core; the
//! receiver's core judges each part ([`Raft::snapshot_part`]), and the whole one at last takes the place of log and state
//! ([`Raft::install`], [`Ready::install`]), as one step of the durable stream, acknowledged like entries.
//!
//! **Configurations** take effect when they are appended, and truncation takes them back (thesis 4.1). Voters change by joint
//! consensus alone (thesis 4.3): [`Raft::propose_change`] appends a configuration whose quorums need both halves; once that
//! is committed, whoever leads asks its caller for the entry that leaves it ([`Ready::leave_joint`]). One change at a time,
//! and none before the leader has a commit in its term. Learners receive the log and do not count; they may be promoted
//! when they have caught up ([`Raft::is_caught_up`], thesis 4.2.1). A leader that is no voter any more leads until that is
//! committed, hands over, and campaigns no more (thesis 4.2.2).
//!
//! **Transfer** of leadership (thesis 3.10): [`Raft::transfer`] stops proposals, brings the target level, and tells it to
//! campaign at once; its campaign skips the pre-vote and overrides stickiness.
//!
//! **Leader leases** (thesis 6.4.1), off by default: [`Raft::lease`] lets a leader serve reads without a round, for as long as
//! voters have promised to elect nobody else, by a stated bound on clock drift. Nothing else depends on clocks.
//!
//! # What the caller owes
//!
//! * Do each [`Install`] and [`Write`] in the order of its number, and report it by [`Raft::persisted`]. Messages may be sent
//!   at once: the core holds back by itself what depends on a write ([`Ready`]).
//! * Apply [`Ready::committed`] in order, and report it by [`Raft::applied`]. Answer each [`Fetch`] and each
//!   [`SendSnapshot`]. Propose what [`Ready::leave_joint`] asks for.
//! * Call [`Raft::tick`] at [`Raft::next_deadline`].
//! * Stop the node when a write fails: nothing here can mend a log that may or may not be on disk.
//!
//! # Example
//!
//! A group of one leads at once, and commits when its own disk is done:
//!
//! ```
//! use raftkv_raft::{
//!     Config, Configuration, EntryId, EntryKind, HardState, Index, NodeId, Proposal, Raft, Restored, Stamp, Term, Time,
//! };
//!
//! /// Does what `Ready` says, on a disk that is always in time. Returns the payloads applied.
//! fn work(raft: &mut Raft, now: Time) -> Vec<bytes::Bytes> {
//!     let mut applied = Vec::new();
//!     loop {
//!         let ready = raft.take_ready(now);
//!         if ready.is_empty() {
//!             return applied;
//!         }
//!         if let Some(write) = ready.write {
//!             raft.persisted(now, write.number);
//!         }
//!         if let Some(last) = ready.committed.last().map(|entry| entry.id.index) {
//!             applied.extend(ready.committed.into_iter().map(|entry| entry.payload));
//!             raft.applied(last);
//!         }
//!     }
//! }
//!
//! let founding = EntryId { term: Term(1), index: Index::FIRST };
//! let restored = Restored {
//!     hard_state: HardState { term: Term(1), vote: None, commit: founding.index },
//!     base: founding,
//!     configuration: Configuration::of_voters([NodeId(1)]),
//!     later_configurations: Vec::new(),
//!     term_runs: Vec::new(),
//!     last: founding,
//!     applied: founding.index,
//! };
//! let now = Time(0);
//! let mut raft = Raft::new(NodeId(1), Config::default(), restored, 42, now)?;
//!
//! raft.tick(now); // the deadline of a group of one has come at once
//! work(&mut raft, now);
//! let put = Proposal { kind: EntryKind::Command, stamp: Stamp::default(), payload: "hello".into() };
//! raft.propose(now, vec![put])?;
//! assert_eq!(work(&mut raft, now), ["hello"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is left out
//!
//! On purpose: single-server changes (joint consensus covers them), quiescence of idle groups, and forwarding of proposals.
//! The bytes of snapshots and the encoding of configurations are the caller's, and so is remembering whom a group has
//! removed.
#![forbid(unsafe_code)]

mod apply;
mod change;
mod config;
mod inspect;
mod lease;
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
mod snapshot;
mod step;
mod transfer;
mod types;
mod voting;

pub use change::{ChangeChecks, ChangeError, ConfigurationChange};
pub use config::{Config, ConfigError};
pub use inspect::{PeerProgress, ProgressState};
pub use lease::{LeaderLease, LeaderLeases};
pub use membership::Configuration;
pub use message::{Campaign, Envelope, Message, ReadId, ReplicationSession, Round, Verdict};
pub use proposal::{Proposal, ProposeError, ReadError};
pub use raft::{Raft, RoleName};
pub use ready::{Fetch, FetchPurpose, Install, ReadOutcome, Ready, StepDown, Transition, Write, WriteNumber};
pub use restore::{RestoreError, Restored};
pub use snapshot::{SendSnapshot, SnapshotOffer, SnapshotVerdict};
pub use transfer::TransferError;
pub use types::{Entry, EntryId, EntryKind, HardState, Index, NodeId, Stamp, Term, Time};
