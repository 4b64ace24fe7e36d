//! Writes of one key under a condition: the plain ones as commands of their own, what those can not say as transactions.

use raftkv_protocol::{
    Answer, Branch, Command, Compare, Condition, Header, KeyValue, Keys, Lifetime, Op, OpResult, Previous,
    Relation, Revision, Shape, Test, Txn, TxnResult,
};

use super::api::{Api, unexpected};
use super::error::HttpError;
use super::idempotency::IdempotencyKey;

/// When a write may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// As commands have them.
    Plain(Condition),
    /// Only if the key exists.
    Exists,
}

impl Precondition {
    fn test(self) -> Option<Test<'static>> {
        match self {
            Precondition::Plain(Condition::Always) => None,
            Precondition::Plain(Condition::Absent) => Some(Test::Absent),
            Precondition::Plain(Condition::ModRevision(revision)) => {
                Some(Test::ModRevision(Relation::Equal, revision))
            }
            Precondition::Exists => Some(Test::Exists),
        }
    }
}

/// What `if_revision` means: 0 stands for "absent".
pub(super) fn condition(if_revision: u64) -> Condition {
    match if_revision {
        0 => Condition::Absent,
        revision => Condition::ModRevision(Revision(revision)),
    }
}

/// A key that is to be set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) precondition: Precondition,
    pub(super) lifetime: Lifetime,
    pub(super) previous: Previous,
}

/// A key that is to be deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delete<'a> {
    pub(super) key: &'a [u8],
    pub(super) precondition: Precondition,
    pub(super) previous: Previous,
}

/// What a write did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) revision: Revision,
    /// Did something change?
    pub(super) is_change: bool,
    /// What was there before, if it was wanted.
    pub(super) previous: Option<KeyValue>,
}

impl Api {
    /// Sets a key.
    pub(super) async fn put(
        &self,
        put: Put<'_>,
        once: Option<&IdempotencyKey>,
    ) -> Result<(Header, Written), HttpError> {
        let Put {
            key,
            value,
            precondition,
            lifetime,
            previous,
        } = put;
        let ttl_ms = match lifetime {
            Lifetime::Unlimited => Some(None),
            Lifetime::Ttl { ttl_ms } => Some(Some(ttl_ms)),
            Lifetime::Lease(_) | Lifetime::Kept => None,
        };
        if let (Precondition::Plain(condition), Some(ttl_ms), Previous::Unwanted) =
            (precondition, ttl_ms, previous)
        {
            let command = Command::Put {
                key,
                value,
                condition,
                ttl_ms,
            };
            return self.write_plainly(&command, once).await;
        }
        let op = Op::Put {
            key,
            value,
            lifetime,
            previous,
        };
        self.write_if(key, precondition, op, once).await
    }

    /// Deletes a key.
    pub(super) async fn delete(
        &self,
        delete: Delete<'_>,
        once: Option<&IdempotencyKey>,
    ) -> Result<(Header, Written), HttpError> {
        let Delete {
            key,
            precondition,
            previous,
        } = delete;
        if let (Precondition::Plain(condition), Previous::Unwanted) = (precondition, previous) {
            return self
                .write_plainly(&Command::Delete { key, condition }, once)
                .await;
        }
        let keys = Keys::One(key);
        let op = Op::Delete { keys, previous };
        self.write_if(key, precondition, op, once).await
    }

    async fn write_plainly(
        &self,
        command: &Command<'_>,
        once: Option<&IdempotencyKey>,
    ) -> Result<(Header, Written), HttpError> {
        let (header, answer) = self.write(command, once).await?;
        let (revision, is_change) = match answer {
            Answer::Put { revision } => (revision, true),
            Answer::Deleted { existed, revision } => (revision, existed),
            Answer::ConditionFailed { current } => return Err(HttpError::revision_mismatch(header, current)),
            other => return Err(unexpected(&other)),
        };
        let written = Written {
            revision,
            is_change,
            previous: None,
        };
        Ok((header, written))
    }

    /// One operation on `key`, if the precondition holds; else that key's revision is told.
    async fn write_if(
        &self,
        key: &[u8],
        precondition: Precondition,
        op: Op<'_>,
        once: Option<&IdempotencyKey>,
    ) -> Result<(Header, Written), HttpError> {
        let keys = Keys::One(key);
        let test = precondition.test();
        let txn = Txn {
            compare: test.map(|test| Compare { keys, test }).into_iter().collect(),
            then: vec![op],
            otherwise: vec![Op::Get {
                keys,
                shape: Shape::KeysOnly,
                limit: None,
            }],
        };
        let (header, answer) = self.write(&Command::Txn(txn), once).await?;
        match answer {
            Answer::Txn(result) => match outcome(result) {
                Some(Ok(written)) => Ok((header, written)),
                Some(Err(current)) => Err(HttpError::revision_mismatch(header, current)),
                None => Err(unexpected(&Answer::NotFound)),
            },
            other => Err(unexpected(&other)),
        }
    }
}

/// What became of one operation, or the revision of the key whose condition did not hold. `None`: it is no such result.
fn outcome(result: TxnResult) -> Option<Result<Written, Option<Revision>>> {
    let revision = result.revision;
    match (result.branch, result.results.into_iter().next()?) {
        (Branch::Then, OpResult::Put { previous }) => Some(Ok(Written {
            revision,
            is_change: true,
            previous,
        })),
        (Branch::Then, OpResult::Deleted { count, previous }) => Some(Ok(Written {
            revision,
            is_change: count > 0,
            previous: previous.into_iter().next(),
        })),
        (Branch::Otherwise, OpResult::Got { kvs, .. }) => {
            Some(Err(kvs.first().map(|kv| kv.record.mod_revision)))
        }
        _ => None,
    }
}
