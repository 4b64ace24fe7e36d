//! What clients ask and what they are told.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Address, CheckedCommand, ClusterId, ErrorCode, HistoryEpoch, LeaseId, MemberCommand, NodeId, NodeName,
    RangePage, RangeRequest, Revision, ScrubCommand, ScrubState, SessionId, TxnResult, WatchPart,
    WatchRequest,
};

/// What a read promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began. The default.
    #[default]
    Linearizable,
    /// The local state of the node that is asked, possibly old.
    Stale,
    /// As linearizable, and without asking anyone while the leader holds a lease: sound as long as clocks drift no more than
    /// the cluster was told. Where leases are off, or this node does not lead, a linearizable read answers.
    LeaderLease,
    /// The local state, if the node can prove that it lacks nothing that was acknowledged longer than this ago.
    StaleWithin {
        /// In milliseconds.
        max_staleness_ms: u64,
    },
}

impl Consistency {
    /// Is it about the state of the node that is asked, whoever leads?
    #[must_use]
    pub fn is_local(self) -> bool {
        match self {
            Consistency::Stale | Consistency::StaleWithin { .. } => true,
            Consistency::Linearizable | Consistency::LeaderLease => false,
        }
    }
}

/// What the answer to a read rests on, where that is not simply "linearizable".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadBasis {
    /// Asked for by lease, and confirmed by a majority instead: leases are off, not held, or this node does not lead.
    ReadIndex,
    /// The leader's lease.
    LeaderLease,
    /// The local state alone.
    Local {
        /// The last entry that is part of it.
        applied_index: u64,
        /// How long ago this node last heard from a leader, milliseconds; `None`: never since it started.
        leader_contact_ms: Option<u64>,
    },
}

/// A request as the node executes it, whatever door it came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads one key.
    Get {
        /// The key.
        key: Bytes,
        /// What is promised.
        consistency: Consistency,
    },
    /// Executes a command through the log.
    Write(CheckedCommand),
    /// Tells about the node.
    Status,
    /// Changes the members, or the leader.
    Member(MemberCommand),
    /// Reads a page of a range of keys.
    Range(RangeRequest),
    /// Tells about leases.
    Lease(LeaseQuery),
    /// Tells about every change of some keys, in many answers. Only where answers can be many.
    Watch(WatchRequest),
    /// Compares what the members have stored, or tells how that stands.
    Scrub(ScrubCommand),
    /// For the watch of the same id: more credit, or its end. Has no answer.
    WatchControl(WatchControl),
}

/// What is asked about leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseQuery {
    /// One lease, with the keys that hang on it.
    One(LeaseId),
    /// All of them behind this one, in order, as many as fit an answer.
    After(LeaseId),
}

/// What a client tells about a watch of its.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchControl {
    /// It takes so many more bytes of keys and values.
    Credit {
        /// How many more.
        bytes: u32,
    },
    /// It wants no more. Parts that are on their way still come.
    Cancel,
}

/// A key's record as a read returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The value.
    pub value: Bytes,
    /// The revision that created the key (anew, after a delete).
    pub create_revision: Revision,
    /// The revision that last changed it.
    pub mod_revision: Revision,
    /// Count of writes since creation, from 1.
    pub version: u64,
    /// The lease that the key hangs on.
    pub lease: Option<LeaseId>,
}

/// What a request that was executed returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key exists.
    Found(Record),
    /// It does not.
    NotFound,
    /// The put was applied, at this revision.
    Put {
        /// The revision it made.
        revision: Revision,
    },
    /// The delete was applied.
    Deleted {
        /// Did the key exist?
        existed: bool,
        /// The store's revision after it (unchanged when the key did not exist).
        revision: Revision,
    },
    /// The condition did not hold; nothing changed.
    ConditionFailed {
        /// The key's mod_revision now; `None` when it does not exist.
        current: Option<Revision>,
    },
    /// About the node.
    Status(Box<Status>),
    /// The members after a change of them.
    Members(Vec<Member>),
    /// A read that was not simply linearizable.
    Read {
        /// The record; `None`: the key does not exist.
        record: Option<Record>,
        /// What the answer rests on.
        basis: ReadBasis,
    },
    /// The transaction was applied.
    Txn(TxnResult),
    /// A page of a range.
    Range(RangePage),
    /// The lease is there.
    LeaseGranted {
        /// Its id.
        id: LeaseId,
        /// How long it lives without renewal, milliseconds.
        ttl_ms: u64,
    },
    /// Of each lease that was to be renewed, in order: how long it lives now, milliseconds; `None`: it is not there.
    LeasesRenewed(Vec<Option<u64>>),
    /// The lease is not there any more.
    LeaseRevoked {
        /// How many keys hung on it.
        deleted: u64,
        /// The store's revision after it.
        revision: Revision,
    },
    /// About one lease; `None`: it is not there.
    Lease(Option<LeaseState>),
    /// About leases, in the order of their ids; none: there is none behind the one that was named.
    Leases(Vec<LeaseState>),
    /// The session is open.
    SessionOpened {
        /// Its id.
        session: SessionId,
        /// How long it lives without a write or renewal, milliseconds.
        ttl_ms: u64,
    },
    /// The session was renewed, or closed.
    SessionDone,
    /// A part of what a watch tells; more come.
    Watch(WatchPart),
    /// How the scrub stands.
    Scrub(Box<ScrubState>),
}

/// About a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// Its id.
    pub id: LeaseId,
    /// How long it lives without renewal, milliseconds of log time.
    pub ttl_ms: u64,
    /// How long it still lives, milliseconds.
    pub remaining_ms: u64,
    /// How many keys hang on it.
    pub key_count: u64,
    /// Those keys, in order; only where one lease was asked about.
    pub keys: Vec<Bytes>,
}

/// Why a request was not, or may not have been, executed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{code}: {message}")]
pub struct Failure {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened, to what, what to do.
    pub message: String,
    /// The leader as far as known: its name, native address and HTTP address.
    pub leader: Option<LeaderHint>,
}

impl Failure {
    /// A failure that says nothing about the leader.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            leader: None,
        }
    }
}

/// Where the leader is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderHint {
    /// Its name.
    pub name: NodeName,
    /// Native protocol.
    pub address: Address,
    /// HTTP, if it serves it.
    pub http: Option<Address>,
}

/// In every answer: where and when in history it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster; `None` while the node is unformed.
    pub cluster: Option<ClusterId>,
    /// The node that answered.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
    /// Its store's revision when it answered.
    pub revision: Revision,
    /// The history epoch.
    pub epoch: HistoryEpoch,
}

/// Header and outcome of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Where and when.
    pub header: Header,
    /// What.
    pub outcome: Result<Answer, Failure>,
}

/// What a node is doing in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoleName {
    /// Leads.
    Leader,
    /// Follows.
    Follower,
    /// Campaigns (pre-vote included).
    Candidate,
    /// Receives the log without a vote; or is not formed yet.
    Learner,
}

/// Answer of [`Request::Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub name: NodeName,
    /// Its role.
    pub role: RoleName,
    /// The leader's name, if known.
    pub leader: Option<NodeName>,
    /// Current term.
    pub term: u64,
    /// Commit index; 0 while unformed.
    pub commit_index: u64,
    /// Applied index; 0 while unformed.
    pub applied_index: u64,
    /// The store's revision.
    pub revision: Revision,
    /// `None` while unformed.
    pub cluster: Option<ClusterId>,
    /// Version of the server program.
    pub version: String,
    /// All members.
    pub members: Vec<Member>,
    /// Knows a leader and has caught up.
    pub ready: bool,
    /// Why it is not ready, and what would mend it, in a sentence.
    pub not_ready_because: Option<String>,
}

/// One member of the cluster, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The operator's label.
    pub name: NodeName,
    /// Who it is.
    pub identity: NodeId,
    /// Native protocol and peers.
    pub address: Address,
    /// HTTP, if it serves it.
    pub http: Option<Address>,
    /// Voter or learner.
    pub voter: bool,
}
