//! A node that was found to be the odd one: what was found, and what its operator is told.
//!
//! It is durable with the node's data directory (`disk/quarantine.rs`), because what was found may not be found again: the
//! entry at which it showed may be cut from every log, and the next pass of the scrub may be a day away. Until then a
//! process that forgot would serve what it is known to have wrong.
//!
//! **Only another data directory ends it.** A snapshot that is installed does replace the whole state, so what differed is
//! gone; why it differed is not. Memory, disk or program of that machine changed something that no checksum saw, and
//! nothing has been done about it: a node that heals itself would hide this from the one who can. So it is the operator who
//! ends it, with `member replace` and an empty directory, which is a new identity too.
//!
//! It goes on voting and keeping the log, whose entries have checksums of their own: a cluster of three with one in
//! quarantine bears the loss of no further node if it does not, and of one if it does.

use raftkv_raft::Index;

/// Why a node serves no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The entry as of which it was found.
    pub found_at: Index,
    /// What.
    pub finding: Finding,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It did something else than a majority.
    Effects {
        /// The last entry up to which it is known to have done the same; `None`: none since the process began.
        agreed: Option<Index>,
        /// What differs.
        hashes: Hashes,
    },
    /// It has something else stored than a majority.
    Records {
        /// Among which keys, in words.
        keys: String,
        /// What differs.
        hashes: Hashes,
    },
}

/// Hashes of the same, as two replicas have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// This node's.
    pub own: u64,
    /// The majority's.
    pub majority: u64,
}

impl Quarantine {
    /// For the operator: what was found, and what to do.
    #[must_use]
    pub fn explanation(&self) -> String {
        let Quarantine { found_at, finding } = self;
        let differs = match finding {
            Finding::Effects { agreed, hashes } => {
                let since = agreed.map_or_else(|| "its start".to_owned(), |agreed| format!("entry {agreed}"));
                format!(
                    "this node's state differs from that of the other nodes: it was the same at {since}, and is another \
                     one at entry {found_at} ({hashes})"
                )
            }
            Finding::Records { keys, hashes } => format!(
                "this node's stored records differ from those of the other nodes: among the keys {keys}, as of entry \
                 {found_at}, something was lost or changed on its disk or in its memory ({hashes})"
            ),
        };
        format!(
            "{differs}; it does not serve any more, and a restart does not change that. Keep its data directory for a \
             report, and replace the node (kvctl member replace NAME) with an empty one"
        )
    }
}

impl std::fmt::Display for Hashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hash {:016x}, a majority has {:016x}", self.own, self.majority)
    }
}
