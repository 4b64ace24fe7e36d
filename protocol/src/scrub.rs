//! The scrub, in which members compare what they have stored: asking for it, and what comes of it.

use serde::{Deserialize, Serialize};

use crate::NodeName;

/// What is asked about the scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScrubCommand {
    /// A pass over all keys is to begin now; one that is under way goes on. Carried out by the leader.
    Start,
    /// How it stands at the node that is asked.
    Status,
}

/// How the scrub stands at one node. What it has seen since its process began; older is forgotten, but for a quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// The pass that is under way, or was the last.
    pub pass: Option<ScrubPass>,
    /// Members that were found to have another state than this node.
    pub differing: Vec<DifferingMember>,
    /// Why this node serves no more, in a sentence: a majority has another state.
    pub quarantine: Option<String>,
    /// The last look at this node's own log and history.
    pub files: Option<CheckedFiles>,
}

/// A pass over all keys, as one node took part in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPass {
    /// The entry that named its first piece.
    pub first_index: u64,
    /// The entry that named its latest one.
    pub last_index: u64,
    /// How long ago it began, milliseconds of log time.
    pub began_ms_ago: u64,
    /// How long ago its last piece was named; `None`: it is under way.
    pub ended_ms_ago: Option<u64>,
    /// Pieces that this node hashed.
    pub pieces: u64,
    /// Pieces that it could not hash: it was busy with another one, or had drained past the entry.
    pub left_out: u64,
    /// Keys that it hashed.
    pub keys: u64,
    /// Bytes of keys and values that it hashed.
    pub bytes: u64,
    /// In how many of those pieces each member had the same. The leader hears of all members, others of the leader.
    pub agreed: Vec<(NodeName, u64)>,
}

/// What came of reading a node's own log and history again: as a pass begins, each node looks at all checksums there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedFiles {
    /// How long ago it ended, milliseconds.
    pub ms_ago: u64,
    /// Bytes of entries and events that were read.
    pub bytes: u64,
    /// What is wrong, in sentences.
    pub damage: Vec<String>,
}

/// A member that has another state than the node that tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferingMember {
    /// Which.
    pub name: NodeName,
    /// The entry as of which that was first seen.
    pub since_index: u64,
    /// Among which stored keys, in words; `None`: it was seen in what both did.
    pub keys: Option<String>,
}
