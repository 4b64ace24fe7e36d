//! Opening a log: everything is read, checked and followed; a torn tail is cut, damage is refused.
//!
//! 1. Headers of all segments: one owner, numbers without gaps, each begins where the one before ends.
//! 2. Batches in order. In every segment but the last each batch must be good: the next header proves them synced.
//! 3. The first bad batch of the last segment: if anything readable behind it says that it was synced, it is damage. If
//!    not, it was never acknowledged: the log ends before it, even if good batches follow (R41).
//! 4. What was kept but not proven is written again and synced: after a crash of the process it may be in the page cache
//!    only (R36), and after a failed sync the kernel may take it for clean while the disk does not have it.
//! 5. A new segment begins, whose header says where the log ends. So what was cut can never be taken for real later.
//! 6. The room that the segment before it did not use is given back: a node that restarts often would fill its disk.
//!
//! A crash in any step leaves a log that recovers to the same: bytes are only replaced by the same bytes, and the new
//! segment appears whole or not at all.

use std::collections::VecDeque;

use raftkv_protocol::NodeId;
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryId, HardState, Index, Term};

use super::append::{Log, note_made};
use super::batch::BatchBuffer;
use super::error::{LogError, io_error};
use super::format::{
    BATCH_HEADER_BYTES, BadHeader, BatchHeader, FORMAT_VERSION, Follows, Origin, SECTOR_BYTES,
    SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::index::SharedIndex;
use super::names::{self, FileKind};
use super::replay::Replay;
use super::segment::{self, SegmentSizes};
use super::spare::SparePool;
use super::window::Window;
use super::{LogConfig, LogOwner};
use crate::disk::{Disk, DiskFile};

/// What recovery found.
pub struct Recovered<D: Disk> {
    /// Ready to append.
    pub log: Log<D>,
    /// Whose it is.
    pub owner: LogOwner,
    /// The last hard state.
    pub hard_state: HardState,
    /// The entry below the first that the log can still read (the founding entry's own id as long as nothing was cut).
    pub base: EntryId,
    /// Terms of the entries after `base`, as runs.
    pub term_runs: Vec<(Index, Term)>,
    /// The last entry.
    pub last: EntryId,
    /// All configuration entries still in the log, the founding one included, ascending.
    pub configurations: Vec<Entry>,
    /// A tail that was never acknowledged and was cut, for the operator's log.
    pub torn_tail: Option<TornTail>,
}

/// An unacknowledged tail that recovery cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// In this file.
    pub file: String,
    /// From this byte on.
    pub offset: u64,
}

impl<D: Disk> Log<D> {
    /// Opens and recovers; `None` when there is no log (the node is unformed). What was replayed is synced before return.
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::Lost`], [`LogError::Foreign`], [`LogError::NewerFormat`]: do not start; nothing was changed that
    /// an operator could miss. Of the disk.
    pub fn open(disk: D, config: LogConfig, node: NodeId) -> Result<Option<Recovered<D>>, LogError> {
        let (segments, void) = read_headers(&disk, node)?;
        let (Some(oldest), Some(newest)) = (segments.first(), segments.last()) else {
            refuse_lost(&disk)?;
            return Ok(None);
        };
        let owner = oldest.header.owner;
        let mut replay = Replay::new(&oldest.header);
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1);
            if let Some(next) = next {
                replay_sealed(&disk, &mut replay, segment, next)?;
            }
        }
        let tail = replay_newest(&disk, &mut replay, newest)?;
        let Some(last) = replay.outline.last() else {
            return Err(newest.damaged(SEGMENT_HEADER_BYTES as u64, "the founding entry is missing"));
        };
        settle(&disk, newest, &tail)?;
        note_made(&disk)?;
        let numbers = segments.iter().map(|segment| segment.header.number).collect();
        let (configurations, recovered) = (std::mem::take(&mut replay.configurations), replay);
        let (base, term_runs) = (recovered.outline.base(), recovered.outline.term_runs().to_vec());
        let hard_state = recovered.hard_state;
        let log = Log::go_on(disk, config, owner, recovered, numbers)?;
        give_back(&log.disk, newest, &tail)?;
        log.give_up(&void)?;
        Ok(Some(Recovered {
            log,
            owner,
            hard_state,
            base,
            term_runs,
            last,
            configurations,
            torn_tail: tail.torn,
        }))
    }

    /// Begins a new segment behind what was recovered.
    fn go_on(
        disk: D,
        config: LogConfig,
        owner: LogOwner,
        replay: Replay,
        mut segments: Vec<u64>,
    ) -> Result<Log<D>, LogError> {
        let spares = SparePool::open(disk.clone(), config)?;
        let last_batch = replay.next_batch - 1;
        let number = segments.last().map_or(1, |newest| newest + 1);
        let header = SegmentHeader {
            number,
            owner,
            origin: Origin::ZeroFilled,
            first_batch: replay.next_batch,
            synced_through: last_batch,
            chain: replay.chain,
            base: replay.outline.base(),
            last_before: replay.outline.last(),
            hard_state: replay.hard_state,
            follows: Follows::Former,
        };
        let sizes = SegmentSizes {
            usual_bytes: config.segment_size_bytes,
            first_batch_bytes: 0,
        };
        let active = segment::begin(&disk, &spares, header, sizes)?;
        segments.push(number);
        Ok(Log {
            disk,
            config,
            owner,
            spares,
            active,
            segments,
            outline: replay.outline,
            hard_state: replay.hard_state,
            next_batch: replay.next_batch,
            synced: last_batch,
            proven: last_batch,
            last_content: last_batch,
            chain: replay.chain,
            index: SharedIndex::new(replay.index),
            buffer: BatchBuffer::default(),
            is_stopped: false,
        })
    }
}

/// No segments: was there never a log, or are its files gone?
fn refuse_lost<D: Disk>(disk: &D) -> Result<(), LogError> {
    match disk.open(names::MADE) {
        Ok(_) => Err(LogError::Lost { file: names::MADE }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("opening", names::MADE)(error)),
    }
}

/// A segment on disk whose header is good.
struct FoundSegment {
    name: String,
    header: SegmentHeader,
}

impl FoundSegment {
    fn damaged(&self, offset: u64, what: impl Into<String>) -> LogError {
        mark("log: damage refused");
        LogError::Damaged {
            file: self.name.clone(),
            offset,
            what: what.into(),
        }
    }
}

/// All segments that count, oldest first, each known to be this log's and in its place; and the numbers of those that
/// are void because the log began anew behind them.
fn read_headers<D: Disk>(disk: &D, node: NodeId) -> Result<(Vec<FoundSegment>, Vec<u64>), LogError> {
    let files = disk.list().map_err(io_error("listing", "the data directory"))?;
    let mut numbers: Vec<u64> = files
        .iter()
        .filter_map(|name| match names::kind(name)? {
            FileKind::Segment(number) => Some(number),
            FileKind::Spare(_) | FileKind::Unfinished => None,
        })
        .collect();
    numbers.sort_unstable();
    let mut segments: VecDeque<FoundSegment> = VecDeque::with_capacity(numbers.len());
    while let Some(number) = numbers.pop() {
        let segment = read_header(disk, number)?;
        check_owner(&segment, segments.back(), node)?;
        if let Some(next) = segments.front() {
            check_neighbours(&segment, next)?;
        }
        let begins_anew = segment.header.follows == Follows::Nothing;
        segments.push_front(segment);
        if begins_anew {
            break;
        }
    }
    Ok((segments.into(), numbers))
}

fn read_header<D: Disk>(disk: &D, number: u64) -> Result<FoundSegment, LogError> {
    let name = names::segment(number);
    let file = disk.open(&name).map_err(io_error("opening", &name))?;
    let damaged = |what: String| {
        mark("log: damage refused");
        LogError::Damaged {
            file: name.clone(),
            offset: 0,
            what,
        }
    };
    if file.len().map_err(io_error("measuring", &name))? < SEGMENT_HEADER_BYTES as u64 {
        return Err(damaged("the file is shorter than a segment's header".to_owned()));
    }
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0)
        .map_err(io_error("reading", &name))?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) if header.number == number => Ok(FoundSegment { name, header }),
        Ok(header) => Err(damaged(format!(
            "this is segment {}, under another's name",
            header.number
        ))),
        Err(BadHeader::Damaged(what)) => Err(damaged(what.to_owned())),
        Err(BadHeader::NewerFormat(found)) => Err(LogError::NewerFormat {
            file: name,
            found,
            supported: FORMAT_VERSION,
        }),
    }
}

fn check_owner(segment: &FoundSegment, newest: Option<&FoundSegment>, node: NodeId) -> Result<(), LogError> {
    let owner = segment.header.owner;
    let is_same_cluster = newest.is_none_or(|newest| newest.header.owner.cluster == owner.cluster);
    if owner.node == node && is_same_cluster {
        return Ok(());
    }
    mark("log: foreign segment refused");
    Err(LogError::Foreign {
        file: segment.name.clone(),
        found_cluster: owner.cluster,
        found_node: owner.node,
        expected_node: node,
    })
}

fn check_neighbours(before: &FoundSegment, segment: &FoundSegment) -> Result<(), LogError> {
    if segment.header.number != before.header.number + 1 {
        let missing = names::segment(before.header.number + 1);
        let what = format!(
            "the file is missing, {} and {} are there",
            before.name, segment.name
        );
        return Err(LogError::Damaged {
            file: missing,
            offset: 0,
            what,
        });
    }
    if segment.header.first_batch < before.header.first_batch {
        return Err(segment.damaged(0, "it begins before the segment in front of it"));
    }
    Ok(())
}

/// The batch that comes next, if a good one stands at `offset`.
fn next_batch<F: DiskFile>(
    window: &mut Window<'_, F>,
    segment: &SegmentHeader,
    replay: &Replay,
    offset: u64,
) -> std::io::Result<Option<BatchHeader>> {
    let Some(header) = BatchHeader::decode(window.get(offset, BATCH_HEADER_BYTES as u64)?) else {
        return Ok(None);
    };
    let is_next = header.generation == segment.number
        && header.number == replay.next_batch
        && header.synced_through < header.number;
    if !is_next {
        return Ok(None);
    }
    let batch = window.get(offset, header.batch_bytes())?;
    Ok(header.is_intact(batch, replay.chain).then_some(header))
}

/// Replays the batch that stands at `offset`; where the next one does, or `None` if it is bad.
fn replay_batch<F: DiskFile>(
    window: &mut Window<'_, F>,
    replay: &mut Replay,
    segment: &FoundSegment,
    offset: u64,
) -> Result<Option<u64>, LogError> {
    let reading = || io_error("reading", &segment.name);
    let Some(header) = next_batch(window, &segment.header, replay, offset).map_err(reading())? else {
        return Ok(None);
    };
    let batch = window.get(offset, header.batch_bytes()).map_err(reading())?;
    replay
        .take(segment.header.number, offset, &header, batch)
        .map_err(|what| segment.damaged(offset, what))?;
    Ok(Some(offset + header.batch_bytes()))
}

/// Replays a segment that another follows: up to the batch before that one's first, and not one less.
fn replay_sealed<D: Disk>(
    disk: &D,
    replay: &mut Replay,
    segment: &FoundSegment,
    next: &FoundSegment,
) -> Result<(), LogError> {
    let file = disk
        .open(&segment.name)
        .map_err(io_error("opening", &segment.name))?;
    let mut window = Window::new(&file).map_err(io_error("measuring", &segment.name))?;
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    while replay.next_batch < next.header.first_batch {
        let number = replay.next_batch;
        let Some(end) = replay_batch(&mut window, replay, segment, offset)? else {
            let what = format!("batch {number} is not readable, and {} follows it", next.name);
            return Err(segment.damaged(offset, what));
        };
        offset = end;
    }
    if next.header.first_batch != replay.next_batch || next.header.chain != replay.chain {
        let what = format!(
            "it does not follow from batch {} of {}",
            replay.next_batch - 1,
            segment.name
        );
        return Err(next.damaged(0, what));
    }
    replay.proven = replay.proven.max(next.header.synced_through);
    Ok(())
}

/// How the newest segment ends.
struct Tail {
    /// The log's batches end here.
    end: u64,
    /// From here on nothing proves that batches were synced.
    unproven: u64,
    torn: Option<TornTail>,
}

/// Replays the segment that was written to last, and decides about the first bad batch in it.
fn replay_newest<D: Disk>(disk: &D, replay: &mut Replay, segment: &FoundSegment) -> Result<Tail, LogError> {
    let file = disk
        .open(&segment.name)
        .map_err(io_error("opening", &segment.name))?;
    let mut window = Window::new(&file).map_err(io_error("measuring", &segment.name))?;
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    let mut unproven = VecDeque::new();
    loop {
        let number = replay.next_batch;
        let Some(end) = replay_batch(&mut window, replay, segment, offset)? else {
            break;
        };
        unproven.push_back((number, offset));
        while unproven
            .front()
            .is_some_and(|(number, _)| *number <= replay.proven)
        {
            unproven.pop_front();
        }
        offset = end;
    }
    let torn = judge_tail(&mut window, replay, segment, offset)?;
    Ok(Tail {
        end: offset,
        unproven: unproven.front().map_or(offset, |(_, offset)| *offset),
        torn,
    })
}

/// No good batch stands at `offset`: is that the log's end, a torn tail, or damage?
fn judge_tail<F: DiskFile>(
    window: &mut Window<'_, F>,
    replay: &Replay,
    segment: &FoundSegment,
    offset: u64,
) -> Result<Option<TornTail>, LogError> {
    let number = replay.next_batch;
    if segment.header.synced_through >= number && !mutant("X21_cut_below_the_proven_sync_point") {
        return Err(segment.damaged(
            offset,
            format!("batch {number} is not readable, the header proves it"),
        ));
    }
    let mut is_clean = true;
    let mut at = offset;
    while at < window.file_bytes() {
        let sector = window
            .get(at, SECTOR_BYTES)
            .map_err(io_error("reading", &segment.name))?;
        let header = BatchHeader::decode(sector).filter(|header| header.generation == segment.header.number);
        let Some(header) = header else {
            let is_zero = sector.iter().all(|byte| *byte == 0);
            is_clean &= is_zero || segment.header.origin == Origin::Recycled;
            at += SECTOR_BYTES;
            continue;
        };
        is_clean = false;
        if header.synced_through >= number && !mutant("X21_cut_below_the_proven_sync_point") {
            let proof = header.number;
            return Err(segment.damaged(
                offset,
                format!("batch {number} is not readable, batch {proof} at byte {at} says it was synced"),
            ));
        }
        at += header.batch_bytes();
    }
    if is_clean {
        return Ok(None);
    }
    mark("log: torn tail cut");
    Ok(Some(TornTail {
        file: segment.name.clone(),
        offset,
    }))
}

/// Makes durable what was replayed and not proven.
fn settle<D: Disk>(disk: &D, newest: &FoundSegment, tail: &Tail) -> Result<(), LogError> {
    if mutant("X10_replayed_tail_not_synced") {
        return Ok(());
    }
    let name = &newest.name;
    let file = disk.open(name).map_err(io_error("opening", name))?;
    let mut window = Window::new(&file).map_err(io_error("measuring", name))?;
    let mut at = tail.unproven;
    while at < tail.end {
        let length = (tail.end - at).min(1 << 20);
        let bytes = window.get(at, length).map_err(io_error("reading", name))?;
        file.write_all_at(bytes, at).map_err(io_error("writing", name))?;
        at += length;
        mark("log: unproven tail written again");
    }
    file.sync_data().map_err(io_error("syncing", name))?;
    disk.sync_directory()
        .map_err(io_error("syncing", "the data directory"))
}

/// Shortens the segment that ended before it was full, now that another follows it.
fn give_back<D: Disk>(disk: &D, newest: &FoundSegment, tail: &Tail) -> Result<(), LogError> {
    let file = disk
        .open(&newest.name)
        .map_err(io_error("opening", &newest.name))?;
    file.shrink(tail.end)
        .map_err(io_error("shortening", &newest.name))
}
