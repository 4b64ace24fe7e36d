//! Keys as memory holds them.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// Longest key that is kept in place. Makes [`Key`] as large as the pointer, length and capacity it replaces.
const SHORT_BYTES: usize = 22;

/// A key's own copy. Short ones stand in place: whoever compares or sorts keys would else wait for a cache miss at most of them.
#[derive(Clone, Debug)]
pub enum Key {
    /// In place.
    #[allow(missing_docs)]
    Short { length: u8, bytes: [u8; SHORT_BYTES] },
    /// An allocation of its own.
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 24, "a key is three words");

impl Key {
    /// The key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Key::Short { length, bytes } => &bytes[..usize::from(*length)],
            Key::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Key {
        if key.len() > SHORT_BYTES {
            return Key::Long(key.into());
        }
        let mut bytes = [0; SHORT_BYTES];
        bytes[..key.len()].copy_from_slice(key);
        Key::Short {
            length: key.len() as u8,
            bytes,
        }
    }
}

/// Lookups by plain bytes; equality and order are therefore those of the bytes.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}
