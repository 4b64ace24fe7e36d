//! The proof of holding something, as a write names it.

use std::fmt;

use bytes::Bytes;
use raftkv_protocol::{Compare, Keys, Relation, Revision, Test};

/// What a holder shows with each write: the key that it holds by, and the revision that made it. Of two holders of one lock, the
/// later one has the greater revision.
///
/// It is plain data: a program that was handed one by the holder can guard its own writes by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FencingToken {
    key: Bytes,
    revision: Revision,
}

impl FencingToken {
    /// The token of whoever holds something by `key`, made by `revision`.
    pub fn new(key: impl Into<Bytes>, revision: Revision) -> FencingToken {
        FencingToken {
            key: key.into(),
            revision,
        }
    }

    /// The key that the holder holds by.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The revision that made the key: what other systems are to compare with the greatest they have seen.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Holds while the key is that of this holder.
    pub(crate) fn compare(&self) -> Compare<'_> {
        Compare {
            keys: Keys::One(&self.key),
            test: Test::CreateRevision(Relation::Equal, self.revision),
        }
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        write!(f, "the key {key:?} of revision {}", self.revision)
    }
}
