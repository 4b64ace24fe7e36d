//! The hub: watches come, go, are given credit and told how far they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raftkv_protocol::{ErrorCode, Failure, PartKind, Revision, WatchPart, WatchRequest, WhenSlow};
use raftkv_raft::Time;
use raftkv_raft::simulation::{mark, mutant};

use super::catching_up::Window;
use super::groups::{Groups, Side, Wish};
use super::phases::{Connection, Phase, Reading, Snapshot, Watch};
use super::slots::Slots;
use super::{ConnectionId, WatchId};

/// What the hub keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubSettings {
    /// A part ends at the next revision when it holds so much, bytes of keys and values.
    pub part_bytes: u64,
    /// A part that is larger, because one revision is, can not be sent: its watches end. Bytes of its message.
    pub max_message_bytes: u64,
    /// What the watches of one connection may have on their way in its outbox, bytes; beyond, they wait as without credit.
    pub max_queued_bytes: u64,
    /// Revisions that are read of history at once.
    pub window_revisions: u64,
    /// A watch that wants the latest of each key gets that once it is so many revisions behind.
    pub conflate_after: u64,
    /// The state that a snapshot is read from is held as long as a page is taken now and then: at least so often.
    pub held_state_idle: Duration,
    /// Matches of events and groups that are worked on at once: a bound on memory, at the next revision.
    pub max_matches: usize,
}

impl Default for HubSettings {
    fn default() -> HubSettings {
        HubSettings {
            part_bytes: 256 << 10,
            // A request may be 8 MiB, and clients take answers that are a little larger.
            max_message_bytes: 8 << 20,
            max_queued_bytes: 1 << 20,
            window_revisions: 4096,
            conflate_after: 1024,
            held_state_idle: Duration::from_secs(10),
            max_matches: 100_000,
        }
    }
}

/// A watch begins.
#[derive(Clone, Debug)]
pub struct Begin {
    /// What it wants.
    pub request: WatchRequest,
    /// Where from.
    pub start: Start,
    /// The last revision that was applied; everything behind it will be told to the hub.
    pub head: Revision,
    /// Whose.
    pub connection: ConnectionId,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With this revision.
    From(Revision),
    /// With the state at this revision, which whoever carries the hub's effects out holds.
    Snapshot(Revision),
}

/// What the hub wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The same part to each of these.
    Send {
        /// To whom.
        to: Vec<WatchId>,
        /// What.
        part: WatchPart,
        /// What it counts for each of them in its connection's outbox, bytes: [`Hub::drained`] gives exactly that back.
        charged: u64,
    },
    /// The state that the watch's snapshot was read from is not needed any more.
    Release(WatchId),
    /// The watch is over.
    End {
        /// Which.
        watch: WatchId,
        /// What its client is told; `None`: it asked for the end, or is gone.
        failure: Option<Failure>,
    },
}

/// Effects, in the order in which they are carried out.
pub type Output = Vec<Effect>;

/// See the module `watch`.
#[derive(Debug, Default)]
pub struct Hub {
    pub(super) settings: HubSettings,
    /// Every event up to here was given to the hub, or jumped over.
    pub(super) head: Revision,
    pub(super) watches: Slots<Watch>,
    pub(super) groups: Groups,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// Behind, and could take something: by position.
    pub(super) ready: BTreeSet<(Revision, WatchId)>,
    /// Wait for a revision.
    pub(super) future: BTreeSet<(Revision, WatchId)>,
    /// Could take a page of their snapshot.
    pub(super) paging: BTreeSet<WatchId>,
    /// Whose turn it was.
    pub(super) last_paged: WatchId,
    /// Where the last window ended: the next one begins with the next watch from here on.
    pub(super) sweep: Revision,
    pub(super) reading: Option<Window>,
    /// When to look at a watch. One entry each, at most.
    timers: BTreeSet<(Time, WatchId)>,
}

impl Hub {
    /// Without a watch.
    #[must_use]
    pub fn new(settings: HubSettings) -> Hub {
        Hub {
            settings,
            ..Hub::default()
        }
    }

    /// Is there no watch?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watches.len() == 0
    }

    /// How many watches there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// The revision up to which everything was told.
    #[must_use]
    pub fn head(&self) -> Revision {
        self.head
    }

    /// A watch begins; its name. Its first part tells that it has, but of a snapshot's, which comes with its first page.
    ///
    /// # Panics
    /// When the head is older than what the hub was told already.
    pub fn begin(&mut self, now: Time, begin: &Begin, out: &mut Output) -> WatchId {
        assert!(
            begin.head >= self.head,
            "a watch begins at {}, events up to {} were applied before",
            begin.head,
            self.head
        );
        self.jump(begin.head);
        let group = self.groups.join(Wish::of(&begin.request));
        let phase = match begin.start {
            Start::From(next) => Phase::Behind {
                next,
                reading: Reading::Starved,
            },
            Start::Snapshot(at) => Phase::Snapshot(Box::new(Snapshot {
                at,
                after: None,
                held_until: now.after(self.settings.held_state_idle),
                is_read: false,
            })),
        };
        let watch = Watch {
            group,
            connection: begin.connection,
            when_slow: begin.request.when_slow,
            progress: begin
                .request
                .progress_ms
                .map(|ms| Duration::from_millis(ms.max(MIN_PROGRESS_MS).into())),
            last_sent: now,
            timer: Time::NEVER,
            credit: begin.request.credit_bytes.into(),
            phase,
        };
        let mut look_at = watch.progress.map_or(Time::NEVER, |progress| now.after(progress));
        let id = WatchId(self.watches.insert(watch));
        let connection = self.connections.entry(begin.connection).or_default();
        connection.watches.insert(id);
        match begin.start {
            Start::From(next) => {
                out.push(Effect::Send {
                    to: vec![id],
                    part: empty_part(PartKind::Progress, Revision(next.0 - 1)),
                    charged: 0,
                });
                self.move_to(id, next);
            }
            Start::Snapshot(_) => {
                look_at = look_at.min(now.after(self.settings.held_state_idle));
                self.settle(id);
            }
        }
        self.arm(id, look_at);
        id
    }

    /// More credit.
    pub fn credit(&mut self, id: WatchId, bytes: u32) {
        if let Some(watch) = self.watches.get_mut(id.0) {
            // Nobody can want more than this, and it never overflows.
            watch.credit = watch.credit.saturating_add(bytes.into()).min(i64::from(u32::MAX));
            self.settle(id);
        }
    }

    /// The client wants no more of it.
    pub fn cancel(&mut self, id: WatchId, out: &mut Output) {
        self.end(id, None, out);
    }

    /// The connection is gone, and with it its watches.
    pub fn closed(&mut self, connection: ConnectionId, out: &mut Output) {
        let Some(gone) = self.connections.get(&connection) else {
            return;
        };
        for id in gone.watches.clone() {
            self.end(id, None, out);
        }
        self.connections.remove(&connection);
    }

    /// The connection's outbox has passed on parts that were charged with so many bytes, all together.
    pub fn drained(&mut self, connection: ConnectionId, bytes: u64) {
        let max = self.settings.max_queued_bytes;
        let Some(this) = self.connections.get_mut(&connection) else {
            return;
        };
        this.queued_bytes = this.queued_bytes.saturating_sub(bytes);
        if this.queued_bytes < max {
            for id in std::mem::take(&mut this.starved) {
                self.settle(id);
            }
        }
    }

    /// All watches end: this node serves nobody any more.
    pub fn end_all(&mut self, failure: &Failure, out: &mut Output) {
        let all: Vec<u64> = self.watches.names().collect();
        for id in all {
            self.end(WatchId(id), Some(failure.clone()), out);
        }
    }

    /// Tells watches that have heard nothing for long how far they are, and gives up states that nobody reads.
    pub fn tick(&mut self, now: Time, out: &mut Output) {
        let mut told = Vec::new();
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.look_at(now, id, &mut told, out);
        }
        if !told.is_empty() {
            mark("watch: progress told");
            let through = match mutant("watch_progress_ahead_of_events") {
                true => Revision(self.head.0 + 1),
                false => self.head,
            };
            out.push(Effect::Send {
                to: told,
                part: empty_part(PartKind::Progress, through),
                charged: 0,
            });
        }
    }

    /// When [`Hub::tick`] wants to be called.
    #[must_use]
    pub fn next_tick(&self) -> Time {
        self.timers.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    fn look_at(&mut self, now: Time, id: WatchId, told: &mut Vec<WatchId>, out: &mut Output) {
        let Some(watch) = self.watches.get_mut(id.0) else {
            return;
        };
        watch.timer = Time::NEVER;
        let progress = watch.progress;
        if let Phase::Snapshot(snapshot) = &watch.phase {
            let until = snapshot.held_until;
            if until <= now {
                mark("watch: a held state was given back unread");
                self.end(id, Some(snapshot_too_slow()), out);
            } else {
                let progress = progress.map_or(Time::NEVER, |progress| now.after(progress));
                self.arm(id, until.min(progress));
            }
            return;
        }
        let Some(progress) = progress else {
            return;
        };
        let mut due = watch.last_sent.after(progress);
        if due <= now {
            let queued = self.connections.get(&watch.connection);
            let has_room =
                queued.is_some_and(|connection| connection.queued_bytes < self.settings.max_queued_bytes);
            if matches!(watch.phase, Phase::Live) && has_room {
                watch.last_sent = now;
                told.push(id);
            }
            due = now.after(progress);
        }
        self.arm(id, due);
    }

    fn arm(&mut self, id: WatchId, at: Time) {
        let Some(watch) = self.watches.get_mut(id.0) else {
            return;
        };
        self.timers.remove(&(watch.timer, id));
        watch.timer = at;
        if at < Time::NEVER {
            self.timers.insert((at, id));
        }
    }

    /// Can it be sent something that takes credit?
    pub(super) fn has_room(&self, watch: &Watch) -> bool {
        let connection = self.connections.get(&watch.connection);
        watch.credit > 0
            && connection.is_some_and(|connection| connection.queued_bytes < self.settings.max_queued_bytes)
    }

    /// Takes a watch that waits for credit or room up again, or lets it wait.
    pub(super) fn settle(&mut self, id: WatchId) {
        let Some(watch) = self.watches.get(id.0) else {
            return;
        };
        let has_room = self.has_room(watch);
        let (group, connection, has_credit) = (watch.group, watch.connection, watch.credit > 0);
        let is_waiting = match &watch.phase {
            Phase::Live | Phase::Future { .. } => return,
            Phase::Snapshot(snapshot) => {
                match has_room && !snapshot.is_read {
                    true => self.paging.insert(id),
                    false => self.paging.remove(&id),
                };
                !has_room
            }
            Phase::Behind { next, reading } => {
                let (next, reading) = (*next, *reading);
                match (reading, has_room) {
                    (Reading::Starved, true) => {
                        self.ready.insert((next, id));
                        self.groups.add(group, Side::Behind, id);
                        self.set_phase(
                            id,
                            Phase::Behind {
                                next,
                                reading: Reading::Ready,
                            },
                        );
                    }
                    (Reading::Ready, false) => {
                        self.take_off(id);
                        self.set_phase(
                            id,
                            Phase::Behind {
                                next,
                                reading: Reading::Starved,
                            },
                        );
                    }
                    (Reading::Starved, false) | (Reading::Ready, true) => {}
                }
                !has_room
            }
        };
        if is_waiting
            && has_credit
            && let Some(connection) = self.connections.get_mut(&connection)
        {
            connection.starved.insert(id);
        }
    }

    pub(super) fn set_phase(&mut self, id: WatchId, phase: Phase) {
        if let Some(watch) = self.watches.get_mut(id.0) {
            watch.phase = phase;
        }
    }

    /// The watch has everything below `next` now: where it stands follows from that.
    pub(super) fn move_to(&mut self, id: WatchId, next: Revision) {
        self.take_off(id);
        let Some(watch) = self.watches.get(id.0) else {
            return;
        };
        let group = watch.group;
        let first_to_come = Revision(self.head.0 + 1);
        if next > first_to_come {
            mark("watch: waits for a revision");
            self.future.insert((next, id));
            self.set_phase(id, Phase::Future { next });
        } else if next == first_to_come {
            self.groups.add(group, Side::Live, id);
            self.set_phase(id, Phase::Live);
        } else {
            let reading = Reading::Starved;
            self.set_phase(id, Phase::Behind { next, reading });
            self.settle(id);
        }
    }

    /// Takes a watch off every list that its phase put it on.
    pub(super) fn take_off(&mut self, id: WatchId) {
        let Some(watch) = self.watches.get(id.0) else {
            return;
        };
        let group = watch.group;
        match &watch.phase {
            Phase::Snapshot(_) => {
                self.paging.remove(&id);
            }
            Phase::Behind { next, reading } => {
                if *reading == Reading::Ready {
                    self.ready.remove(&(*next, id));
                    self.groups.take_off(group, Side::Behind, id);
                }
            }
            Phase::Future { next } => {
                self.future.remove(&(*next, id));
            }
            Phase::Live => self.groups.take_off(group, Side::Live, id),
        }
    }

    pub(super) fn end(&mut self, id: WatchId, failure: Option<Failure>, out: &mut Output) {
        self.take_off(id);
        let Some(watch) = self.watches.remove(id.0) else {
            return;
        };
        self.timers.remove(&(watch.timer, id));
        self.groups.leave(watch.group);
        if let Some(connection) = self.connections.get_mut(&watch.connection) {
            connection.watches.remove(&id);
            if connection.watches.is_empty() {
                self.connections.remove(&watch.connection);
            }
        }
        if matches!(watch.phase, Phase::Snapshot(_)) {
            out.push(Effect::Release(id));
        }
        out.push(Effect::End { watch: id, failure });
    }

    /// A live watch could not take an event at revision `first`.
    pub(super) fn fall_behind(&mut self, id: WatchId, first: Revision, out: &mut Output) {
        let Some(watch) = self.watches.get(id.0) else {
            return;
        };
        match watch.when_slow {
            WhenSlow::Drop => {
                mark("watch: dropped, it was slow");
                self.end(id, Some(too_slow()), out);
            }
            WhenSlow::EveryEvent | WhenSlow::LatestPerKey => {
                mark("watch: fell behind");
                let next = match mutant("watch_event_lost_when_it_falls_behind") {
                    true => Revision(first.0 + 1),
                    false => first,
                };
                self.read_from(id, next);
            }
        }
    }

    /// From now on the watch reads history, from `next` on.
    pub(super) fn read_from(&mut self, id: WatchId, next: Revision) {
        let reading = Reading::Starved;
        self.take_off(id);
        self.set_phase(id, Phase::Behind { next, reading });
        self.settle(id);
    }
}

/// Nobody needs to know more often how far a watch is.
const MIN_PROGRESS_MS: u32 = 100;

pub(super) fn empty_part(kind: PartKind, through: Revision) -> WatchPart {
    WatchPart {
        kind,
        through,
        events: Vec::new(),
    }
}

fn too_slow() -> Failure {
    Failure::new(
        ErrorCode::WatchTooSlow,
        "changes came faster than this watch took them, and it asked to be ended then",
    )
}

fn snapshot_too_slow() -> Failure {
    Failure::new(
        ErrorCode::WatchTooSlow,
        "the state that this watch begins with was not read for too long, and is not held any longer; begin anew",
    )
}
