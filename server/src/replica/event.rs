//! What goes into a node and what comes out.

use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::{Address, PeerMessage, Request, Response, Revision};
use raftkv_raft::{self as raft, Entry, EntryId, Fetch, Index, Time, Write, WriteNumber};

use super::Notice;
use crate::membership::Membership;
use crate::store::history::{EventBlock, HistoryStatistics};
use crate::store::{BaseRecords, Frozen, GenerationNumber};

/// The shell's name for a request that waits for its answer; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one lookup in the base; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupNumber(pub u64);

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
    /// The events of a generation are durable.
    Sealed(GenerationNumber),
    /// The base holds everything up to this generation, durably; what history keeps now.
    Drained {
        generation: GenerationNumber,
        history: HistoryStatistics,
    },
    /// The log begins behind this entry now.
    LogCut { base: EntryId },
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
    /// Send this request to the leader's node on the forwarding connection; then [`Event::Forwarded`].
    Forward {
        token: Token,
        to: Address,
        request: Request,
        deadline: Time,
    },
    /// Look records up in the base; then [`Event::LookedUp`].
    Lookup { lookup: LookupNumber, keys: Vec<Bytes> },
    /// Keep these events: readable at once, durable with [`Effect::Seal`].
    Record(EventBlock),
    /// Every event of the generation was recorded: make them durable; then [`Event::Sealed`].
    Seal(GenerationNumber),
    /// Put the generation into the base; then [`Event::Drained`]. One at a time, in order.
    Drain(Arc<Frozen>),
    /// Events and before-images that only explain older revisions are not needed any more.
    TrimHistory { oldest_kept: Revision },
    /// Entries below this one are not needed any more; then [`Event::LogCut`], if that gave up whole segments.
    CutLog { keep_from: Index },
    /// Give the memory back where that may take its time.
    Discard(Vec<Arc<Frozen>>),
    /// For the operator.
    Notice(Notice),
}
