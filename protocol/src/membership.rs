//! Who is in a cluster: what operators ask for, and what nodes tell each other about it.

use serde::{Deserialize, Serialize};

use crate::{Address, ClusterId, Introduction, NodeId, NodeName};

/// Changes who is in the cluster, or who leads it. Carried out by the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberCommand {
    /// Admits the unformed node of this name, as a learner first.
    Add {
        /// Its name.
        name: NodeName,
        /// Where it is; `None`: it knocks by itself (`--join`).
        address: Option<Address>,
        /// When it becomes a voter.
        promotion: Promotion,
    },
    /// Makes a learner a voter.
    Promote {
        /// Which.
        name: NodeName,
        /// Even one that has not caught up?
        force: Force,
    },
    /// Takes a member out, for good: its data directory never comes back in.
    Remove {
        /// Which.
        name: NodeName,
        /// Even when no majority of those left is alive?
        force: Force,
    },
    /// Admits the unformed node that knocks under a member's name, and drops that member once the new one has caught up.
    Replace {
        /// Both names.
        name: NodeName,
        /// Even when no majority would be alive?
        force: Force,
    },
    /// Hands leadership over.
    TransferLeader {
        /// To whom; `None`: whoever can take over soonest.
        to: Option<NodeName>,
    },
}

/// When a learner becomes a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Promotion {
    /// By itself, once it has caught up.
    CaughtUp,
    /// Only when it is asked for.
    Asked,
}

/// May what protects the cluster's availability be overridden? Safety never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Force {
    /// No: refuse, and say why.
    No,
    /// Yes: the operator knows better.
    Yes,
}

/// What nodes say to each other about belonging to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipMessage {
    /// From an unformed node: let me in.
    Knock(Knock),
    /// From a formed node to an unformed one that its configuration names.
    Admit(Admission),
    /// From a member: I am up, under this identity and here.
    Present(Presence),
    /// What a member makes of that.
    Standing(StandingReply),
}

/// An unformed node asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// Who asks.
    pub introduction: Introduction,
    /// How it came here: a follower passes it on to the leader, once.
    pub way: KnockWay,
}

/// How a knock came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KnockWay {
    /// From the node itself.
    Direct,
    /// Through a member that does not lead.
    Relayed,
}

/// Makes an unformed node a member of a running cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The identity that is meant.
    pub to: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The payload of entry 1, with which every log of the cluster begins.
    pub founding: Vec<u8>,
    /// The payload of a later configuration, which names the node.
    pub configuration: Vec<u8>,
}

/// A member tells where it is, and in which life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Who.
    pub identity: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it is reached now.
    pub address: Address,
    /// Where its HTTP API is reached now.
    pub http: Option<Address>,
    /// Drawn at each start: two processes on copies of one data directory differ in it.
    pub incarnation: u64,
    /// The bound on clock drift it keeps leader leases by; `None`: it keeps none.
    pub lease_drift_ppm: Option<u32>,
}

/// Answer to a [`Presence`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingReply {
    /// Who is meant.
    pub to: NodeId,
    /// In which life.
    pub incarnation: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The verdict.
    pub standing: Standing,
}

/// What a member makes of a node that says it is one too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Take part.
    Welcome,
    /// Another process with this identity is alive there: this one runs on a copy of its data directory.
    Duplicate {
        /// Where.
        address: Address,
    },
    /// The identity was removed.
    Removed,
}
