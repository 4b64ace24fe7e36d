//! What nodes say to each other. Plain numbers: this is the wire's form, which never changes once released; the server
//! turns it into the consensus core's types and back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Address, ClusterId, GroupId, Member, MembershipMessage, NodeId, NodeName};

/// One message from node to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Consensus, between formed nodes.
    Raft(RaftMessage),
    /// Who I am and what I was told: forming a cluster, and meeting one.
    Introduce(Introduction),
    /// From a formed node to an unformed one that its founding configuration names: become formed.
    Found(Founding),
    /// Joining, leaving, and who is who.
    Membership(MembershipMessage),
}

/// A node tells who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its label.
    pub name: NodeName,
    /// Its identity, durable before it was first spoken.
    pub identity: NodeId,
    /// Where it is reached.
    pub address: Address,
    /// Where its HTTP API is reached.
    pub http: Option<Address>,
    /// The names and addresses it was told to form a cluster with, itself included; sorted by name.
    pub peers: Vec<(NodeName, Address)>,
    /// The identities that the listed peers have given it, while it is unformed. What it says holds only for those it
    /// names: an introduction that was under way for long does not name an identity that is younger.
    pub heard: Vec<NodeId>,
    /// The cluster it belongs to; `None`: unformed.
    pub formed: Option<FormedIn>,
}

/// What a formed node tells of its cluster to one that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormedIn {
    /// Its id.
    pub cluster: ClusterId,
    /// Its members as this node knows them.
    pub members: Vec<Member>,
}

/// Makes an unformed node formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The identity that is meant.
    pub to: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The payload of entry 1, as its only writer encoded it.
    pub configuration: Vec<u8>,
}

/// A consensus message with its group and cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftMessage {
    /// A message of another cluster is dropped (R61).
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// The sender's term.
    pub term: u64,
    /// What is said.
    pub body: RaftBody,
}

/// Term and index of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntryId {
    /// Term.
    pub term: u64,
    /// Index, from 1.
    pub index: u64,
}

/// Mirrors the consensus core's messages; see there for what each means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RaftBody {
    PreVoteRequest {
        campaign_term: u64,
        last: WireEntryId,
    },
    PreVoteReply {
        campaign_term: u64,
        granted: bool,
    },
    VoteRequest {
        last: WireEntryId,
        transfer: bool,
    },
    VoteReply {
        granted: bool,
    },
    Append {
        session: u64,
        prev: WireEntryId,
        commit: u64,
        entries: Vec<WireEntry>,
    },
    AppendAccepted {
        session: u64,
        matched: u64,
    },
    AppendRefused {
        session: u64,
        refused: u64,
        hint: WireEntryId,
    },
    Heartbeat {
        session: u64,
        commit: Option<u64>,
        round: u64,
    },
    HeartbeatReply {
        session: u64,
        round: u64,
    },
    ReadIndexRequest {
        id: u64,
    },
    ReadIndexReply {
        id: u64,
        index: Option<u64>,
    },
    TimeoutNow,
    /// A part of a snapshot; outside of the consensus core, but judged by it. `snapshot` names the transfer at its sender.
    SnapshotPart {
        session: u64,
        last: WireEntryId,
        snapshot: u64,
        part: Bytes,
    },
    /// What the receiver says of a part. `position` (where to go on) is empty unless more is wanted.
    SnapshotReply {
        session: u64,
        snapshot: u64,
        progress: SnapshotProgress,
        position: Bytes,
    },
    /// The chained hash of all effects up to the entry at `index`, at the sender: equal on every replica.
    StateHash {
        index: u64,
        hash: u64,
    },
    /// The hash of the stored records that the scrub at `index` names, at the sender: equal on every replica.
    RecordsHash {
        index: u64,
        hash: u64,
    },
}

/// How a transfer of a snapshot stands at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotProgress {
    /// The part at the position is wanted.
    Wanted,
    /// It is installed, durably, or the receiver holds all of it anyway.
    Installed,
    /// It is not taken: the sender does not lead, or the snapshot is broken.
    Refused,
}

/// An entry of an append; its index follows from its place after `prev`. On the wire all payloads stand, raw, after the
/// encoded headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEntry {
    /// Its term.
    pub term: u64,
    /// 0 no-op, 1 command, 2 configuration.
    pub kind: u8,
    /// Log time, microseconds.
    pub log_time_us: u64,
    /// Client session, 0: none.
    pub session: u64,
    /// The session's request number.
    pub sequence: u64,
    /// First unacknowledged sequence.
    pub first_unacknowledged: u64,
    /// Raw bytes.
    pub payload: Bytes,
}
