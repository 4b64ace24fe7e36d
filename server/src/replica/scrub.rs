//! The scrub: what the members have stored is compared, piece by piece, through the log (R47).
//!
//! ```text
//! leader:  due ──(Command::Scrub)──► proposed ──(applied)──► reading ──(Scrubbed)──► tells its hash; the next is due later
//! others:                                       (applied)──► reading ──(Scrubbed)──► compare theirs with that
//! ```
//! A piece is a stretch of keys, bounded in keys and bytes by the entry that names it. Each replica holds its state when it
//! applies that entry, and reads the piece off the node's thread. The leader's piece tells where the next one begins. What
//! the hashes say is judged as those of effects are (`divergence.rs`).
//!
//! **Pace.** One piece at a time, [`ScrubConfig::pace`] apart; a pass over all keys begins [`ScrubConfig::interval`] after
//! the one before began. So a log grows by one small entry for each piece of the data in that time, written or not: what
//! rots is what nobody writes. Where nothing was ever written, and where there is nobody to compare with, there is no scrub.
//!
//! **Nothing here is owed.** A replica that is down, has a piece in hand still, is nearly out of disk, or whose base was
//! drained past the entry before it could be read, says nothing of that piece: the next pass has it again. Every node knows
//! from the log where a pass stands, so a new leader goes on with it; what a process forgets at its end begins anew.
//!
//! **The first pass** of a process begins [`ScrubConfig::first`] after there is something to compare, unless one is under way
//! by then, or an operator asks for one (`scrub_requests.rs`): that is one pass, also where there are none by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{CheckedCommand, Revision};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{self as raft, EntryId, Index, RoleName, Term, Time};

use super::divergence::Piece;
use super::formed::Formed;
use super::outbox::Outbox;
use super::{Effect, Notice};
use crate::store::{Overtaken, ScrubJob, ScrubNumber, ScrubWanted, Scrubbed};

/// When stored records are compared, and how many at once. The leader's settings decide for all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// A pass over all keys begins so long after the one before began; `None`: there are none.
    pub interval: Option<Duration>,
    /// A process begins its first pass so long after it has seen that there is something to compare, if it has heard of none
    /// until then: a new cluster is being filled, and a pass over its first keys would be the last one for a whole interval.
    pub first: Duration,
    /// Pieces of a pass are at least so far apart.
    pub pace: Duration,
    /// At most so many keys in a piece.
    pub piece_keys: u32,
    /// At most so many bytes of keys and values in a piece, but for a single record.
    pub piece_bytes: u32,
}

impl Default for ScrubConfig {
    /// At most a MiB is read and hashed in a second.
    fn default() -> ScrubConfig {
        ScrubConfig {
            interval: Some(Duration::from_secs(24 * 3600)),
            first: Duration::from_secs(600),
            pace: Duration::from_secs(1),
            piece_keys: 4_000,
            piece_bytes: 1 << 20,
        }
    }
}

/// The scrub as one node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Keys that this node has hashed in the pass that is under way, or was the last.
    pub keys: u64,
    /// The last pass that this node has seen the end of.
    pub complete: Option<CompletePass>,
}

/// A pass over all keys that was seen to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletePass {
    /// The entry of its last piece.
    pub last: Index,
    /// When that was read.
    pub at: Time,
    /// Keys that this node hashed in it.
    pub keys: u64,
}

/// A piece that is being read.
#[derive(Debug)]
struct Reading {
    scrub: ScrubNumber,
    at: Index,
    from: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scrub {
    number: ScrubNumber,
    /// One at a time, so that what it holds of memory and base is bounded.
    reading: Option<Reading>,
    /// Held, and to be handed to the disk with this batch.
    held: Option<ScrubJob>,
    /// This leader proposed a piece in this term: there it is applied, or lost with the leadership.
    proposed: Option<Term>,
    /// Where the next piece begins; empty: a pass begins.
    next: Bytes,
    next_at: Time,
    /// Was there anything to compare when this node looked last?
    is_filled: bool,
    /// An operator wants a pass, and none has begun since.
    is_asked: bool,
    /// What this node has seen of the pass that is under way, or was the last.
    pub(super) pass: Option<Pass>,
    complete: Option<CompletePass>,
}

/// A pass, as far as this node has seen it.
#[derive(Debug)]
pub(super) struct Pass {
    began_at: Time,
    /// The entries of its first piece and of its latest, and their log times.
    pub(super) first: (Index, u64),
    pub(super) last: (Index, u64),
    pub(super) has_ended: bool,
    pub(super) pieces: u64,
    /// Pieces that this node did not hash.
    pub(super) left_out: u64,
    pub(super) keys: u64,
    pub(super) bytes: u64,
    /// In how many pieces each member had the same, and the entry of the last of them: where somebody differs all tell twice.
    pub(super) agreed: BTreeMap<raft::NodeId, (u64, Index)>,
}

impl Pass {
    fn begin(now: Time, at: (Index, u64)) -> Pass {
        Pass {
            began_at: now,
            first: at,
            last: at,
            has_ended: false,
            pieces: 0,
            left_out: 0,
            keys: 0,
            bytes: 0,
            agreed: BTreeMap::new(),
        }
    }
}

impl Scrub {
    pub(super) fn new(now: Time, config: &ScrubConfig) -> Scrub {
        Scrub {
            number: ScrubNumber(1),
            reading: None,
            held: None,
            proposed: None,
            next: Bytes::new(),
            next_at: now.after(config.pace),
            is_filled: false,
            is_asked: false,
            pass: None,
            complete: None,
        }
    }

    pub(super) fn status(&self) -> ScrubStatus {
        ScrubStatus {
            keys: self.pass.as_ref().map_or(0, |pass| pass.keys),
            complete: self.complete,
        }
    }

    /// A pass goes on until its last piece is read, whoever led when it began.
    fn is_under_way(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| !pass.has_ended)
    }

    /// An operator wants a pass: one that is under way is one.
    pub(super) fn ask(&mut self, now: Time) {
        if !self.is_under_way() {
            mark("scrub asked for");
            (self.is_asked, self.next_at) = (true, now);
            self.next = Bytes::new();
        }
    }

    /// A member has the same of the piece at this entry.
    pub(super) fn agreed(&mut self, member: raft::NodeId, at: Index) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.first.0 <= at) else {
            return;
        };
        let agreed = pass.agreed.entry(member);
        agreed
            .and_modify(|(pieces, last)| {
                if at > *last {
                    (*pieces, *last) = (*pieces + 1, at);
                }
            })
            .or_insert((1, at));
    }

    /// The piece that is under way will not be told.
    fn leave_out(&mut self) {
        if let Some(pass) = &mut self.pass {
            pass.left_out += 1;
        }
    }

    /// Another store took the place of the one that is read.
    pub(super) fn forget_reading(&mut self) {
        if self.reading.is_some() {
            self.leave_out();
        }
        (self.reading, self.held) = (None, None);
    }
}

impl Formed {
    /// The leader asks for the next piece. Once: it asks for none while that is not applied and read.
    pub(super) fn propose_scrub(&mut self, now: Time) {
        self.look_for_something_to_compare(now);
        if now < self.next_scrub() {
            return;
        }
        let ScrubConfig {
            piece_keys,
            piece_bytes,
            pace,
            ..
        } = self.config.scrub;
        let command = CheckedCommand::scrub(&self.scrub.next, piece_keys, piece_bytes);
        self.scrub.next_at = now.after(pace);
        // Refused: the leader has other things to do, and asks again later.
        if self.propose_own(now, &command).is_ok() {
            mark("scrub proposed");
            self.scrub.proposed = Some(self.raft.term());
        }
    }

    fn look_for_something_to_compare(&mut self, now: Time) {
        if self.scrub.is_filled || self.store.revision() <= Revision(1) {
            return;
        }
        self.scrub.is_filled = true;
        if self.scrub.pass.is_none() && !self.scrub.is_asked {
            self.scrub.next_at = self.scrub.next_at.max(now.after(self.config.scrub.first));
        }
    }

    /// When the leader asks for the next piece; never, while it must not.
    pub(super) fn next_scrub(&self) -> Time {
        let is_wanted =
            self.config.scrub.interval.is_some() || self.scrub.is_asked || self.scrub.is_under_way();
        let may_ask = self.raft.role() == RoleName::Leader
            && is_wanted
            && self.scrub.proposed != Some(self.raft.term())
            && self.scrub.reading.is_none()
            && self.store.revision() > Revision(1)
            && self.takes_part_in_scrubs();
        if may_ask { self.scrub.next_at } else { Time::NEVER }
    }

    /// Is there anybody to compare with, and is what this node has worth comparing? On a nearly full disk nothing is held: a
    /// held version of the base keeps files that compactions have replaced.
    fn takes_part_in_scrubs(&self) -> bool {
        self.raft.configuration().members().len() > 1
            && self.divergence.quarantine().is_none()
            && !self.space.is_low()
    }

    /// The entry `id` that names a piece was applied just now.
    pub(super) fn scrub_applied(&mut self, now: Time, id: EntryId, wanted: ScrubWanted) {
        self.scrub.proposed.take_if(|term| *term <= id.term);
        self.note_piece(now, id.index, &wanted);
        // Until it is read: whoever leads then asks for it again.
        self.scrub.next = wanted.from.clone();
        self.scrub.next_at = now.after(self.config.scrub.pace);
        if !self.takes_part_in_scrubs() {
            self.scrub.leave_out();
            return;
        }
        if self.scrub.reading.is_some() {
            self.scrub.leave_out();
            mark("scrub left out, another one is read");
            return;
        }
        let number = self.scrub.number;
        self.scrub.number = ScrubNumber(number.0 + 1);
        self.scrub.reading = Some(Reading {
            scrub: number,
            at: id.index,
            from: wanted.from.clone(),
        });
        self.scrub.held = Some(self.store.scrub_job(number, wanted));
    }

    /// Where the pass stands, whether or not this node reads the piece.
    fn note_piece(&mut self, now: Time, index: Index, wanted: &ScrubWanted) {
        let at = (index, self.store.log_time_us());
        if wanted.from.is_empty() {
            self.scrub.is_asked = false;
            self.cold_files.want();
            self.scrub.pass = Some(Pass::begin(now, at));
        }
        // One that was under way when this process began is seen from here on.
        let pass = self.scrub.pass.get_or_insert_with(|| Pass::begin(now, at));
        (pass.last, pass.has_ended) = (at, false);
    }

    /// Hands the piece that is held to the disk.
    pub(super) fn submit_scrub(&mut self, out: &mut Outbox) {
        let Some(mut job) = self.scrub.held.take() else {
            return;
        };
        if mutant("scrub_of_a_later_state") {
            job = self.store.scrub_job(job.scrub, job.wanted);
        }
        let store = self.drains.store();
        out.push(Effect::Scrub {
            store,
            job: Box::new(job),
        });
    }

    /// The disk has come back with a piece.
    pub(super) fn scrubbed(
        &mut self,
        now: Time,
        scrub: ScrubNumber,
        outcome: Result<Scrubbed, Overtaken>,
        out: &mut Outbox,
    ) {
        let Some(reading) = self.scrub.reading.take_if(|reading| reading.scrub == scrub) else {
            return;
        };
        let Ok(scrubbed) = outcome else {
            self.scrub.leave_out();
            mark("scrub overtaken by a drain");
            return;
        };
        let Scrubbed {
            hash,
            keys,
            bytes,
            next,
        } = scrubbed;
        if let Some(pass) = &mut self.scrub.pass {
            pass.pieces += 1;
            pass.keys += keys;
            pass.bytes += bytes;
        }
        self.scrub.next = next.clone().unwrap_or_default();
        if next.is_none() {
            self.pass_ended(now, reading.at, out);
        }
        let piece = Piece {
            at: reading.at,
            hash,
            from: reading.from,
            next,
        };
        self.compare_records(piece, out);
    }

    fn pass_ended(&mut self, now: Time, last: Index, out: &mut Outbox) {
        mark("scrub went over all keys");
        let Some(pass) = &mut self.scrub.pass else {
            return;
        };
        pass.has_ended = true;
        let (keys, began_at) = (pass.keys, pass.began_at);
        self.scrub.complete = Some(CompletePass { last, at: now, keys });
        if let Some(interval) = self.config.scrub.interval {
            self.scrub.next_at = self.scrub.next_at.max(began_at.after(interval));
        }
        out.notice(Notice::RecordsScrubbed { keys, last });
    }
}
