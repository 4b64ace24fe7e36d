//! Linearizable reads by ReadIndex (thesis 6.4), and readiness, which is such a read by the node itself.
//!
//! One batch is under way at a time; what arrives meanwhile gathers for the next, so that under load one confirmation round
//! serves many reads.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, Failure, LeaseQuery};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Index, ReadError, ReadId, ReadOutcome, Time};

use super::expiry::Expiry;
use super::formed::Formed;
use super::outbox::Outbox;
use super::page_read::PageRead;
use super::promises::{Leased, Promise};
use super::{Effect, Token};
use crate::store::TOUCHED_AT_ONCE;

/// A batch that found no confirmation is asked for again after this, or when a leader becomes known.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A linearizable read that waits.
#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) token: Token,
    pub(super) wanted: Wanted,
    pub(super) deadline: Time,
    /// Waits for a leader until then; at most `deadline`.
    pub(super) leader_deadline: Time,
    pub(super) promise: Promise,
}

/// What a read is about.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The record of a key, still a slice of the read buffer it came in; short-lived.
    Record(Bytes),
    /// A page of a range.
    Page(Box<PageRead>),
    /// About leases, all of which are in memory.
    Leases(LeaseQuery),
    /// Nothing is read: a watch begins, with all that was acknowledged before.
    Watch,
}

impl PendingRead {
    /// The key whose record it wants, if that is what it wants.
    pub(super) fn key(&self) -> Option<&Bytes> {
        match &self.wanted {
            Wanted::Record(key) => Some(key),
            Wanted::Page(_) | Wanted::Leases(_) | Wanted::Watch => None,
        }
    }
}

/// How far this node is on the way to "knows a leader and has caught up".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// The next batch asks what the leader has committed.
    Wanted,
    /// The batch under way asks.
    Asked,
    /// Caught up once this is applied.
    Until(Index),
    CaughtUp,
}

/// All linearizable reads at this node.
#[derive(Debug)]
pub(super) struct Reads {
    gathering: Vec<PendingRead>,
    asked: Option<(ReadId, Vec<PendingRead>)>,
    asked_at: Time,
    /// Ascending by index, each with the time at which it was asked for.
    confirmed: VecDeque<(Index, Time, Vec<PendingRead>)>,
    /// The state here holds all that was acknowledged by then.
    fresh_as_of: Option<Time>,
    /// Read by lease, to be checked once more.
    pub(super) leased: Vec<Leased>,
    next_id: ReadId,
    retry_at: Time,
    /// At or before the first moment at which one of them gives up.
    until: Time,
    readiness: Readiness,
    /// An emptied batch, for its allocation.
    spare: Vec<PendingRead>,
}

impl Reads {
    pub(super) fn new() -> Reads {
        Reads {
            gathering: Vec::new(),
            asked: None,
            asked_at: Time(0),
            confirmed: VecDeque::new(),
            fresh_as_of: None,
            leased: Vec::new(),
            next_id: ReadId(1),
            retry_at: Time(0),
            until: Time::NEVER,
            readiness: Readiness::Wanted,
            spare: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, read: PendingRead) {
        self.until = self.until.min(read.leader_deadline);
        self.gathering.push(read);
    }

    /// The leader changed: ask at once, and prove anew that this node has caught up.
    pub(super) fn leader_changed(&mut self) {
        self.retry_at = Time(0);
        self.readiness = Readiness::Wanted;
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.readiness == Readiness::CaughtUp
    }

    /// The state here lacks nothing that was acknowledged longer ago than this; `None`: that was never proven.
    pub(super) fn age(&self, now: Time) -> Option<Duration> {
        self.fresh_as_of.map(|asked| now.since(asked))
    }

    /// When the first of them gives up, at the earliest.
    pub(super) fn next_expiry(&self) -> Time {
        self.until
    }

    /// When the next batch can be asked for, provided that a leader is known.
    pub(super) fn next_question(&self) -> Time {
        if self.has_question() {
            self.retry_at
        } else {
            Time::NEVER
        }
    }

    fn has_question(&self) -> bool {
        let is_wanted = !self.gathering.is_empty() || self.readiness == Readiness::Wanted;
        is_wanted && self.asked.is_none()
    }

    /// The batch for the question `id` is under way.
    fn note_asked(&mut self, now: Time) {
        self.asked_at = now;
        let batch = std::mem::replace(&mut self.gathering, std::mem::take(&mut self.spare));
        self.asked = Some((self.next_id, batch));
        self.next_id = ReadId(self.next_id.0 + 1);
        if self.readiness == Readiness::Wanted {
            self.readiness = Readiness::Asked;
        }
    }

    /// Takes the batch under way if it is `id`.
    fn take_asked(&mut self, id: ReadId) -> Option<Vec<PendingRead>> {
        let (_, batch) = self.asked.take_if(|(asked, _)| *asked == id)?;
        Some(batch)
    }

    fn note_confirmed(&mut self, index: Index, batch: Vec<PendingRead>) {
        if self.readiness == Readiness::Asked {
            self.readiness = Readiness::Until(index);
        }
        // A later batch's index may be lower only if it came from another leader; waiting longer is always right.
        let index = self.confirmed.back().map_or(index, |(last, ..)| index.max(*last));
        self.confirmed.push_back((index, self.asked_at, batch));
    }

    /// Nobody confirmed the batch: its reads gather again. They have changed nothing, so that is safe.
    fn note_dropped(&mut self, now: Time, leader_wait: Duration, batch: Vec<PendingRead>) {
        if self.readiness == Readiness::Asked {
            self.readiness = Readiness::Wanted;
        }
        self.retry_at = now.after(RETRY_INTERVAL);
        for read in batch {
            let leader_deadline = read.deadline.min(now.after(leader_wait));
            self.push(PendingRead {
                leader_deadline,
                ..read
            });
        }
    }

    /// The next batch that may be served with everything up to `applied` in the store.
    fn take_servable(&mut self, applied: Index) -> Option<Vec<PendingRead>> {
        if matches!(self.readiness, Readiness::Until(index) if index <= applied) {
            self.readiness = Readiness::CaughtUp;
        }
        let (index, asked_at, _) = self.confirmed.front()?;
        if *index > applied && !mutant("read_served_before_applied") {
            mark("confirmed read waits for apply");
            return None;
        }
        self.fresh_as_of = self.fresh_as_of.max(Some(*asked_at));
        self.confirmed.pop_front().map(|(_, _, batch)| batch)
    }

    /// Removes all that wait: nobody will ever confirm them.
    fn take_all(&mut self) -> Vec<Token> {
        self.readiness = Readiness::Wanted;
        let asked = self.asked.take().map(|(_, batch)| batch);
        let confirmed = std::mem::take(&mut self.confirmed);
        let confirmed = confirmed.into_iter().map(|(_, _, batch)| batch);
        let gathering = std::mem::take(&mut self.gathering);
        let batches = asked.into_iter().chain(confirmed).chain([gathering]);
        batches.flatten().map(|read| read.token).collect()
    }

    /// Removes the reads that give up now.
    fn take_expired(&mut self, now: Time) -> Vec<Token> {
        if now < self.until {
            return Vec::new();
        }
        let mut expiry = Expiry::at(now);
        self.gathering
            .retain(|read| expiry.keeps(read.token, read.leader_deadline));
        let asked = self.asked.iter_mut().map(|(_, batch)| batch);
        let confirmed = self.confirmed.iter_mut().map(|(_, _, batch)| batch);
        for batch in asked.chain(confirmed) {
            batch.retain(|read| expiry.keeps(read.token, read.deadline));
        }
        self.until = expiry.until;
        expiry.expired
    }
}

impl Formed {
    /// Asks for a read index for what has gathered, unless a batch is under way.
    pub(super) fn submit_reads(&mut self, now: Time) {
        if !self.reads.has_question() || now < self.reads.retry_at || self.raft.leader().is_none() {
            return;
        }
        match self.raft.read(now, self.reads.next_id) {
            Ok(()) => self.reads.note_asked(now),
            Err(ReadError::NoLeader | ReadError::Overloaded) => {
                self.reads.retry_at = now.after(RETRY_INTERVAL)
            }
        }
    }

    /// A batch got its index, or lost it.
    pub(super) fn read_outcome(&mut self, now: Time, outcome: ReadOutcome) {
        match outcome {
            ReadOutcome::Confirmed { id, index } => {
                if let Some(batch) = self.reads.take_asked(id) {
                    self.reads.note_confirmed(index, batch);
                }
            }
            ReadOutcome::Dropped { id } => {
                if let Some(batch) = self.reads.take_asked(id) {
                    mark("read batch dropped and asked again");
                    self.reads.note_dropped(now, self.config.leader_wait, batch);
                }
            }
        }
    }

    /// Answers the confirmed reads whose index is applied (R69).
    pub(super) fn serve_reads(&mut self, now: Time, out: &mut Outbox) {
        while let Some(mut batch) = self.reads.take_servable(self.applied()) {
            let mut reads = batch.drain(..);
            while !reads.as_slice().is_empty() {
                self.store
                    .touch_for_reads(reads.as_slice().iter().map(PendingRead::key));
                for read in reads.by_ref().take(TOUCHED_AT_ONCE) {
                    self.answer_read(now, read, out);
                }
            }
            drop(reads);
            self.reads.spare = batch;
        }
    }

    /// Ends all reads, those too that were confirmed: this node must not serve them.
    pub(super) fn end_reads(&mut self, why: &str, out: &mut Outbox) {
        self.refuse_reads(why, out);
        let pages = self.ranges.take_all();
        for token in self.lookups.take_all().into_iter().chain(pages) {
            out.finish(token, self.refusal(ErrorCode::NotServing, why));
        }
    }

    /// Ends the reads that wait for a leader, and all watches: this node has none any more.
    pub(super) fn refuse_reads(&mut self, explanation: &str, out: &mut Outbox) {
        let failure = Failure::new(ErrorCode::NotServing, explanation);
        out.push(Effect::EndWatches(failure));
        for token in self.reads.take_all() {
            self.watches.forget(token);
            out.finish(token, self.refusal(ErrorCode::NotServing, explanation));
        }
    }

    /// Ends the reads whose time is over.
    pub(super) fn expire_reads(&mut self, now: Time, out: &mut Outbox) {
        for token in self.reads.take_expired(now) {
            self.watches.forget(token);
            let message =
                "no leader confirmed in time that this node is up to date; reads change nothing, retry";
            out.finish(token, self.refusal(ErrorCode::NoLeader, message));
        }
    }
}
