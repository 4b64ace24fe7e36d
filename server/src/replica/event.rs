//! What goes into a node and what comes out.

use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::{Address, Failure, PeerMessage, Request, Response, Revision};
use raftkv_raft::{self as raft, Entry, EntryId, Fetch, Index, Time, Write, WriteNumber};

use super::{Notice, Quarantine, WatchBegin};
use crate::cold_files::FilesChecked;
use crate::membership::Membership;
use crate::store::history::{EventBlock, HistoryStatistics};
use crate::store::{
    BaseRecords, Companions, Frozen, GenerationNumber, Overtaken, PageJob, PageNumber, PageOutcome,
    RangesWanted, ScrubJob, ScrubNumber, Scrubbed, StoreNumber, Tables,
};

/// The shell's name for a request that waits for its answer; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one lookup in the base; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupNumber(pub u64);

/// Names one snapshot that a process holds to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotNumber(pub u64);

/// May this node pass the request on to the leader?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// From a client: yes.
    First,
    /// Forwarded by another node: no; if this one does not lead it answers `NotLeader` (design: one hop).
    Last,
}

/// What happens to a node.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Event {
    /// A client (or a forwarding node) asks. `deadline`: give up then.
    Request {
        token: Token,
        request: Request,
        hop: Hop,
        deadline: Time,
    },
    /// A message from a node.
    Peer(PeerMessage),
    /// The connection to or from a node's process was reset or closed by it.
    PeerReset(Address),
    /// Log writes up to here are durable.
    Persisted(WriteNumber),
    /// Entries read back.
    Fetched { fetch: Fetch, entries: Vec<Entry> },
    /// The entries were cut from the log after [`Effect::Fetch`] asked for them.
    FetchGone(Fetch),
    /// The log that [`Effect::CreateLog`] asked for is durable.
    LogCreated,
    /// What became of [`Effect::Forward`].
    Forwarded { token: Token, outcome: ForwardOutcome },
    /// What [`Effect::Lookup`] asked for.
    LookedUp {
        lookup: LookupNumber,
        found: BaseRecords,
    },
    /// What became of [`Effect::ReadPage`].
    PageRead { page: PageNumber, outcome: PageOutcome },
    /// What became of [`Effect::Scrub`].
    Scrubbed {
        scrub: ScrubNumber,
        outcome: Result<Scrubbed, Overtaken>,
    },
    /// The events of a generation are durable.
    Sealed {
        store: StoreNumber,
        generation: GenerationNumber,
    },
    /// The base holds everything up to this generation, durably; what history keeps now.
    Drained {
        store: StoreNumber,
        generation: GenerationNumber,
        history: HistoryStatistics,
    },
    /// The log begins behind this entry now.
    LogCut { base: EntryId },
    /// The snapshot that [`Effect::OpenSnapshot`] asked for is held, up to this entry; `None`: there is none yet.
    SnapshotOpened {
        snapshot: SnapshotNumber,
        last: Option<EntryId>,
    },
    /// What [`Effect::ReadPart`] asked for; `None`: there is no such part.
    PartRead {
        snapshot: SnapshotNumber,
        part: Option<Bytes>,
    },
    /// What became of [`Effect::TakePart`].
    PartTaken {
        from: raft::NodeId,
        snapshot: SnapshotNumber,
        taken: PartTaken,
    },
    /// What [`Effect::CheckFiles`] came to.
    FilesChecked(FilesChecked),
    /// Bytes that can still be written to the data directory; told now and then.
    FreeSpace { bytes: u64 },
    /// Take no more requests (graceful stop): those that wait are still answered.
    Drain,
}

/// The end of a forwarded request.
#[derive(Debug)]
pub enum ForwardOutcome {
    /// The other node answered.
    Answered(Response),
    /// It was never sent (no connection).
    NotSent,
    /// The connection was lost after sending.
    Lost,
}

/// What a part did to the snapshot that is coming in.
#[derive(Debug)]
pub enum PartTaken {
    /// This position comes next.
    Wanted(Bytes),
    /// All of it is here, durably, in files of its own.
    Whole(Box<ReceivedState>),
    /// It is no snapshot: it was dropped.
    Broken(&'static str),
}

/// What a whole received snapshot holds.
#[derive(Debug)]
pub struct ReceivedState {
    /// Where it is.
    pub store: StoreNumber,
    /// The state machine's numbers.
    pub companions: Companions,
    /// What memory holds all of.
    pub tables: Tables,
}

/// What a node wants done. Carried out in order; none blocks the next.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Effect {
    /// May be lost, doubled, late.
    Send { to: Address, message: PeerMessage },
    /// Append to the log and make durable; then [`Event::Persisted`].
    Write(Write),
    /// Read entries back; then [`Event::Fetched`].
    Fetch(Fetch),
    /// Make a log with this founding entry, durable; then [`Event::LogCreated`].
    CreateLog {
        membership: Membership,
        founding: Entry,
        hard_state: raft::HardState,
    },
    /// The end of a request.
    Answer { token: Token, response: Response },
    /// The end of a request that is a watch: parts follow, made of what was recorded before and is recorded behind.
    BeginWatch(Box<WatchBegin>),
    /// No watch is served any more; what they are told.
    EndWatches(Failure),
    /// Send this request to the leader's node on the forwarding connection; then [`Event::Forwarded`].
    Forward {
        token: Token,
        to: Address,
        request: Request,
        deadline: Time,
    },
    /// Look records up in the base, keys ascending, and what ranges hold; then [`Event::LookedUp`].
    Lookup {
        lookup: LookupNumber,
        keys: Vec<Bytes>,
        ranges: Option<Box<RangesWanted>>,
    },
    /// Read a page from this store; then [`Event::PageRead`]. Where that is wanted and more pages follow, the state is kept.
    ReadPage { store: StoreNumber, job: Box<PageJob> },
    /// Read and hash these records of this store; then [`Event::Scrubbed`]. One at a time.
    Scrub { store: StoreNumber, job: Box<ScrubJob> },
    /// The state that was kept with this page is not needed any more.
    ReleaseState(PageNumber),
    /// Keep these events: readable at once, durable with [`Effect::Seal`].
    Record(EventBlock),
    /// Every event of the generation was recorded: make them durable; then [`Event::Sealed`].
    Seal {
        store: StoreNumber,
        generation: GenerationNumber,
    },
    /// Put the generation into the base; then [`Event::Drained`]. One at a time, in order.
    Drain {
        store: StoreNumber,
        frozen: Arc<Frozen>,
        /// Its before-images may take so much (see [`crate::store::history::ImageWriter`]); `None`: no bound.
        most_image_bytes: Option<u64>,
    },
    /// Events and before-images that only explain older revisions are not needed any more.
    TrimHistory { oldest_kept: Revision },
    /// Entries below this one are not needed any more; then [`Event::LogCut`], if that gave up whole segments.
    CutLog { keep_from: Index },
    /// Like [`Effect::Send`], but large: on a connection of its own, so that nothing waits behind it.
    SendBulk { to: Address, message: PeerMessage },
    /// Hold a snapshot of what the base has now, under this number; then [`Event::SnapshotOpened`].
    OpenSnapshot(SnapshotNumber),
    /// Read the part at this position; then [`Event::PartRead`].
    ReadPart {
        snapshot: SnapshotNumber,
        position: Bytes,
    },
    /// The snapshot is not needed any more.
    CloseSnapshot(SnapshotNumber),
    /// Add a part to the snapshot that comes in from this node, up to the entry `last`; a new one takes the place of
    /// another that is under way. Then [`Event::PartTaken`].
    TakePart {
        from: raft::NodeId,
        snapshot: SnapshotNumber,
        last: EntryId,
        part: Bytes,
    },
    /// Drop the snapshot that is coming in, or came in whole.
    AbandonSnapshot,
    /// Put the received snapshot in the place of state and log, behind all writes given before; durable, it is reported as
    /// a write. Everything for the store from here on is for the new one.
    Install {
        install: raft::Install,
        store: StoreNumber,
    },
    /// Read log and history again, and look at their checksums; then [`Event::FilesChecked`]. One at a time.
    CheckFiles,
    /// Keep durably, with the data directory, that this node serves no more. Nothing waits for it.
    Quarantine(Box<Quarantine>),
    /// Give the memory back where that may take its time.
    Discard(Vec<Arc<Frozen>>),
    /// For the operator.
    Notice(Notice),
}
