//! Files that are written once and seldom read: the log and what is finished of history. What rots there shows when it is
//! wanted: by a follower that is behind, by a reader of the past, at the next start. So each pass of the scrub has every node
//! read its own again and look at all checksums (R47).
//!
//! **What is found is told, and the node goes on.** Every reader of these files looks at the checksums as well, so damage never
//! leaves the node as an answer, and all that the node stores now stands elsewhere: in memory and in the base, which the
//! scrub itself compares. Whether to replace a node whose disk begins to rot is for the operator to decide.

use std::ops::ControlFlow;

use crate::disk::Disk;
use crate::log::LogReader;
use crate::store::GenerationNumber;
use crate::store::history::History;

/// What came of one look at all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesChecked {
    /// Bytes of entries and events that were read.
    pub bytes: u64,
    /// What is wrong, in sentences.
    pub damage: Vec<String>,
}

/// Reads all of them. `rest` is told how many bytes were read each time, so that it can set the pace, and may end it.
///
/// `None`: it was ended. Files that are cut, trimmed or written over meanwhile are no damage.
pub fn check_cold_files<D: Disk>(
    log: &LogReader<D>,
    history: &History<D>,
    rest: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Option<FilesChecked> {
    let mut checked = FilesChecked::default();
    let mut is_ended = false;
    let mut count = |bytes| {
        checked.bytes += bytes;
        let flow = rest(bytes);
        is_ended |= flow.is_break();
        flow
    };
    let mut damage = Vec::new();
    damage.extend(log.check(&mut count).err().map(|error| error.to_string()));
    for file in history.view().files(GenerationNumber(u64::MAX)) {
        damage.extend(file.check(&mut count).err().map(|error| error.to_string()));
    }
    if is_ended {
        return None;
    }
    checked.damage = damage;
    Some(checked)
}
