//! Transactions, leases and sessions: what their clients are told (I12, I13, I16, I18), and when what has a time ends (I26).
//!
//! **Why a replay by the log is the whole check.** A history is linearizable if *some* order explains every answer and
//! keeps the order of real time. The log is such an order, or nothing is: so every answer is compared with what the model
//! came to where the proposal was decided, over all keys at once, and an operation that began when another had been
//! answered must stand behind that one. Nothing is searched for, so transactions over many keys cost no more than writes of
//! one, and the general checker, which works key by key, is not asked about them. It can fail in each of its parts: an
//! answer that is not the model's (a branch that ran wrongly, a retry that was executed again or was told something else),
//! an answer of what was never decided, a place before what was known when the operation began, and an effect of what was
//! called failed.
//!
//! **Time.** Log time runs no faster than the fastest clock (only where no clock leaps), so what is granted or renewed for a
//! while lives at least as long in the world, counted from when its client asked. It ends soon behind its time where nothing
//! happens to the one leader, and in the end wherever the cluster has come to rest (I20).

use bytes::Bytes;
use raftkv_protocol::{Answer, Command, ErrorCode, LeaseState, Response, Revision, decode_command};
use raftkv_raft::simulation::mark;
use raftkv_raft::{Entry, EntryKind};

use super::model::{Done, Outcome, ProposalId};
use super::{Attempt, Observer};
use crate::simulation::queue::Micros;

/// What an operation must see: what others had been answered when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) index: u64,
    pub(crate) revision: u64,
}

/// What is promised about time in this run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timekeeping {
    /// No clock runs faster or slower than true by more than this; `None`: they do as they like.
    pub(crate) drift_ppm: Option<u64>,
    /// Under one leader that nothing happens to, what has a time ends so soon behind it.
    pub(crate) ends_within_us: Option<Micros>,
}

/// Copies of one proposal on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies {
    pub(super) first_us: Micros,
    sent: usize,
    pub(super) failed: usize,
}

impl Observer {
    pub(crate) fn floor(&self) -> Floor {
        Floor {
            index: self.shown_index,
            revision: self.shown_revision,
        }
    }

    /// A client sends a proposal, perhaps not for the first time.
    pub(crate) fn proposal_sent(&mut self, id: ProposalId) {
        let now = self.now;
        let copies = self.copies.entry(id).or_insert(Copies {
            first_us: now,
            sent: 0,
            failed: 0,
        });
        copies.sent += 1;
    }

    /// A copy of it was called failed: it is decided nowhere, and never will be.
    pub(crate) fn proposal_failed(&mut self, id: ProposalId) {
        if let Some(copies) = self.copies.get_mut(&id) {
            copies.failed += 1;
        }
        self.check_copies(id);
    }

    fn check_copies(&mut self, id: ProposalId) {
        let Some(Copies { sent, failed, .. }) = self.copies.get(&id).copied() else {
            return;
        };
        let done = self.model.done(id);
        if done.len() > sent - failed {
            let what = format!(
                "of {sent} copies of a proposal {failed} were called failed, and it is decided {} times: {done:?}",
                done.len()
            );
            self.violate("I18", None, what);
        }
    }

    /// The next entry is decided.
    pub(super) fn apply_to_model(&mut self, entry: &Entry, seen_us: Micros) -> Option<Attempt> {
        let id = ProposalId::of(&entry.payload, &entry.stamp);
        let moment = self.moment_of(entry, seen_us);
        let attempt = self.model.apply(entry, moment);
        self.check_trim(entry);
        self.check_copies(id);
        self.check_ended();
        attempt
    }

    /// A leader asks once for history to be given up, or behind each write: entries that bring nothing new would bring drains, and
    /// these more entries.
    fn check_trim(&mut self, entry: &Entry) {
        if entry.kind != EntryKind::Command {
            return;
        }
        let Ok(Command::KeepHistoryFrom { oldest }) = decode_command(&entry.payload) else {
            self.is_write_decided = true;
            return;
        };
        let asked = (entry.id.term, oldest);
        let follows_a_write = std::mem::take(&mut self.is_write_decided) && oldest == Revision(u64::MAX);
        if !follows_a_write && self.trim.replace(asked) == Some(asked) {
            let what = format!(
                "the leader of {} asked twice to keep history from {oldest}",
                entry.id
            );
            self.violate("I19", None, what);
        }
    }

    /// Nothing ends before its time, or much later.
    fn check_ended(&mut self) {
        for ended in self.model.take_ended() {
            let Some(drift_ppm) = self.timekeeping.drift_ppm else {
                continue;
            };
            let ttl_us = ended.ttl_ms * 1000;
            let drift_us = ttl_us * drift_ppm / 1_000_000 + 1;
            let (at, renewed) = (ended.at, ended.renewed);
            let is_early = renewed
                .asked_us
                .is_some_and(|asked_us| at.seen_us - asked_us + drift_us < ttl_us);
            let is_late = self.timekeeping.ends_within_us.is_some_and(|within_us| {
                at.term == renewed.term && at.seen_us - renewed.seen_us > ttl_us + 2 * drift_us + within_us
            });
            if is_early || is_late {
                let what = format!(
                    "{} was to live {} ms, last asked for and renewed at {renewed:?}, and ended at {at:?}",
                    ended.what, ended.ttl_ms
                );
                self.violate("I26", None, what);
            }
        }
    }

    /// Will something end by itself?
    pub(crate) fn awaits_an_end(&self) -> bool {
        self.model.awaits_an_end()
    }

    /// A client has the answer to a proposal. Only what the state machine comes to is an answer: that a node had no leader
    /// is told by [`Observer::proposal_failed`].
    pub(crate) fn proposal_answered(
        &mut self,
        slot: usize,
        id: ProposalId,
        floor: Floor,
        response: &Response,
    ) {
        let told: Outcome = match &response.outcome {
            Ok(answer) => Ok(answer.clone()),
            Err(failure) => Err(failure.code),
        };
        let shown = response.header.revision.0;
        let done = self.model.done(id);
        // Several clients may ask for the very same, and each of a retry's copies has a place: one of them is this one's.
        let follows = |done: &&Done| done.index > floor.index && done.revision_before >= floor.revision;
        let copy = done.iter().filter(|done| done.outcome == told).find(follows);
        let (Some(copy), Some(first), Some(last)) = (copy, done.first(), done.last()) else {
            let (invariant, why) = match (done.first(), done.iter().any(|done| done.outcome == told)) {
                (None, _) => ("I12", "nobody decided it"),
                (Some(_), false) => ("I16", "the log says otherwise"),
                (Some(_), true) => ("I16", "it stands before what it must follow"),
            };
            let what = format!("{told:?} was told at revision {shown}, {why}: {done:?}, {floor:?}");
            self.violate(invariant, Some(slot), what);
            return;
        };
        self.mark_retry(first, last);
        let copy = copy.clone();
        let revision = self.model.revision_at_index(copy.index).unwrap_or(u64::MAX);
        if shown < revision {
            let what = format!("{told:?} came with revision {shown}, it stands at revision {revision}");
            self.violate("I16", Some(slot), what);
        }
        self.shown_index = self.shown_index.max(copy.index);
        self.shown_revision = self.shown_revision.max(revision);
    }

    /// How did the executing node know of the first copy?
    fn mark_retry(&self, first: &Done, copy: &Done) {
        if first.term == copy.term || first.outcome != copy.outcome {
            return;
        }
        mark("tenants: a retry was answered by a later leader");
        let Some(view) = self.leaders.get(&copy.term).map(|&view| &self.views[view]) else {
            return;
        };
        if view.installed_up_to >= first.index && view.installed_up_to < copy.index {
            mark("tenants: a retry was answered by who had the first answer from a snapshot");
        }
        if view.started_behind >= first.index && view.started_behind < copy.index {
            mark("tenants: a retry was answered by who started again meanwhile");
        }
    }

    /// A client has read about a lease.
    pub(crate) fn lease_told(
        &mut self,
        slot: usize,
        id: raftkv_protocol::LeaseId,
        floor: Floor,
        response: &Response,
    ) {
        let Ok(Answer::Lease(told)) = &response.outcome else {
            return;
        };
        let at = response.header.revision.0;
        let indices = self.model.indices_at(at);
        let is_true = |index: u64| {
            let lease = self.model.lease_at(index, id);
            match (told, lease) {
                (None, None) => true,
                (Some(told), Some(lease)) => {
                    let keys = self.model.keys_on(id, at);
                    is_lease(told, lease.ttl_ms, &keys)
                }
                _ => false,
            }
        };
        let first = (*indices.start()).max(floor.index);
        let found = (first..=*indices.end()).find(|index| is_true(*index));
        if at < floor.revision || found.is_none() {
            let what = format!("lease {id} was told as {told:?} at revision {at}; {floor:?}");
            self.violate("I16", Some(slot), what);
        }
        self.shown_revision = self.shown_revision.max(at);
    }
}

fn is_lease(told: &LeaseState, ttl_ms: u64, keys: &[Bytes]) -> bool {
    told.ttl_ms == ttl_ms
        && told.remaining_ms <= ttl_ms
        && told.key_count == keys.len() as u64
        && told.keys == keys
}

/// Is this what the state machine said, rather than a node that could not ask it?
pub(crate) fn is_outcome(code: ErrorCode) -> bool {
    match code {
        ErrorCode::BadRequest
        | ErrorCode::SessionExpired
        | ErrorCode::LeaseNotFound
        | ErrorCode::LeaseExists
        | ErrorCode::NotANumber
        | ErrorCode::IdempotencyConflict
        | ErrorCode::TooLarge => true,
        ErrorCode::KeyNotFound
        | ErrorCode::RevisionMismatch
        | ErrorCode::Overloaded
        | ErrorCode::NoLeader
        | ErrorCode::NoSpace
        | ErrorCode::OutcomeUnknown
        | ErrorCode::Compacted
        | ErrorCode::NotLeader
        | ErrorCode::NotServing
        | ErrorCode::MembershipRefused
        | ErrorCode::FutureRevision
        | ErrorCode::WatchTooSlow => false,
    }
}
