//! Which keys, and in which order.

use bytes::Bytes;

/// Keys `from..to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first.
    pub from: Bytes,
    /// The first behind; `None`: there is no end.
    pub to: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub fn all() -> KeyRange {
        KeyRange {
            from: Bytes::new(),
            to: None,
        }
    }

    /// Keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut to = prefix.to_vec();
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        let to = to.last_mut().map(|last| *last += 1).map(|()| to.into());
        KeyRange {
            from: Bytes::copy_from_slice(prefix),
            to,
        }
    }

    /// One key.
    #[must_use]
    pub fn key(key: &[u8]) -> KeyRange {
        KeyRange {
            from: Bytes::copy_from_slice(key),
            to: Some([key, &[0]].concat().into()),
        }
    }

    /// The one key that may be in it, if there is only one.
    #[must_use]
    pub fn only_key(&self) -> Option<Bytes> {
        let to = self.to.as_ref()?;
        (to.strip_prefix(&self.from[..]) == Some(&[0][..])).then(|| self.from.clone())
    }

    /// Is `key` one of them?
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from <= key && self.to.as_ref().is_none_or(|to| to > key)
    }
}

/// The order of a range's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_begins_with_it() {
        let range = KeyRange::prefix(b"ab");
        assert!(range.contains(b"ab") && range.contains(b"ab\xff\xff"));
        assert!(!range.contains(b"ac") && !range.contains(b"a"));
        let range = KeyRange::prefix(b"a\xff");
        assert!(range.contains(b"a\xff\xff") && !range.contains(b"b"));
        assert!(KeyRange::prefix(b"\xff\xff").to.is_none());
        assert_eq!(KeyRange::prefix(b""), KeyRange::all());
        assert!(KeyRange::key(b"k").contains(b"k") && !KeyRange::key(b"k").contains(b"k\0"));
        assert_eq!(KeyRange::key(b"k").only_key().as_deref(), Some(&b"k"[..]));
        assert_eq!(KeyRange::prefix(b"k").only_key(), None);
    }
}
