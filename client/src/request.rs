//! Requests with their options. Each is awaited; nothing happens before.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    Answer, At, CheckedCommand, Command, Condition, Consistency, KeySpan, Limits, RangeRequest, ReadBasis,
    Record, Request, Revision,
};

use crate::client::{Client, unexpected};
use crate::error::{Applied, Error};
use crate::range::{ago_of, ask};

/// What awaiting a request gives.
pub(crate) type Sending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Limits are the server's to set, and it told them when we connected: only what can never be right (an empty key, a time
/// to live of nothing) is refused before.
pub(crate) const NO_LIMITS: Limits = Limits {
    key_bytes: usize::MAX,
    value_bytes: usize::MAX,
    request_bytes: usize::MAX,
};

/// Values up to this size are copied out of the read buffer: a caller that keeps a small one must not keep the whole
/// buffer with it. Copying a larger one would cost more than the rest of the buffer that it holds.
const COPIED_VALUE_BYTES: usize = 16 << 10;

/// A read; see [`Client::get`].
#[derive(Clone, Debug)]
#[must_use = "a read begins when it is awaited"]
pub struct Get<'a> {
    client: &'a Client,
    key: Bytes,
    consistency: Consistency,
    at: At,
}

impl<'a> Get<'a> {
    pub(crate) fn new(client: &'a Client, key: Bytes) -> Get<'a> {
        Get {
            client,
            key,
            consistency: Consistency::Linearizable,
            at: At::Latest,
        }
    }

    /// What the read promises. A stale one asks the endpoints as they were given, not the leader.
    pub fn consistency(mut self, consistency: Consistency) -> Get<'a> {
        self.consistency = consistency;
        self
    }

    /// As it was just after this revision. Refused with `compacted` if that is not kept any more.
    pub fn at_revision(mut self, revision: Revision) -> Get<'a> {
        self.at = At::Revision(revision);
        self
    }

    /// As it was so long ago, in the cluster's log time. Refused with `compacted` if that is not kept any more.
    pub fn ago(mut self, ago: Duration) -> Get<'a> {
        self.at = ago_of(ago);
        self
    }

    /// The record, with what the answer rests on; `None`: it is simply linearizable.
    ///
    /// # Errors
    /// As when the read itself is awaited.
    pub async fn with_basis(self) -> Result<(Option<Record>, Option<ReadBasis>), Error> {
        if self.at != At::Latest {
            // As a range it would be one that begins with the first key of all.
            NO_LIMITS.check_key(&self.key).map_err(Error::Rejected)?;
            let past = RangeRequest {
                at: self.at,
                consistency: self.consistency,
                ..RangeRequest::new(KeySpan::one(&self.key))
            };
            let page = ask(self.client, past).await?;
            let found = page.kvs.into_iter().next();
            return Ok((found.map(|kv| kv.record), page.basis));
        }
        let request = Request::Get {
            key: self.key,
            consistency: self.consistency,
        };
        match self.client.execute(request).await? {
            Answer::Found(record) => Ok((Some(unpinned(record)), None)),
            Answer::NotFound => Ok((None, None)),
            Answer::Read { record, basis } => Ok((record.map(unpinned), Some(basis))),
            other => Err(unexpected("a record", &other, Applied::No)),
        }
    }
}

fn unpinned(mut record: Record) -> Record {
    if record.value.len() <= COPIED_VALUE_BYTES {
        record.value = Bytes::copy_from_slice(&record.value);
    }
    record
}

impl<'a> IntoFuture for Get<'a> {
    type Output = Result<Option<Record>, Error>;
    type IntoFuture = Sending<'a, Option<Record>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { Ok(self.with_basis().await?.0) })
    }
}

/// A write; see [`Client::set`].
#[derive(Clone, Debug)]
#[must_use = "a write begins when it is awaited"]
pub struct Set<'a> {
    client: &'a Client,
    key: Bytes,
    value: Bytes,
    condition: Condition,
    ttl: Option<Duration>,
}

impl<'a> Set<'a> {
    pub(crate) fn new(client: &'a Client, key: Bytes, value: Bytes) -> Set<'a> {
        Set {
            client,
            key,
            value,
            condition: Condition::Always,
            ttl: None,
        }
    }

    /// Only if the key exists and was last changed by this revision; else [`Error::ConditionFailed`].
    pub fn if_revision(mut self, revision: Revision) -> Set<'a> {
        self.condition = Condition::ModRevision(revision);
        self
    }

    /// Only if the key does not exist; else [`Error::ConditionFailed`].
    pub fn if_absent(mut self) -> Set<'a> {
        self.condition = Condition::Absent;
        self
    }

    /// The key is deleted by itself after so long, counted in milliseconds of the cluster's log time; a hundred years at most.
    pub fn ttl(mut self, ttl: Duration) -> Set<'a> {
        self.ttl = Some(ttl);
        self
    }

    async fn run(self) -> Result<Revision, Error> {
        let ttl_ms = self
            .ttl
            .map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let command = Command::Put {
            key: &self.key,
            value: &self.value,
            condition: self.condition,
            ttl_ms,
        };
        match write(self.client, &command).await? {
            Answer::Put { revision } => Ok(revision),
            other => Err(unexpected("the revision of a put", &other, Applied::Unknown)),
        }
    }
}

impl<'a> IntoFuture for Set<'a> {
    type Output = Result<Revision, Error>;
    type IntoFuture = Sending<'a, Revision>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A delete; see [`Client::delete`].
#[derive(Clone, Debug)]
#[must_use = "a delete begins when it is awaited"]
pub struct Delete<'a> {
    client: &'a Client,
    key: Bytes,
    condition: Condition,
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Was there something to delete?
    pub existed: bool,
    /// The store's revision after it; unchanged when there was nothing.
    pub revision: Revision,
}

impl<'a> Delete<'a> {
    pub(crate) fn new(client: &'a Client, key: Bytes) -> Delete<'a> {
        Delete {
            client,
            key,
            condition: Condition::Always,
        }
    }

    /// Only if the key exists and was last changed by this revision; else [`Error::ConditionFailed`].
    pub fn if_revision(mut self, revision: Revision) -> Delete<'a> {
        self.condition = Condition::ModRevision(revision);
        self
    }

    async fn run(self) -> Result<Deleted, Error> {
        let command = Command::Delete {
            key: &self.key,
            condition: self.condition,
        };
        match write(self.client, &command).await? {
            Answer::Deleted { existed, revision } => Ok(Deleted { existed, revision }),
            other => Err(unexpected("the result of a delete", &other, Applied::Unknown)),
        }
    }
}

impl<'a> IntoFuture for Delete<'a> {
    type Output = Result<Deleted, Error>;
    type IntoFuture = Sending<'a, Deleted>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

pub(crate) async fn write(client: &Client, command: &Command<'_>) -> Result<Answer, Error> {
    let checked = CheckedCommand::new(command, &NO_LIMITS).map_err(Error::Rejected)?;
    match client.execute_write(checked).await? {
        Answer::ConditionFailed { current } => Err(Error::ConditionFailed { current }),
        answer => Ok(answer),
    }
}
