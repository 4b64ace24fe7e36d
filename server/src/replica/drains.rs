//! The order in which memory becomes durable: freeze, seal its events, drain it, cut the log behind it, trim history.
//!
//! ```text
//! Idle ──(large or old enough: freeze, Seal)──► Sealing ──(Sealed: Drain)──► Draining ──(Drained: CutLog)──► Idle
//! ```
//! Nothing here waits: effects go out, and the events that answer them bring the next step. A step is only taken when the
//! one before it is durable, so whatever a crash leaves can be recovered: history explains at least what the base holds,
//! and the log holds at least what the base does not.

use std::collections::VecDeque;
use std::sync::Arc;

use raftkv_protocol::{CheckedCommand, Command, NodeId, Revision, decode_command};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryId, EntryKind, Index, PeerProgress, ProgressState, RoleName, Term, Time};

use super::config::RetentionConfig;
use super::formed::Formed;
use super::outbox::Outbox;
use super::throttle::DrainRate;
use super::{Effect, Notice};
use crate::store::history::{HistoryLimits, HistoryStatistics};
use crate::store::{Frozen, GenerationNumber, StoreNumber};

/// The log's tail can be cut at so many places, about.
const MARKS_A_TAIL: u64 = 16;

/// For a follower that is catching up, so many tails of the log are kept. A snapshot of a large state takes longer than a busy
/// log takes for its tail: if what comes behind the snapshot were gone when it is there, it would need the next one, for ever.
const CATCH_UP_TAILS: u64 = 16;

/// What a follower that is catching up needs.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// The first entry.
    from: Index,
    /// How much of a snapshot it was sent to get there. So much log is kept for it, if that is more than those tails: then one
    /// snapshot is enough wherever it is sent faster than the log grows, and the log takes no more room than the state.
    snapshot_bytes: u64,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Sealing(Arc<Frozen>),
    Draining { frozen: Arc<Frozen>, since: Time },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Drains {
    /// The store that all this is about.
    store: StoreNumber,
    phase: Phase,
    /// When the last generation was frozen (or the process started), and what was applied then.
    frozen_at: Time,
    frozen_through: Index,
    /// Bytes of the entries applied since then, and in this life.
    log_bytes: u64,
    total_log_bytes: u64,
    /// Some indices, and the bytes of entries up to there: where the log's tail can begin. Ascending.
    marks: VecDeque<(Index, u64)>,
    /// The log begins behind this entry, and was told to begin with that one.
    log_base: Index,
    cut: Index,
    /// What history was told to keep from.
    trimmed: Revision,
    /// What this leader proposed to keep history from, and in which term: there it is decided or lost with the leadership.
    trim_proposed: Option<(Term, Revision)>,
    /// What history held after the last drain.
    history: Option<HistoryStatistics>,
    pub(super) rate: DrainRate,
}

impl Drains {
    pub(super) fn new(store: StoreNumber, applied: Index, base: Index, now: Time) -> Drains {
        Drains {
            store,
            phase: Phase::Idle,
            frozen_at: now,
            frozen_through: applied,
            log_bytes: 0,
            total_log_bytes: 0,
            marks: VecDeque::from([(applied, 0)]),
            log_base: base,
            cut: base.next(),
            trimmed: Revision(0),
            trim_proposed: None,
            history: None,
            rate: DrainRate::default(),
        }
    }

    /// The store that is drained.
    pub(super) fn store(&self) -> StoreNumber {
        self.store
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(super) fn note_applied(&mut self, index: Index, size_bytes: usize, retention: &RetentionConfig) {
        self.log_bytes += size_bytes as u64;
        self.total_log_bytes += size_bytes as u64;
        let is_far = self.marks.back().is_none_or(|(marked, bytes)| {
            self.total_log_bytes - bytes > retention.log_tail_bytes / MARKS_A_TAIL
                || index.distance_from(*marked) > retention.log_tail_entries / MARKS_A_TAIL
        });
        if is_far {
            self.mark(index);
        }
    }

    fn mark(&mut self, index: Index) {
        if self.marks.back().is_none_or(|(marked, _)| *marked < index) {
            self.marks.push_back((index, self.total_log_bytes));
        }
    }

    /// The first entry that the log keeps behind a base that holds everything up to `drained`: a tail for followers that are
    /// behind, bounded in entries and bytes; and what those need who are catching up, up to many times that.
    fn keep_from(&mut self, drained: Index, needs: &[Need], retention: &RetentionConfig) -> Index {
        let of_drained = self.marks.iter().rev().find(|(index, _)| *index <= drained);
        let drained_bytes = of_drained.map_or(0, |(_, bytes)| *bytes);
        let mut is_cut = false;
        while let Some(&(index, bytes)) = self.marks.front() {
            let behind_bytes = drained_bytes.saturating_sub(bytes);
            let is_within = |tails: u64| {
                behind_bytes <= retention.log_tail_bytes.saturating_mul(tails)
                    && drained.distance_from(index) <= retention.log_tail_entries.saturating_mul(tails)
            };
            let next = self.marks.get(1).map_or(drained, |(index, _)| *index);
            let is_granted = |need: &Need| is_within(CATCH_UP_TAILS) || behind_bytes <= need.snapshot_bytes;
            let is_needed = needs.iter().any(|need| need.from <= next && is_granted(need));
            if is_within(1) || is_needed || index >= drained {
                break;
            }
            self.marks.pop_front();
            is_cut = true;
        }
        if let (true, Some((index, _))) = (is_cut, self.marks.front()) {
            self.cut = self.cut.max((*index).min(drained).next());
        }
        self.cut
    }
}

impl Formed {
    /// Is the overlay as large as it may be, or does it take too much away? Then nothing is applied until a drain has made room;
    /// but for what gives history up, and so makes room in the reserve.
    pub(super) fn must_wait_for_drain(&self, entry: &Entry) -> bool {
        let (_, active) = self.store.overlay_bytes();
        let is_full = !self.drains.is_idle() && active >= self.config.store.generation_bytes();
        is_full || (self.takes_too_much_away() && !gives_history_up(entry))
    }

    /// Is there nothing left for before-images? Else the entry that says so is on its way, if the leader's disk is as full.
    fn is_history_given_up(&self) -> bool {
        self.store.deleted_bytes() == 0 || self.store.oldest_kept() == self.store.revision()
    }

    /// Would the before-images of what the generation deleted take too much of the reserve?
    fn takes_too_much_away(&self) -> bool {
        let may_take = self.space.images_bytes();
        may_take.is_some_and(|most| self.store.deleted_bytes() > most)
    }

    /// Ends the generation that is written to, if it is time.
    pub(super) fn freeze_if_due(&mut self, now: Time, out: &mut Outbox) {
        if !self.drains.is_idle() || self.applied() <= self.drains.frozen_through {
            return;
        }
        let (_, active) = self.store.overlay_bytes();
        let is_due = active >= self.in_turn(self.config.store.freeze_bytes())
            || self.drains.log_bytes >= self.in_turn(self.config.retention.freeze_log_bytes)
            || now >= self.next_freeze()
            || self.takes_too_much_away()
            || (self.space.is_low() && self.drains.log_bytes > 0 && self.is_history_given_up());
        if !is_due {
            return;
        }
        let (configurations, founding) = self.members.to_store(self.applied(), self.drains.log_base);
        let frozen = self.store.freeze(configurations, founding);
        mark("generation frozen");
        self.drains.frozen_at = now;
        self.drains.frozen_through = self.applied();
        self.drains.log_bytes = 0;
        self.drains.mark(self.applied());
        out.push(Effect::Seal {
            store: self.drains.store,
            generation: frozen.number(),
        });
        if mutant("log_cut_before_the_drain") {
            out.push(Effect::CutLog {
                keep_from: self.applied(),
            });
        }
        self.drains.phase = Phase::Sealing(frozen);
    }

    /// Up to a quarter less than `whole`, less the further down the list of members this node stands. All members apply the
    /// same entries: at one limit they would all drain at once, and no majority would be left that writes undisturbed.
    fn in_turn(&self, whole: u64) -> u64 {
        let members = &self.members.current().members;
        let before = members
            .iter()
            .position(|member| member.identity.0 == self.raft.id().0);
        whole - whole / 4 * before.unwrap_or(0) as u64 / members.len().max(1) as u64
    }

    /// When the generation is frozen for its age.
    pub(super) fn next_freeze(&self) -> Time {
        let is_changed = self.applied() > self.drains.frozen_through;
        if !self.drains.is_idle() || !is_changed {
            return Time::NEVER;
        }
        self.drains.frozen_at.after(self.config.retention.freeze_age)
    }

    /// The events of a generation are durable: now its records may go into the base.
    pub(super) fn sealed(
        &mut self,
        now: Time,
        (store, generation): (StoreNumber, GenerationNumber),
        out: &mut Outbox,
    ) {
        // A store that a snapshot has replaced may still be at work.
        let Phase::Sealing(frozen) = &self.drains.phase else {
            return;
        };
        if store != self.drains.store {
            return;
        }
        assert_eq!(
            frozen.number(),
            generation,
            "the generation that waits was sealed"
        );
        let frozen = frozen.clone();
        out.push(Effect::Drain {
            store,
            frozen: frozen.clone(),
            most_image_bytes: self.space.most_image_bytes(self.config.limits.value_bytes as u64),
        });
        self.drains.phase = Phase::Draining { frozen, since: now };
    }

    /// The base holds the generation: memory may let go of it, and the log of its entries.
    pub(super) fn drained(
        &mut self,
        now: Time,
        (store, generation): (StoreNumber, GenerationNumber),
        history: &HistoryStatistics,
        out: &mut Outbox,
    ) {
        let Phase::Draining { frozen, since } = &self.drains.phase else {
            return;
        };
        if store != self.drains.store {
            return;
        }
        assert_eq!(
            frozen.number(),
            generation,
            "the generation that drains was drained"
        );
        self.drains.rate.observe(frozen.size_bytes(), now.since(*since));
        let applied = frozen.companions().applied.index;
        self.drains.phase = Phase::Idle;
        self.store.drained_up_to(generation);
        mark("generation drained");
        self.release_drained(out);
        self.cut_log_behind(now, applied, out);
        self.propose_trim(now, history);
        self.drains.history = Some(history.clone());
        // What was given up and not drained then can go now.
        self.drains.trimmed = Revision(0);
        self.trim_history(out);
    }

    /// Lets go of what the base holds, as far as memory is beyond its bound.
    pub(super) fn release_drained(&mut self, out: &mut Outbox) {
        let released = self.store.release();
        if !released.is_empty() {
            mark("drained generation released");
            self.release_kept_states(out);
            out.push(Effect::Discard(released));
        }
    }

    /// So much room is on the disk. While it is too little, nothing may come that brings a drain, so history is given up
    /// without one.
    pub(super) fn space_measured(&mut self, now: Time, free_bytes: u64, out: &mut Outbox) {
        let was_low = self.space.is_low();
        self.space.measured(free_bytes);
        let reserve_bytes = self.config.retention.reserve_bytes;
        match (was_low, self.space.is_low()) {
            (false, true) => {
                mark("disk nearly full");
                out.notice(Notice::SpaceLow {
                    free_bytes,
                    reserve_bytes,
                });
            }
            (true, false) => {
                mark("room on the disk again");
                out.notice(Notice::SpaceReturned { free_bytes });
            }
            (true, true) | (false, false) => {}
        }
        if !self.space.is_low() {
            return;
        }
        if !self.is_history_given_up() {
            self.propose_keeping_from(now, self.store.revision());
        }
        if self.drains.is_idle()
            && let Some(history) = self.drains.history.take()
        {
            self.propose_trim(now, &history);
            self.drains.history = Some(history);
        }
    }

    fn cut_log_behind(&mut self, now: Time, drained: Index, out: &mut Outbox) {
        let none = RetentionConfig {
            log_tail_bytes: 0,
            log_tail_entries: 0,
            ..self.config.retention
        };
        let (needs, retention) = if self.space.is_low() {
            (Vec::new(), none)
        } else {
            (self.needs_of_followers(now), self.config.retention)
        };
        let keep_from = self.drains.keep_from(drained, &needs, &retention);
        if keep_from > self.drains.log_base.next() {
            out.push(Effect::CutLog { keep_from });
        }
    }

    /// What followers need which can go on with this log: behind the snapshot that they are being sent, or now, if they are
    /// alive.
    fn needs_of_followers(&mut self, now: Time) -> Vec<Need> {
        self.sendings
            .forget_delivered(|peer| self.raft.is_caught_up(now, peer));
        let base = self.drains.log_base;
        let has = |peer: &PeerProgress| match peer.state {
            ProgressState::Snapshot => self.sendings.last(peer.peer).map(|last| last.index),
            ProgressState::Probe | ProgressState::Replicate => {
                peer.matched.filter(|_| self.is_alive(now, NodeId(peer.peer.0)))
            }
        };
        let need = |peer: PeerProgress| {
            let has = has(&peer).filter(|has| *has >= base)?;
            Some(Need {
                from: has.next(),
                snapshot_bytes: self.sendings.bytes(peer.peer),
            })
        };
        self.raft.peer_progress().filter_map(need).collect()
    }

    /// The log was cut.
    pub(super) fn log_cut(&mut self, now: Time, base: EntryId, out: &mut Outbox) {
        mark("log cut behind the base");
        self.drains.log_base = base.index;
        self.raft.compacted(base);
        self.members.forget_before(base.index);
        self.give_up_sendings_before(now, base.index, out);
    }

    /// The leader lets everybody give up history beyond its limits. Once: while that is not decided yet, more drains may come,
    /// and entries that bring nothing new would bring further drains.
    fn propose_trim(&mut self, now: Time, history: &HistoryStatistics) {
        if let Some(oldest) = self.oldest_to_keep(history) {
            self.propose_keeping_from(now, oldest);
        }
    }

    fn propose_keeping_from(&mut self, now: Time, oldest: Revision) {
        if self.raft.role() != RoleName::Leader {
            return;
        }
        let asked = (self.raft.term(), oldest);
        if self.drains.trim_proposed >= Some(asked) {
            return;
        }
        // Refused: the next drain asks again.
        if self
            .propose_own(now, &CheckedCommand::keep_history_from(oldest))
            .is_ok()
        {
            mark("trim proposed");
            self.drains.trim_proposed = Some(asked);
        }
    }

    fn oldest_to_keep(&self, history: &HistoryStatistics) -> Option<Revision> {
        let mut limits = self.config.retention.history;
        if self.space.is_low() {
            limits.max_bytes = 0;
        }
        // Where the disk had no room for before-images less is kept here than is agreed: better that all nodes say the same.
        let kept = history.oldest_kept;
        let within = oldest_within(history, limits, self.store.log_time_us());
        let oldest = within.map_or(kept, |within| within.max(kept));
        // The state itself always stays: to ask for more would be asked again after each drain, for ever.
        let oldest = oldest.min(self.store.revision());
        (oldest > self.store.oldest_kept()).then_some(oldest)
    }

    /// History before the oldest revision that is kept goes away, here as everywhere.
    pub(super) fn trim_history(&mut self, out: &mut Outbox) {
        let oldest_kept = self.store.oldest_kept();
        if oldest_kept > self.drains.trimmed {
            self.drains.trimmed = oldest_kept;
            out.push(Effect::TrimHistory { oldest_kept });
        }
    }
}

fn gives_history_up(entry: &Entry) -> bool {
    entry.kind == EntryKind::Command
        && matches!(
            decode_command(&entry.payload),
            Ok(Command::KeepHistoryFrom { .. })
        )
}

/// The oldest revision that is left when whole generations, oldest first, go until the limits hold; `None` when they hold.
fn oldest_within(history: &HistoryStatistics, limits: HistoryLimits, now_us: u64) -> Option<Revision> {
    let (mut bytes, mut events) = (history.bytes, history.events);
    let drained = history
        .generations
        .iter()
        .filter(|generation| generation.is_drained);
    let newest = drained.clone().next_back()?.number;
    let mut oldest = None;
    for generation in drained.take_while(|generation| generation.number < newest) {
        let is_young = now_us.saturating_sub(generation.log_times_us.1) <= limits.max_age_us;
        if is_young && events <= limits.max_events && bytes <= limits.max_bytes {
            break;
        }
        events -= generation.events;
        bytes -= generation.event_bytes + generation.image_bytes;
        oldest = generation
            .revisions
            .map(|(_, last)| Revision(last.0 + 1))
            .or(oldest);
    }
    oldest
}
