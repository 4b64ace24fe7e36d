//! Which operations clients draw.

use bytes::Bytes;
use raftkv_protocol::{Condition, Revision};

use crate::linearizability::{Action, Outcome};

/// Weights of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Reads.
    pub gets: u32,
    /// Unconditional puts.
    pub puts: u32,
    /// Puts if the key is absent, or at the revision that the client saw last.
    pub conditional_puts: u32,
    /// Unconditional deletes.
    pub deletes: u32,
}

impl Mix {
    /// A bit of everything, half of it reads.
    pub const EVERYTHING: Mix = Mix {
        gets: 10,
        puts: 6,
        conditional_puts: 3,
        deletes: 1,
    };

    /// Puts alone.
    pub const PUTS: Mix = Mix {
        gets: 0,
        puts: 1,
        conditional_puts: 0,
        deletes: 0,
    };

    pub(super) fn draw(self, rng: &mut fastrand::Rng, value: Bytes, seen_revision: u64) -> Action {
        let mut place = rng.u32(0..(self.gets + self.puts + self.conditional_puts + self.deletes).max(1));
        let mut is_in = |weight: u32| {
            let is_here = place < weight;
            place = place.saturating_sub(weight);
            is_here
        };
        if is_in(self.gets) {
            Action::Get
        } else if is_in(self.puts) {
            Action::Put {
                value,
                condition: Condition::Always,
            }
        } else if is_in(self.conditional_puts) {
            let condition = match rng.bool() {
                true => Condition::Absent,
                false => Condition::ModRevision(Revision(seen_revision.max(1))),
            };
            Action::Put { value, condition }
        } else {
            Action::Delete {
                condition: Condition::Always,
            }
        }
    }
}

/// The revision of a key that an answer tells.
pub(super) fn revision_of(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Found { mod_revision, .. } => Some(mod_revision.0),
        Outcome::Put { revision } => Some(revision.0),
        Outcome::ConditionFailed { current } => current.map(|revision| revision.0),
        Outcome::NotFound | Outcome::Deleted { .. } => None,
    }
}
