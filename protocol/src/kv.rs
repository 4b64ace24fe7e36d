//! Keys, ranges of keys, and what names leases and sessions.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ErrorCode, Failure, Limits, Record};

/// Names a lease: keys that hang on it are deleted when it ends. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// From here on ids are the server's to choose; below, clients may name their own.
    pub const FIRST_OF_SERVER: LeaseId = LeaseId(1 << 62);
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for LeaseId {
    type Err = std::num::ParseIntError;

    /// Reads what [`LeaseId`] displays: hexadecimal digits.
    fn from_str(text: &str) -> Result<LeaseId, Self::Err> {
        u64::from_str_radix(text, 16).map(LeaseId)
    }
}

/// Names a client session: the index of the entry that opened it. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which write of a session this is: what makes a retry of it apply once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Once {
    /// The session.
    pub session: SessionId,
    /// Counts the session's writes from 1. Writes may arrive in any order, at most [`SESSION_WINDOW`] apart.
    pub sequence: u64,
    /// The client has the answers of all writes below this one, or wants none any more: they are forgotten.
    pub first_unacknowledged: u64,
}

/// How far a session's writes may run ahead of the first unacknowledged one.
pub const SESSION_WINDOW: u64 = 4096;

/// A key with its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its record; the value is empty where only keys were asked for.
    pub record: Record,
}

/// A range of keys: from one, inclusive, to another, exclusive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeySpan {
    /// The first key that may be in it; empty: from the first of all.
    pub from: Bytes,
    /// The first key behind it; `None`: to the last of all.
    pub to: Option<Bytes>,
}

impl KeySpan {
    /// Every key.
    #[must_use]
    pub fn all() -> KeySpan {
        KeySpan {
            from: Bytes::new(),
            to: None,
        }
    }

    /// One key.
    #[must_use]
    pub fn one(key: &[u8]) -> KeySpan {
        let mut to = Vec::with_capacity(key.len() + 1);
        to.extend_from_slice(key);
        to.push(0);
        KeySpan {
            from: Bytes::copy_from_slice(key),
            to: Some(to.into()),
        }
    }

    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> KeySpan {
        KeySpan {
            from: Bytes::copy_from_slice(prefix),
            to: prefix_end(prefix).map(Bytes::from),
        }
    }

    /// Is `key` in it?
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        &self.from[..] <= key && self.to.as_ref().is_none_or(|to| key < &to[..])
    }

    /// Can no key be in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// Checks both ends.
    ///
    /// # Errors
    /// `too_large` if one is longer than a key and one byte may be.
    pub fn check(&self, limits: &Limits) -> Result<(), Failure> {
        check_end(&self.from, limits)?;
        self.to.as_ref().map_or(Ok(()), |to| check_end(to, limits))
    }
}

/// The end of a range may be the key just behind the longest one.
pub(crate) fn check_end(end: &[u8], limits: &Limits) -> Result<(), Failure> {
    if end.len() <= limits.key_bytes.saturating_add(1) {
        return Ok(());
    }
    let message = format!(
        "an end of the range has {} bytes, the limit of keys is {} bytes",
        end.len(),
        limits.key_bytes
    );
    Err(Failure::new(ErrorCode::TooLarge, message))
}

/// The first key behind all that begin with `prefix`; `None`: there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_first_key_that_does_not_begin_with_it() {
        assert_eq!(prefix_end(b"a"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
        let span = KeySpan::prefix(b"a\xff");
        assert!(span.contains(b"a\xff") && span.contains(b"a\xff\xff\x01"));
        assert!(!span.contains(b"a\xfe") && !span.contains(b"b"));
    }

    #[test]
    fn one_key_is_a_range_of_it_alone() {
        let span = KeySpan::one(b"k");
        assert!(span.contains(b"k") && !span.is_empty());
        assert!(!span.contains(b"k\0") && !span.contains(b"j"));
        assert!(KeySpan::all().contains(b"") && KeySpan::all().contains(b"\xff\xff"));
    }

    #[test]
    fn a_lease_id_reads_as_it_is_shown() {
        let id = LeaseId(LeaseId::FIRST_OF_SERVER.0 | 300);
        assert_eq!(id.to_string(), "400000000000012c");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
