//! Writes: those that wait for a place in the log, and those that have one and wait to be applied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::{Answer, CheckedCommand, ErrorCode, Response, Revision};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{EntryId, EntryKind, Index, Proposal, ProposeError, RoleName, Stamp, Term, Time};

use super::expiry::Expiry;
use super::formed::Formed;
use super::outbox::Outbox;
use super::{Hop, Token};
use crate::store::Outcome;

/// A write that could not be passed on to the leader is tried again after this, or when a leader becomes known.
const RETRY_INTERVAL: std::time::Duration = std::time::Duration::from_millis(10);

/// Slowed writes are tried again after this.
const ADMISSION_INTERVAL: std::time::Duration = std::time::Duration::from_millis(1);

/// A write that has no place in any log yet.
#[derive(Debug)]
pub(super) struct WaitingWrite {
    pub(super) token: Token,
    pub(super) command: CheckedCommand,
    pub(super) hop: Hop,
    /// The client gives up then.
    pub(super) deadline: Time,
    /// Waits for a leader until then; at most `deadline`.
    pub(super) leader_deadline: Time,
}

/// A write that this node put into its log as leader.
#[derive(Debug)]
struct Proposed {
    index: Index,
    term: Term,
    token: Token,
    deadline: Time,
}

/// All writes that wait at this node, but those passed on to the leader.
#[derive(Debug)]
pub(super) struct Writes {
    /// Arrived since the last poll.
    fresh: Vec<WaitingWrite>,
    /// Slowed: they wait until the drain that is under way leaves room for them. Oldest first.
    slowed: VecDeque<WaitingWrite>,
    /// When the next of them is tried.
    admission_at: Time,
    /// Found no leader.
    parked: Vec<WaitingWrite>,
    /// When parked writes are tried again, once a leader is known.
    retry_at: Time,
    /// At or before the first moment at which a parked write gives up.
    parked_until: Time,
    /// Ascending by index.
    proposed: VecDeque<Proposed>,
    /// At or before the first deadline of a proposed write.
    proposed_until: Time,
}

/// What became of the write proposed at an index.
enum Settled {
    Applied(Token),
    /// An entry of another term was applied in its place: it never will be.
    Displaced(Token),
    /// Its place was passed without its entry having been seen.
    Unseen(Token),
}

impl Writes {
    /// What an entry takes in the overlay beside its command, about.
    const WRITE_OVERHEAD_BYTES: u64 = 176;
    /// With so much allowance a write of any size may pass.
    const LEAST_ALLOWANCE_BYTES: u64 = 64 << 10;

    pub(super) fn new() -> Writes {
        Writes {
            fresh: Vec::new(),
            slowed: VecDeque::new(),
            admission_at: Time(0),
            parked: Vec::new(),
            retry_at: Time(0),
            parked_until: Time::NEVER,
            proposed: VecDeque::new(),
            proposed_until: Time::NEVER,
        }
    }

    /// How many wait for the drain that is under way.
    pub(super) fn slowed(&self) -> usize {
        self.slowed.len()
    }

    pub(super) fn push(&mut self, write: WaitingWrite) {
        self.fresh.push(write);
    }

    /// Keeps a write until a leader takes it.
    pub(super) fn park(&mut self, write: WaitingWrite) {
        self.parked_until = self.parked_until.min(write.leader_deadline);
        self.parked.push(write);
    }

    /// The leader was not reached: leave it a moment.
    pub(super) fn delay_retry(&mut self, now: Time) {
        self.retry_at = now.after(RETRY_INTERVAL);
    }

    /// A leader is known: try at once.
    pub(super) fn retry_now(&mut self) {
        self.retry_at = Time(0);
    }

    /// When the first of them gives up, at the earliest; at once, while new ones have not been looked at.
    pub(super) fn next_expiry(&self) -> Time {
        if self.fresh.is_empty() {
            self.parked_until.min(self.proposed_until)
        } else {
            Time(0)
        }
    }

    /// When parked writes are tried again, provided that a leader is known.
    pub(super) fn next_retry(&self) -> Time {
        if self.parked.is_empty() {
            Time::NEVER
        } else {
            self.retry_at
        }
    }

    /// When slowed writes are tried again.
    pub(super) fn next_admission(&self) -> Time {
        if self.slowed.is_empty() {
            Time::NEVER
        } else {
            self.admission_at
        }
    }

    /// Keeps back what of `batch` is beyond `allowance` bytes (`None`: nothing is); the bytes of the rest. The first write
    /// always fits a full allowance, however large it is.
    fn slow_down(&mut self, now: Time, batch: &mut Vec<WaitingWrite>, allowance: Option<u64>) -> u64 {
        let allowance = allowance.unwrap_or(u64::MAX);
        let mut admitted = 0;
        let mut count = 0;
        for write in batch.iter() {
            let bytes = write.command.encoded().len() as u64 + Self::WRITE_OVERHEAD_BYTES;
            if admitted + bytes > allowance && (count > 0 || allowance < Self::LEAST_ALLOWANCE_BYTES) {
                break;
            }
            admitted += bytes;
            count += 1;
        }
        if count < batch.len() {
            mark("writes slowed");
            self.slowed = batch.drain(count..).collect();
            self.admission_at = now.after(ADMISSION_INTERVAL);
        }
        admitted
    }

    /// This node does not lead: what was slowed waits as all else does.
    fn no_longer_slowed(&mut self) {
        if !self.slowed.is_empty() {
            let slowed = std::mem::take(&mut self.slowed);
            self.fresh.splice(..0, slowed);
        }
    }

    /// Everything that has no place in a log.
    fn take_unproposed(&mut self) -> Vec<Token> {
        let fresh = std::mem::take(&mut self.fresh).into_iter();
        let slowed = std::mem::take(&mut self.slowed).into_iter();
        let parked = std::mem::take(&mut self.parked).into_iter();
        fresh
            .chain(slowed)
            .chain(parked)
            .map(|write| write.token)
            .collect()
    }

    /// Everything that can be tried now, oldest first.
    fn take_batch(&mut self, now: Time) -> Vec<WaitingWrite> {
        self.no_longer_slowed();
        if self.parked.is_empty() || now < self.retry_at {
            return std::mem::take(&mut self.fresh);
        }
        self.parked_until = Time::NEVER;
        self.parked.append(&mut self.fresh);
        std::mem::take(&mut self.parked)
    }

    /// Takes the write that waits for the entry `id`, which is being applied.
    fn settle(&mut self, id: EntryId) -> Option<Settled> {
        let front = self.proposed.front().filter(|front| front.index <= id.index)?;
        let (token, place) = (
            front.token,
            EntryId {
                term: front.term,
                index: front.index,
            },
        );
        self.proposed.pop_front();
        Some(match place {
            _ if place == id => Settled::Applied(token),
            _ if place.index == id.index => Settled::Displaced(token),
            _ => Settled::Unseen(token),
        })
    }

    /// Slowed writes whose time is over.
    fn take_expired_slowed(&mut self, now: Time) -> Vec<Token> {
        if self.slowed.is_empty() || now < self.admission_at {
            return Vec::new();
        }
        let mut expiry = Expiry::at(now);
        self.slowed
            .retain(|write| expiry.keeps(write.token, write.deadline));
        expiry.expired
    }

    /// Writes that found no leader in time.
    fn take_expired_parked(&mut self, now: Time) -> Vec<Token> {
        if now < self.parked_until {
            return Vec::new();
        }
        let mut expiry = Expiry::at(now);
        self.parked
            .retain(|write| expiry.keeps(write.token, write.leader_deadline));
        self.parked_until = expiry.until;
        expiry.expired
    }

    /// Writes that were proposed and not applied in time. Their entries may still commit.
    fn take_expired_proposed(&mut self, now: Time) -> Vec<Token> {
        if now < self.proposed_until {
            return Vec::new();
        }
        let mut expiry = Expiry::at(now);
        self.proposed
            .retain(|write| expiry.keeps(write.token, write.deadline));
        self.proposed_until = expiry.until;
        expiry.expired
    }

    /// An emptied batch, for its allocation.
    fn give_back(&mut self, mut batch: Vec<WaitingWrite>) {
        if self.fresh.capacity() == 0 {
            batch.clear();
            self.fresh = batch;
        }
    }

    fn note_proposed(&mut self, place: EntryId, write: &WaitingWrite) {
        self.proposed_until = self.proposed_until.min(write.deadline);
        self.proposed.push_back(Proposed {
            index: place.index,
            term: place.term,
            token: write.token,
            deadline: write.deadline,
        });
    }
}

impl Formed {
    /// Gives every write that waits a place in the log, here or at the leader; or keeps it until there is one.
    pub(super) fn submit_writes(&mut self, now: Time, out: &mut Outbox) {
        let leader = self.raft.leader();
        if self.raft.role() == RoleName::Leader {
            self.admit(now, out);
            return;
        }
        self.writes.no_longer_slowed();
        if self.writes.fresh.is_empty() && (self.writes.parked.is_empty() || leader.is_none()) {
            return;
        }
        if leader.is_some() {
            for write in self.writes.take_batch(now) {
                self.forward(now, write, out);
            }
        } else {
            for write in std::mem::take(&mut self.writes.fresh) {
                self.wait_for_leader(write, out);
            }
        }
    }

    /// Proposes as much of what waits as the disk can take in, and refuses what it has no room for.
    fn admit(&mut self, now: Time, out: &mut Outbox) {
        let mut batch = self.writes.take_batch(now);
        let encoded = |write: &WaitingWrite| write.command.encoded().len() as u64;
        if !batch.is_empty() && !self.space.takes(batch.iter().map(encoded).sum()) {
            let explanation = self.space.explanation();
            for write in batch.extract_if(.., |write| write.command.grows_the_store()) {
                mark("put refused for want of space");
                out.finish(write.token, self.refusal(ErrorCode::NoSpace, &explanation));
            }
        }
        let (_, active) = self.store.overlay_bytes();
        let filled = if self.drains.is_idle() { 0 } else { active };
        let limit = self.config.store.generation_bytes();
        self.throttle.observe(now, self.store.generation(), active);
        let allowance = self.throttle.allowance(now, self.drains.rate, filled, limit);
        let admitted = self.writes.slow_down(now, &mut batch, allowance);
        self.throttle.admitted(admitted);
        self.propose(now, batch, out);
    }

    /// Parks a write that no leader can take yet; one that was passed on already goes back where it came from.
    pub(super) fn wait_for_leader(&mut self, write: WaitingWrite, out: &mut Outbox) {
        match write.hop {
            Hop::First => self.writes.park(write),
            Hop::Last => {
                let response = self.refusal(
                    ErrorCode::NotLeader,
                    "this node does not lead; nothing was proposed",
                );
                out.finish(write.token, response);
            }
        }
    }

    fn propose(&mut self, now: Time, batch: Vec<WaitingWrite>, out: &mut Outbox) {
        if batch.is_empty() {
            return;
        }
        let mut proposals = proposals(&batch, self.stamp(now));
        let is_history_given_up = self.space.is_low();
        if is_history_given_up {
            proposals = self.without_history(now, proposals);
        }
        match self.raft.propose(now, proposals) {
            Ok(first) => {
                let apart = 1 + u64::from(is_history_given_up);
                self.note_proposed((first, apart), &batch, out);
                self.writes.give_back(batch);
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::TransferUnderWay { .. }) => {
                self.writes.delay_retry(now);
                for write in batch {
                    self.wait_for_leader(write, out);
                }
            }
            Err(ProposeError::Overloaded { uncommitted_bytes }) => {
                mark("proposals refused: overloaded");
                let message = format!(
                    "{uncommitted_bytes} bytes of writes wait for a majority of nodes; nothing was proposed, retry later"
                );
                for write in batch {
                    let response = self.refusal(ErrorCode::Overloaded, &message);
                    out.finish(write.token, response);
                }
            }
        }
    }

    /// Behind each of them, history is given up. Nearly all of a full disk is state: what a delete takes away comes back only if
    /// it is not written again, as a before-image.
    fn without_history(&mut self, now: Time, proposals: Vec<Proposal>) -> Vec<Proposal> {
        mark("history given up behind each write");
        let trim = self.own(now, &CheckedCommand::keep_history_from(Revision(u64::MAX)));
        let followed = |proposal| [proposal, trim.clone()];
        proposals.into_iter().flat_map(followed).collect()
    }

    /// Proposes what the leader asks for by itself.
    ///
    /// # Errors
    /// Of the core: nothing was proposed.
    pub(super) fn propose_own(&mut self, now: Time, command: &CheckedCommand) -> Result<(), ProposeError> {
        let proposal = self.own(now, command);
        self.raft.propose(now, vec![proposal]).map(drop)
    }

    fn own(&mut self, now: Time, command: &CheckedCommand) -> Proposal {
        Proposal {
            kind: EntryKind::Command,
            stamp: self.stamp(now),
            payload: command.encoded().clone(),
        }
    }

    fn stamp(&mut self, now: Time) -> Stamp {
        Stamp {
            log_time_us: self.clock.stamp_us(now),
            ..Stamp::default()
        }
    }

    /// The writes of a batch stand so far `apart` in the log, from `first` on.
    fn note_proposed(&mut self, (first, apart): (EntryId, u64), batch: &[WaitingWrite], out: &mut Outbox) {
        for (number, write) in (0_u64..).zip(batch) {
            let place = EntryId {
                term: first.term,
                index: first.index.plus(number * apart),
            };
            if mutant("X10_answer_before_commit") {
                let revision = Revision(self.store.revision().0 + 1 + number);
                let outcome = Ok(Answer::Put { revision });
                let header = self.header();
                out.finish(write.token, Response { header, outcome });
                continue;
            }
            self.writes.note_proposed(place, write);
        }
    }

    /// The entry `id` was applied and came to this: tells who waits for that index.
    pub(super) fn settle_write(&mut self, id: EntryId, mut outcome: Option<Outcome>, out: &mut Outbox) {
        while let Some(settled) = self.writes.settle(id) {
            match settled {
                Settled::Applied(token) => {
                    let outcome = outcome
                        .take()
                        .expect("all that clients may propose comes to something");
                    let header = self.header();
                    out.finish(token, Response { header, outcome });
                }
                Settled::Displaced(token) => {
                    mark("waiting write displaced by another term");
                    let response = self.refusal(
                        ErrorCode::NoLeader,
                        "leadership changed and another entry took this write's place: it was not applied and never will be",
                    );
                    out.finish(token, response);
                }
                Settled::Unseen(token) => {
                    out.finish(token, self.unknown("its place in the log was passed unseen"))
                }
            }
        }
    }

    /// This node leads again, from `noop` on: writes it proposed in earlier terms at or beyond that index are out of its
    /// log. Another node may still hold and commit them if this one fails at once, so their end is not known.
    pub(super) fn end_writes_cut_by(&mut self, term: Term, noop: Index, out: &mut Outbox) {
        let is_cut = |write: &Proposed| write.term < term && write.index >= noop;
        if !self.writes.proposed.iter().any(is_cut) {
            return;
        }
        mark("waiting write cut by our own later election");
        let response = self.unknown("leadership was lost while it waited for a majority");
        self.writes.proposed.retain(|write| {
            if is_cut(write) {
                out.finish(write.token, response.clone());
            }
            !is_cut(write)
        });
    }

    /// A snapshot up to `last` took the place of entries that were not applied here one by one: what became of the writes
    /// among them is not known (R52).
    pub(super) fn end_writes_under_snapshot(&mut self, last: Index, out: &mut Outbox) {
        let under = self.writes.proposed.partition_point(|write| write.index <= last);
        for write in self.writes.proposed.drain(..under).collect::<Vec<_>>() {
            mark("waiting write vanished under a snapshot");
            let response = self.unknown("this node got its state from another one while the write waited");
            out.finish(write.token, response);
        }
    }

    /// Ends the writes that are in the log: what they come to here is not to be believed.
    pub(super) fn end_proposed_writes(&mut self, why: &str, out: &mut Outbox) {
        for write in self.writes.proposed.drain(..).collect::<Vec<_>>() {
            mark("waiting write ended by quarantine");
            out.finish(write.token, self.unknown(why));
        }
    }

    /// Ends the writes that wait for a leader: this node has none any more.
    pub(super) fn refuse_writes(&mut self, explanation: &str, out: &mut Outbox) {
        for token in self.writes.take_unproposed() {
            out.finish(token, self.refusal(ErrorCode::NotServing, explanation));
        }
    }

    /// Ends the writes whose time is over.
    pub(super) fn expire_writes(&mut self, now: Time, out: &mut Outbox) {
        for token in self.writes.take_expired_parked(now) {
            out.finish(token, self.no_leader_in_time());
        }
        for token in self.writes.take_expired_slowed(now) {
            let message =
                "writes come faster than this node's disk takes them in; nothing was proposed, retry later";
            out.finish(token, self.refusal(ErrorCode::Overloaded, message));
        }
        for token in self.writes.take_expired_proposed(now) {
            out.finish(token, self.proposed_too_late());
        }
    }

    fn proposed_too_late(&self) -> Response {
        mark("deadline passed after proposing");
        if mutant("X30_timeout_reported_as_failure") {
            return self.refusal(ErrorCode::NoLeader, "timed out");
        }
        self.unknown("its time was over before a majority of nodes confirmed it")
    }
}

/// The proposals of a batch, their payloads copied once into one block: the read buffers they came in are free again, and
/// one allocation serves the whole batch. The block lives until its last entry leaves the log's tail in memory.
fn proposals(batch: &[WaitingWrite], stamp: Stamp) -> Vec<Proposal> {
    let size = batch.iter().map(|write| write.command.encoded().len()).sum();
    let mut block = BytesMut::with_capacity(size);
    for write in batch {
        block.extend_from_slice(write.command.encoded());
    }
    let mut block: Bytes = block.freeze();
    let proposal = |write: &WaitingWrite| Proposal {
        kind: EntryKind::Command,
        stamp: write.command.once().map_or(stamp, |once| Stamp {
            session: once.session.0,
            sequence: once.sequence,
            first_unacknowledged: once.first_unacknowledged,
            ..stamp
        }),
        payload: block.split_to(write.command.encoded().len()),
    };
    batch.iter().map(proposal).collect()
}
