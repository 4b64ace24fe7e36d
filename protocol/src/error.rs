//! Why the body of a frame is not a message.

use thiserror::Error;

use crate::{Foreign, GroupId};

/// A frame arrived whole but its body is not the message that was expected. It ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The first frame is not a handshake.
    #[error("expected a handshake of raftkv's native protocol, {0}")]
    NotAHandshake(Foreign),
    /// The bytes do not decode.
    #[error(
        "a frame can not be decoded as {expected} ({source}): the other side speaks another version or is at fault; \
         upgrade the older of the two"
    )]
    Malformed {
        /// The kind of message.
        expected: &'static str,
        /// The decoder's reason.
        source: postcard::Error,
    },
    /// More bytes than the message has.
    #[error(
        "{count} bytes are left over behind {expected}: the other side speaks another version or is at fault; upgrade the \
         older of the two"
    )]
    TrailingBytes {
        /// The kind of message.
        expected: &'static str,
        /// How many.
        count: usize,
    },
    /// An append's headers and payloads do not add up.
    #[error("the entries of an append do not fill its frame: {0}; the other side is at fault")]
    Entries(#[from] EntriesError),
    /// A range of versions that holds none.
    #[error("a handshake offers versions {first} to {last}, which is none; the other side is at fault")]
    NoVersions {
        /// First version offered.
        first: u16,
        /// Last version offered.
        last: u16,
    },
    /// An answer about a group that was not asked.
    #[error("an answer names group {0}, but only group 0 was asked; the other side is at fault")]
    UnknownGroup(GroupId),
}

/// How an append contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EntriesError {
    /// More payload announced than the frame holds.
    #[error("{announced} payload bytes were announced, {available} are there")]
    PayloadsMissing {
        /// Bytes, by the header.
        announced: u64,
        /// Bytes behind the header.
        available: usize,
    },
    /// The entries' lengths exceed the payloads announced.
    #[error("the payload of entry {position} reaches beyond the end of the frame")]
    PayloadTooLong {
        /// Place in the append, from 0.
        position: u64,
    },
    /// Bytes that belong to no entry.
    #[error("{count} payload bytes belong to no entry")]
    PayloadLeftOver {
        /// How many.
        count: usize,
    },
}
