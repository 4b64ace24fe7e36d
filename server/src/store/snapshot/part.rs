//! Parts of a snapshot, and the positions between them.
//!
//! ```text
//! offset  size
//!      0     4  CRC-32C of the rest
//!      4     4  length of the head
//!      8     .  head, in postcard
//!      .     .  rows: (length of the key u32, length of the value u32, key, value) each; or a piece of a file
//! ```
//! All numbers little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Where a transfer is. The start is `Position::START`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// Rows behind this row key come next.
    Rows {
        /// Empty: from the first on.
        #[serde(with = "serde_bytes")]
        behind: Vec<u8>,
    },
    /// A file of history comes next, from this byte on.
    File {
        /// Which one, in the source's order.
        number: u32,
        /// From here.
        offset: u64,
    },
    /// Everything was sent.
    End,
}

impl Position {
    /// Where each transfer begins.
    pub const START: Position = Position::Rows { behind: Vec::new() };

    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let encoded = postcard::to_allocvec(self);
        encoded.expect("plain data always encodes").into()
    }

    /// Reads it back; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Position> {
        postcard::from_bytes(bytes).ok()
    }
}

/// What stands before a part's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Where this part begins.
    pub(super) position: Position,
    /// Where the next one does.
    pub(super) next: Position,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Content {
    Rows,
    /// A piece of the file with this name.
    Piece {
        name: String,
        size_bytes: u64,
    },
    /// Nothing more.
    Nothing,
}

/// A part as it travels.
pub(super) fn encode(head: &Head, body: &[u8]) -> Bytes {
    let head = postcard::to_allocvec(head).expect("plain data always encodes");
    let mut part = BytesMut::with_capacity(8 + head.len() + body.len());
    part.put_u32_le(0);
    part.put_u32_le(u32::try_from(head.len()).expect("a head is short"));
    part.put_slice(&head);
    part.put_slice(body);
    let checksum = crc32c::crc32c(&part[4..]);
    part[..4].copy_from_slice(&checksum.to_le_bytes());
    part.freeze()
}

/// Takes a part apart; `None` if it is damaged.
pub(super) fn decode(mut part: Bytes) -> Option<(Head, Bytes)> {
    if part.len() < 8 || part.get_u32_le() != crc32c::crc32c(&part) {
        return None;
    }
    let length = part.get_u32_le() as usize;
    if length > part.len() {
        return None;
    }
    let head = part.split_to(length);
    Some((postcard::from_bytes(&head).ok()?, part))
}

pub(super) fn put_row(body: &mut BytesMut, key: &[u8], value: &[u8]) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("rows are far below 4 GiB");
    body.put_u32_le(length(key));
    body.put_u32_le(length(value));
    body.put_slice(key);
    body.put_slice(value);
}

/// The next row; `None` at the end, or when what is left is no row.
pub(super) fn take_row(body: &mut Bytes) -> Option<(Bytes, Bytes)> {
    if body.len() < 8 {
        return None;
    }
    let (key, value) = (body.get_u32_le() as usize, body.get_u32_le() as usize);
    if body.len() < key.checked_add(value)? {
        return None;
    }
    Some((body.split_to(key), body.split_to(value)))
}
