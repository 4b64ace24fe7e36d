//! What operators are told, and how often.

use std::time::Duration;

use raftkv_protocol::{Address, NodeName};
use raftkv_raft::{self as raft, Time};

use crate::membership::Membership;

/// What operators are told. The shell logs it; nothing decides by it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Notice {
    /// Role, leader or term changed.
    Transition(raft::Transition),
    /// The cluster was formed (by this node or through another one).
    Formed(Membership),
    /// A peer was told another list; nobody forms.
    PeerListsDiffer {
        peer: NodeName,
        ours: Vec<(NodeName, Address)>,
        theirs: Vec<(NodeName, Address)>,
    },
    /// Still unformed: these have not answered.
    WaitingFor { peers: Vec<(NodeName, Address)> },
    /// The cluster met does not name this node's identity; `command` mends it.
    NotAMember {
        cluster: raftkv_protocol::ClusterId,
        command: String,
    },
    /// A member of the cluster to join was met; the command lets this node in.
    WaitingForAdmission {
        cluster: raftkv_protocol::ClusterId,
        command: String,
    },
    /// A change of members is complete (or of their addresses).
    MembersChanged(Membership),
    /// This node takes no part any more: why.
    SetAside { reason: String },
    /// ... and takes part again.
    TakesPart,
    /// Members were told different bounds on clock drift: reads by leader lease ask a majority instead.
    LeasesDiffer {
        peer: NodeName,
        ours: Option<u32>,
        theirs: Option<u32>,
    },
    /// A node of another cluster speaks to this one.
    ForeignPeer {
        peer: NodeName,
        address: Address,
        cluster: raftkv_protocol::ClusterId,
    },
    /// A node is too far behind the log: it gets a snapshot.
    SnapshotStarted { peer: raft::NodeId, last: raft::EntryId },
    /// It has it.
    SnapshotDelivered { peer: raft::NodeId, last: raft::EntryId },
    /// This node was too far behind: its state comes from a snapshot now.
    SnapshotInstalled { from: raft::NodeId, last: raft::EntryId },
    /// A snapshot that came in was none.
    SnapshotBroken { what: &'static str },
    /// Another node made something else of the same entries; or it has, as of that one, others of these `keys` stored.
    StatesDiffer {
        peer: raft::NodeId,
        at: raft::Index,
        keys: Option<String>,
    },
    /// This node has hashed all that it has stored, the last of it as of this entry.
    RecordsScrubbed { keys: u64, last: raft::Index },
    /// A file of this node's log or history is not what was written.
    ColdFileDamaged { damage: String },
    /// This node is the odd one: it serves no more.
    Quarantined { explanation: String },
    /// The disk is nearly full: puts are refused.
    SpaceLow { free_bytes: u64, reserve_bytes: u64 },
    /// There is room again: puts are taken.
    SpaceReturned { free_bytes: u64 },
    /// The stored membership differs from the flags; stored wins.
    FlagsIgnored {
        stored: Vec<NodeName>,
        flags: Vec<NodeName>,
    },
}

/// How long a notice about a state that lasts is not repeated.
pub(super) const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// Lets a notice through when it says something new, and each [`NOTICE_INTERVAL`] while it says the same.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    last: Option<(Notice, Time)>,
}

impl Repeated {
    /// Was exactly this given within the last [`NOTICE_INTERVAL`]?
    pub(super) fn has_just_said(&self, now: Time, notice: &Notice) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|(last, at)| last == notice && now.since(*at) < NOTICE_INTERVAL)
    }

    /// Should `notice` be given now?
    pub(super) fn is_due(&mut self, now: Time, notice: &Notice) -> bool {
        let is_due = !self.has_just_said(now, notice);
        if is_due {
            self.last = Some((notice.clone(), now));
        }
        is_due
    }
}
