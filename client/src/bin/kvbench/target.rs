//! What a store under test must offer to be driven.

#[cfg(feature = "etcd")]
mod etcd;
mod http;
mod name;
mod native;
#[cfg(feature = "redis")]
mod redis;
mod socket;

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use raftkv_client::{LeaseId, Revision};

pub(crate) use http::{Http, get};
pub(crate) use name::{Order, TargetName};
pub(crate) use native::Native;

#[cfg(feature = "etcd")]
pub(crate) use etcd::Etcd;
#[cfg(feature = "redis")]
pub(crate) use redis::Redis;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One request, with bytes that are valid until it is enqueued.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    Get {
        key: &'a [u8],
    },
    /// A page of so many keys, from this one on.
    Scan {
        from: &'a [u8],
        keys: u32,
    },
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Writes if the key is still what was read: by revision where the store has them, by value where not.
    Swap(Swapped<'a>),
    /// Does both at once, or neither.
    SwapBoth([Swapped<'a>; 2]),
    /// Makes a lease.
    Grant {
        ttl: Duration,
    },
    /// Writes a key that hangs on a lease.
    Attach {
        key: &'a [u8],
        value: &'a [u8],
        lease: LeaseId,
    },
    /// Ends a lease and deletes its keys.
    Revoke {
        lease: LeaseId,
    },
}

/// A write over what was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swapped<'a> {
    pub(crate) key: &'a [u8],
    /// `None`: there was no such key.
    pub(crate) seen: Option<&'a Found>,
    pub(crate) value: &'a [u8],
}

impl Swapped<'_> {
    /// The revision that was read, as compares name it: that of a key that does not exist is 0.
    pub(crate) fn revision(&self) -> Revision {
        let revision = self.seen.and_then(|found| found.revision);
        revision.unwrap_or(Revision(0))
    }
}

/// A key as a read found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: Bytes,
    /// The revision that wrote it; `None`: the store has none.
    pub(crate) revision: Option<Revision>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// `None`: no such key.
    Read(Option<Found>),
    /// A page of so many keys.
    Scanned { keys: u64 },
    /// Acknowledged, at this revision if the store has them.
    Written(Option<Revision>),
    /// Not written, because the key is no longer what was read.
    Conflict,
    /// The lease is there.
    Granted(LeaseId),
    /// The lease and its keys are gone.
    Revoked,
    /// Not done, and never will be: a name for the reason.
    Refused(&'static str),
    /// Perhaps done: a name for the reason.
    Unknown(&'static str),
}

/// A store, or how to reach it.
pub(crate) trait Target {
    type Session: Session;

    /// The store's version, for the report: also proof that it is there.
    async fn version(&self) -> Result<String, <Self::Session as Session>::Error>;

    /// Makes one connection.
    async fn connect(&self) -> Result<Self::Session, <Self::Session as Session>::Error>;
}

/// One connection, with many requests in flight. Each is named by its slot; a slot is used again once it was answered.
pub(crate) trait Session {
    type Error: Error;

    /// Takes a request; nothing is sent yet. Refused at once: the name of the reason.
    fn enqueue(&mut self, slot: usize, timeout: Duration, asked: Asked<'_>) -> Result<(), &'static str>;

    /// Sends what was enqueued, as far as the system takes it without waiting.
    fn send(&mut self) -> Result<(), Self::Error>;

    /// Waits until something can be moved, and moves it. Cancelling it loses nothing.
    async fn drive(&mut self) -> Result<(), Self::Error>;

    /// The next answer that has arrived.
    fn next_answer(&mut self) -> Result<Option<(usize, Answered)>, Self::Error>;
}
