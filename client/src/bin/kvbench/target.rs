//! What a store under test must offer to be driven.

use std::error::Error;
use std::time::Duration;

use raftkv_client::Revision;

/// One request, with bytes that are valid until it is enqueued.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    Get { key: &'a [u8] },
    Put { key: &'a [u8], value: &'a [u8] },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The key's value and the revision that wrote it; `None`: no such key.
    Read(Option<(bytes::Bytes, Revision)>),
    /// Acknowledged, at this revision.
    Written(Revision),
    /// Not done, and never will be: a name for the reason.
    Refused(&'static str),
    /// Perhaps done: a name for the reason.
    Unknown(&'static str),
}

/// A store, or how to reach it.
pub(crate) trait Target {
    type Session: Session;

    /// Makes one connection.
    async fn connect(&self) -> Result<Self::Session, <Self::Session as Session>::Error>;
}

/// One connection, with many requests in flight. Each is named by its slot; a slot is used again once it was answered.
pub(crate) trait Session {
    type Error: Error;

    /// Encodes a request; nothing is sent yet. Refused at once: the name of the reason.
    fn enqueue(&mut self, slot: usize, timeout: Duration, asked: Asked<'_>) -> Result<(), &'static str>;

    /// Sends what was enqueued, as far as the system takes it without waiting.
    fn send(&mut self) -> Result<(), Self::Error>;

    /// Waits until bytes can be moved, and moves them. Cancelling it loses nothing.
    async fn drive(&mut self) -> Result<(), Self::Error>;

    /// The next answer that has arrived.
    fn next_answer(&mut self) -> Result<Option<(usize, Answered)>, Self::Error>;
}
