//! The segment that is written to, and how the next one comes to be.

use super::error::{LogError, io_error};
use super::format::{Origin, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::names;
use super::spare::{Spare, SparePool, zero_filled};
use crate::disk::{Disk, DiskFile};

/// Sizes of segments are multiples of this.
const PAGE_BYTES: u64 = 4096;

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) file: F,
    /// Where the next batch goes.
    pub(super) end: u64,
    pub(super) size_bytes: u64,
}

impl<F: DiskFile> Segment<F> {
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        self.end + bytes <= self.size_bytes
    }
}

/// Begins a segment with room for a first batch of `batch_bytes`: a spare if one is ready, else a new file. Header and
/// name are durable on return. `header.origin` is set here.
pub(super) fn begin<D: Disk>(
    disk: &D,
    spares: &SparePool<D>,
    header: SegmentHeader,
    sizes: SegmentSizes,
) -> Result<Segment<D::File>, LogError> {
    let size_bytes = sizes.fitting();
    let spare = (size_bytes == sizes.usual_bytes).then(|| spares.take()).flatten();
    let (unfinished, origin, file) = match spare {
        Some(Spare { name, origin }) => {
            let file = disk.open(&name).map_err(io_error("opening", &name))?;
            (name, origin, file)
        }
        None => {
            let name = names::unfinished_segment(header.number);
            let file = zero_filled(disk, &name, size_bytes)?;
            (name, Origin::ZeroFilled, file)
        }
    };
    let header = SegmentHeader { origin, ..header };
    file.write_all_at(&header.encode(), 0)
        .map_err(io_error("writing", &unfinished))?;
    file.sync_data().map_err(io_error("syncing", &unfinished))?;
    let name = publish(disk, &unfinished, header.number)?;
    Ok(Segment {
        number: header.number,
        name,
        file,
        end: SEGMENT_HEADER_BYTES as u64,
        size_bytes,
    })
}

/// Gives a finished file its segment's name, durably: the one place where a segment comes to be.
pub(super) fn publish<D: Disk>(disk: &D, unfinished: &str, number: u64) -> Result<String, LogError> {
    let name = names::segment(number);
    disk.rename(unfinished, &name)
        .map_err(io_error("renaming", unfinished))?;
    if !raftkv_raft::simulation::mutant("X10_segment_name_not_synced") {
        disk.sync_directory()
            .map_err(io_error("syncing the directory of", &name))?;
    }
    Ok(name)
}

/// How large a segment becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentSizes {
    pub(super) usual_bytes: u64,
    pub(super) first_batch_bytes: u64,
}

impl SegmentSizes {
    pub(super) fn fitting(self) -> u64 {
        let needed = SEGMENT_HEADER_BYTES as u64 + self.first_batch_bytes;
        self.usual_bytes.max(needed.next_multiple_of(PAGE_BYTES))
    }
}
