//! Dropping the log's head, whole segments at a time.

use raftkv_raft::simulation::mark;
use raftkv_raft::{EntryId, Index};

use super::append::Log;
use super::error::LogError;
use super::names;
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
