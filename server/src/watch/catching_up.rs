//! Windows of history for the watches that are behind, and pages of the states that watches begin with.

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, Failure, KeySpan, KeyValue, PartKind, Revision, WatchEvent, WatchPart};
use raftkv_raft::Time;
use raftkv_raft::simulation::{mark, mutant};

use super::WatchId;
use super::delivery::Round;
use super::groups::Side;
use super::hub::{Effect, Hub, Output};
use super::parts::{EVENT_OVERHEAD_BYTES, Made};
use super::phases::{Phase, Snapshot};
use super::reader::Records;
use crate::store::StoreError;
use crate::store::history::Event;

/// Some revisions of history, all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub from: Revision,
    /// The last.
    pub to: Revision,
}

/// What was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowRead {
    /// All events from the window's begin up to here, in order.
    Events {
        /// The events.
        events: Vec<Event>,
        /// The last revision that is whole; beyond the window's last where no event comes behind it up to here.
        through: Revision,
    },
    /// History does not keep the window's begin any more.
    Compacted {
        /// The oldest revision that it keeps.
        oldest_kept: Revision,
    },
}

/// A page of the state that a watch begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// Whose.
    pub watch: WatchId,
    /// Of these keys.
    pub span: KeySpan,
    /// Behind this one.
    pub after: Option<Bytes>,
    /// So many bytes of keys and values, and the key that passes that.
    pub bytes: u64,
}

/// What it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub kvs: Vec<KeyValue>,
    /// Is nothing left behind it?
    pub is_last: bool,
}

impl Hub {
    /// What is to be read of history now, one window at a time; [`Hub::window_read`] brings it.
    pub fn next_window(&mut self) -> Option<Window> {
        if self.reading.is_some() {
            return None;
        }
        let begin = (self.sweep, WatchId(0));
        let next = self.ready.range(begin..).next().or(self.ready.first());
        let (from, _) = next.copied()?;
        let to = from.0.saturating_add(self.settings.window_revisions - 1);
        let window = Window {
            from,
            to: Revision(to.min(self.head.0)),
        };
        self.reading = Some(window);
        Some(window)
    }

    /// A window was read.
    ///
    /// # Errors
    /// Of the disk, when something had to be looked up.
    ///
    /// # Panics
    /// When no window is being read.
    pub fn window_read(
        &mut self,
        now: Time,
        read: WindowRead,
        records: &impl Records,
        out: &mut Output,
    ) -> Result<(), StoreError> {
        assert!(self.reading.is_some(), "a window is being read");
        match read {
            WindowRead::Compacted { oldest_kept } => {
                self.reading = None;
                self.give_up_below(oldest_kept, out);
            }
            WindowRead::Events { events, through } => {
                assert!(through <= self.head, "nothing is told that has not come");
                mark("watch: window of history read");
                let round = Round {
                    now,
                    side: Side::Behind,
                    through,
                };
                self.deliver(round, &events, records, out)?;
                self.reading = None;
                self.sweep = Revision(through.0 + 1);
            }
        }
        Ok(())
    }

    /// Those that read up to `through` with this window and could take all of it go on behind it.
    pub(super) fn advance_ready(&mut self, through: Revision) {
        let Some(window) = self.reading else { return };
        let within = (window.from, WatchId(0))..=(through, WatchId(u64::MAX));
        let passed: Vec<WatchId> = self.ready.range(within).map(|(_, id)| *id).collect();
        for id in passed {
            let next = match mutant("watch_event_lost_at_hand_over") && through < self.head {
                true => Revision(self.head.0 + 1),
                false => Revision(through.0 + 1),
            };
            self.move_to(id, next);
            if let Some(watch) = self.watches.get(id.0)
                && matches!(watch.phase, Phase::Live)
            {
                mark("watch: caught up");
            }
        }
    }

    fn give_up_below(&mut self, oldest_kept: Revision, out: &mut Output) {
        let below = self.ready.range(..(oldest_kept, WatchId(0)));
        let below: Vec<_> = below.copied().collect();
        for (next, id) in below {
            mark("watch: what it lacks is not kept any more");
            self.end(id, Some(compacted(next, oldest_kept)), out);
        }
    }

    /// The next page that is to be read of a held state; [`Hub::page_read`] brings it. Watches take turns.
    pub fn next_page(&mut self) -> Option<PageWanted> {
        let behind_last = self.paging.range(WatchId(self.last_paged.0.saturating_add(1))..);
        let id = behind_last.copied().next().or(self.paging.first().copied())?;
        self.paging.remove(&id);
        self.last_paged = id;
        let snapshot = self.snapshot_mut(id)?;
        snapshot.is_read = true;
        let after = snapshot.after.clone();
        let group = self.watches.get(id.0)?.group;
        Some(PageWanted {
            watch: id,
            span: self.groups.wish(group).span.clone(),
            after,
            bytes: self.settings.part_bytes,
        })
    }

    /// A page was read. Behind the last one, the watch goes on with every change of that state.
    pub fn page_read(&mut self, now: Time, id: WatchId, page: Page, out: &mut Output) {
        let held_until = now.after(self.settings.held_state_idle);
        let Some(snapshot) = self.snapshot_mut(id) else {
            return;
        };
        snapshot.is_read = false;
        snapshot.held_until = held_until;
        let made = page_part(page, snapshot.at);
        let (kind, at) = (made.part.kind, made.first);
        if !self.charge(now, id, &made) {
            // Its connection filled up meanwhile: the page is read again.
            mark("watch: page of a snapshot put off");
            self.settle(id);
            return;
        }
        let last = made
            .part
            .events
            .last()
            .map(|event| Bytes::copy_from_slice(event.key()));
        out.push(Effect::Send {
            to: vec![id],
            part: made.part,
            charged: made.size_bytes,
        });
        if kind == PartKind::SnapshotEnd {
            mark("watch: snapshot told");
            out.push(Effect::Release(id));
            self.move_to(id, Revision(at.0 + 1));
            return;
        }
        if let Some(snapshot) = self.snapshot_mut(id) {
            snapshot.after = last;
        }
        self.settle(id);
    }

    /// What a watch has got of its snapshot; `None`: it is over.
    fn snapshot_mut(&mut self, id: WatchId) -> Option<&mut Snapshot> {
        match &mut self.watches.get_mut(id.0)?.phase {
            Phase::Snapshot(snapshot) => Some(snapshot),
            Phase::Behind { .. } | Phase::Future { .. } | Phase::Live => {
                unreachable!("only a watch that gets a snapshot reads pages")
            }
        }
    }
}

fn page_part(page: Page, at: Revision) -> Made {
    let (kind, through) = match page.is_last {
        true => (PartKind::SnapshotEnd, at),
        false => (PartKind::Snapshot, Revision(0)),
    };
    let put = |kv| WatchEvent::Put { kv, previous: None };
    let part = WatchPart {
        kind,
        through,
        events: page.kvs.into_iter().map(put).collect(),
    };
    let credit_bytes = part.credit_bytes();
    Made {
        first: at,
        credit_bytes,
        size_bytes: credit_bytes + EVENT_OVERHEAD_BYTES * (1 + part.events.len() as u64),
        part,
    }
}

/// Told to a watch that wants what history does not keep.
pub(crate) fn compacted(wanted: Revision, oldest_kept: Revision) -> Failure {
    let message = format!(
        "revision {wanted} is not kept any more, the oldest kept is {oldest_kept}: begin anew, with a snapshot or from there"
    );
    Failure::new(ErrorCode::Compacted, message)
}
