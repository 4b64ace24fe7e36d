//! Dropping the log's head, whole segments at a time.

use raftkv_raft::simulation::mark;
use raftkv_raft::{EntryId, HardState, Index};

use super::append::Log;
use super::error::LogError;
use super::format::{Follows, Origin, SegmentHeader};
use super::index::EntryIndex;
use super::names;
use super::outline::Outline;
use super::recovery::Recovered;
use super::segment::{self, SegmentSizes};
use crate::disk::Disk;

impl<D: Disk> Log<D> {
    /// Drops the segments all of whose entries are below `keep_from`, and keeps their files as spares. The caller has a
    /// durable snapshot of what they held; durable on return.
    ///
    /// # Errors
    /// Of the disk; from then on the log refuses everything.
    ///
    /// # Panics
    /// When `keep_from` is beyond the commit index: such entries can still be truncated.
    pub fn compact(&mut self, keep_from: Index) -> Result<(), LogError> {
        assert!(
            keep_from <= self.hard_state.commit,
            "entries from {keep_from} on are to be kept, committed is {}",
            self.hard_state.commit
        );
        self.unless_stopped(|log| {
            while log.segments.len() > 1 && log.is_oldest_below(keep_from) {
                log.drop_oldest()?;
            }
            Ok(())
        })
    }

    /// As [`Log::compact`], for a caller who knows that all entries below `keep_from` are committed and in a durable state,
    /// though the log itself may not have been told yet that they are. The base, if it moved.
    ///
    /// # Errors
    /// As [`Log::compact`].
    pub fn cut_behind(&mut self, keep_from: Index) -> Result<Option<EntryId>, LogError> {
        let before = self.base();
        self.compact(keep_from.min(self.hard_state.commit))?;
        let base = self.base();
        Ok((base != before).then_some(base))
    }

    /// Begins anew behind a snapshot's last entry, with this hard state: everything the log held is gone. Durable on return;
    /// a crash before it leaves the log as it was.
    ///
    /// # Errors
    /// Of the disk; from then on the log refuses everything.
    ///
    /// # Panics
    /// When the hard state's term or commit index is below the snapshot's.
    pub fn begin_anew(&mut self, base: EntryId, hard_state: HardState) -> Result<(), LogError> {
        assert!(
            base.term <= hard_state.term && base.index <= hard_state.commit,
            "{hard_state:?} does not fit a snapshot that ends at {base}"
        );
        self.unless_stopped(|log| {
            log.sync_active()?;
            let header = SegmentHeader {
                base,
                last_before: Some(base),
                hard_state,
                follows: Follows::Nothing,
                ..log.segment_header(log.active.number + 1, Origin::ZeroFilled)
            };
            let sizes = SegmentSizes {
                usual_bytes: log.config.segment_size_bytes,
                first_batch_bytes: 0,
            };
            log.active = segment::begin(&log.disk, &log.spares, header, sizes)?;
            log.outline = Outline::new(base, Some(base));
            log.hard_state = hard_state;
            log.proven = header.synced_through;
            let void = std::mem::replace(&mut log.segments, vec![header.number]);
            // Readers learn first: what they find in the files from now on may be another segment's.
            log.index.change(|index| *index = EntryIndex::default());
            mark("log: begun anew behind a snapshot");
            log.give_up(&void)
        })
    }

    /// Keeps the files of these segments as spares, or removes them, oldest first.
    pub(super) fn give_up(&self, void: &[u64]) -> Result<(), LogError> {
        for number in void {
            self.spares.recycle(&names::segment(*number))?;
        }
        Ok(())
    }

    /// Holds the oldest segment no entry from `keep_from` on?
    fn is_oldest_below(&self, keep_from: Index) -> bool {
        let first_behind = self.index.read(|index| index.first_from(self.segments[1]));
        first_behind.map_or(
            self.outline.last().is_some_and(|last| last.index < keep_from),
            |first| first <= keep_from,
        )
    }

    /// The oldest goes first and durably, so that a crash leaves segments without a gap.
    fn drop_oldest(&mut self) -> Result<(), LogError> {
        let oldest = self.segments.remove(0);
        let kept = self.segments[0];
        let first_behind = self.index.read(|index| index.first_from(kept));
        let base = match first_behind.and_then(Index::previous) {
            Some(base) => self.outline.entry_id(base),
            None => self.outline.last(),
        };
        // Readers learn first: what they find in the file from now on may be another segment's.
        self.index.change(|index| index.compact(kept));
        self.spares.recycle(&names::segment(oldest))?;
        self.outline
            .compact(base.expect("the entry in front of one that is kept is in the log"));
        mark("log: segment compacted");
        Ok(())
    }
}

impl<D: Disk> Recovered<D> {
    /// Makes the log fit a state that holds everything up to `applied`: when it does not hold that entry, a snapshot took its
    /// place, and a crash came before the log could begin anew (R49). That is done now.
    ///
    /// # Errors
    /// Of the disk.
    pub fn behind(mut self, applied: EntryId) -> Result<Recovered<D>, LogError> {
        let is_held = self.log.outline.entry_id(applied.index) == Some(applied);
        if is_held || applied.index < self.base.index {
            return Ok(self);
        }
        mark("log: install finished at the start");
        let was = self.hard_state;
        let hard_state = HardState {
            term: was.term.max(applied.term),
            // A vote was given in its term alone (R2).
            vote: was.vote.filter(|_| was.term >= applied.term),
            commit: was.commit.max(applied.index),
        };
        self.log.begin_anew(applied, hard_state)?;
        Ok(Recovered {
            hard_state,
            base: applied,
            term_runs: Vec::new(),
            last: applied,
            configurations: Vec::new(),
            ..self
        })
    }
}
