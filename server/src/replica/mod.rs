//! One node as a deterministic unit: forming, consensus, log order and store, driven by events.
//!
//! ```text
//! loop of the shell (and of the simulator):
//!     for each event that waits { node.handle(now, event) }
//!     node.poll(now, &mut effects)            // one batch: propose, replicate, apply, answer
//!     carry out every effect, in order
//! ```

use raftkv_protocol::{Address, Introduction, NodeId, NodeName, PeerMessage, Request, Response};
use raftkv_raft::{self as raft, Entry, Fetch, Time, Write, WriteNumber};

use crate::membership::Membership;

/// The shell's name for a request that waits for its answer; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

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
    /// The log that [`Effect::CreateLog`] asked for is durable.
    LogCreated,
    /// What became of [`Effect::Forward`].
    Forwarded { token: Token, outcome: ForwardOutcome },
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
    /// For the operator.
    Notice(Notice),
}

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
    /// A node of another cluster speaks to this one.
    ForeignPeer {
        peer: NodeName,
        address: Address,
        cluster: raftkv_protocol::ClusterId,
    },
    /// The stored membership differs from the flags; stored wins.
    FlagsIgnored {
        stored: Vec<NodeName>,
        flags: Vec<NodeName>,
    },
}

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Label, identity, addresses and peer list of this node; `formed` is ignored.
    pub introduction: Introduction,
    /// Consensus.
    pub raft: raft::Config,
    /// Sizes.
    pub limits: raftkv_protocol::Limits,
    /// Most requests waiting at once; beyond: `Overloaded`.
    pub max_pending_requests: usize,
    /// How long a request waits for a leader, at most.
    pub leader_wait: std::time::Duration,
    /// Program version, for status.
    pub version: String,
}

/// What recovery found of this node's log; see [`crate::log::Recovered`].
#[derive(Clone, Debug)]
pub struct RestoredLog {
    /// Term, vote, commit.
    pub hard_state: raft::HardState,
    /// See [`crate::log::Recovered::base`].
    pub base: raft::EntryId,
    /// Runs of terms.
    pub term_runs: Vec<(raft::Index, raft::Term)>,
    /// Last entry.
    pub last: raft::EntryId,
    /// Configuration entries, the founding one included.
    pub configurations: Vec<Entry>,
}

/// One node.
#[derive(Debug)]
pub struct Node {}

#[allow(
    unused_variables,
    clippy::todo,
    missing_docs,
    clippy::needless_pass_by_value,
    clippy::missing_errors_doc
)]
impl Node {
    /// `restored`: `None` when there is no log yet (unformed). `seed` drives all randomness of the node.
    pub fn new(
        config: NodeConfig,
        restored: Option<RestoredLog>,
        seed: u64,
        now: Time,
    ) -> Result<Node, raft::RestoreError> {
        todo!()
    }
    pub fn handle(&mut self, now: Time, event: Event) {
        todo!()
    }
    /// One batch: everything handled since the last poll becomes effects.
    pub fn poll(&mut self, now: Time, effects: &mut Vec<Effect>) {
        todo!()
    }
    /// When [`Node::poll`] wants to be called next, at the latest.
    pub fn next_deadline(&self) -> Time {
        todo!()
    }
    pub fn identity(&self) -> NodeId {
        todo!()
    }
    /// Consensus, once formed (status, simulator's observer).
    pub fn raft(&self) -> Option<&raft::Raft> {
        todo!()
    }
    /// The state machine, once formed.
    pub fn store(&self) -> Option<&crate::store::Store> {
        todo!()
    }
    pub fn status(&self, now: Time) -> raftkv_protocol::Status {
        todo!()
    }
}
