//! Transactions: compare, then do one thing or the other, atomically and at one revision.

use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    Answer, Command, Compare, KeySpan, Keys, LeaseId, Lifetime, Op, OpResult, Previous, Relation, Revision,
    Shape, Test, Txn, TxnResult,
};

use crate::client::{Client, unexpected};
use crate::coordination::FencingToken;
use crate::error::{Applied, Error};
use crate::request::write;

/// What an operation or a check is about: one key, or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One key.
    Key(Bytes),
    /// All keys of a range.
    Range(KeySpan),
}

impl From<KeySpan> for Target {
    fn from(span: KeySpan) -> Target {
        Target::Range(span)
    }
}

impl From<Bytes> for Target {
    fn from(key: Bytes) -> Target {
        Target::Key(key)
    }
}

impl From<&'static str> for Target {
    fn from(key: &'static str) -> Target {
        Target::Key(Bytes::from_static(key.as_bytes()))
    }
}

impl From<String> for Target {
    fn from(key: String) -> Target {
        Target::Key(key.into())
    }
}

impl Target {
    /// All keys that begin with `prefix`. Any other range is a [`KeySpan`].
    #[must_use]
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Target {
        Target::Range(KeySpan::prefix(prefix.as_ref()))
    }

    fn borrow(&self) -> Keys<'_> {
        match self {
            Target::Key(key) => Keys::One(key),
            Target::Range(span) => Keys::Range {
                from: &span.from,
                to: span.to.as_deref(),
            },
        }
    }
}

/// A condition of a [`Transaction`]. On a range it must hold for each key there is in it; where there is none, it is judged
/// as for one key that does not exist. Revisions and version of a key that does not exist are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    target: Target,
    test: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Value(Relation, Bytes),
    Other(Test<'static>),
}

impl Check {
    fn new(target: impl Into<Target>, test: Test<'static>) -> Check {
        Check {
            target: target.into(),
            test: Wanted::Other(test),
        }
    }

    /// The key exists.
    pub fn exists(target: impl Into<Target>) -> Check {
        Check::new(target, Test::Exists)
    }

    /// The key does not exist.
    pub fn absent(target: impl Into<Target>) -> Check {
        Check::new(target, Test::Absent)
    }

    /// Its value, bytewise. Never holds for a key that does not exist.
    pub fn value(target: impl Into<Target>, relation: Relation, value: impl Into<Bytes>) -> Check {
        Check {
            target: target.into(),
            test: Wanted::Value(relation, value.into()),
        }
    }

    /// How often it was put since it was made.
    pub fn version(target: impl Into<Target>, relation: Relation, version: u64) -> Check {
        Check::new(target, Test::Version(relation, version))
    }

    /// The revision that made it: the fencing token of whoever holds a lock by that key.
    pub fn create_revision(target: impl Into<Target>, relation: Relation, revision: Revision) -> Check {
        Check::new(target, Test::CreateRevision(relation, revision))
    }

    /// The revision that last changed it.
    pub fn mod_revision(target: impl Into<Target>, relation: Relation, revision: Revision) -> Check {
        Check::new(target, Test::ModRevision(relation, revision))
    }

    /// The lease that it hangs on; `None`: it hangs on none.
    pub fn lease(target: impl Into<Target>, relation: Relation, lease: Option<LeaseId>) -> Check {
        Check::new(target, Test::Lease(relation, lease))
    }

    fn borrow(&self) -> Compare<'_> {
        Compare {
            keys: self.target.borrow(),
            test: match &self.test {
                Wanted::Value(relation, value) => Test::Value(*relation, value),
                Wanted::Other(test) => *test,
            },
        }
    }
}

/// One operation of a [`Transaction`]. It sees what those before it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Put {
        key: Bytes,
        value: Bytes,
        lifetime: Lifetime,
        previous: Previous,
    },
    Increment {
        key: Bytes,
        by: i64,
    },
    Delete {
        target: Target,
        previous: Previous,
    },
    Get {
        target: Target,
        shape: Shape,
        limit: Option<u32>,
    },
    /// Encoded.
    Nested(Bytes),
}

impl Operation {
    /// Sets a key. It lives until it is deleted, unless [`Operation::ttl`] or [`Operation::lease`] say otherwise.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Operation {
        Operation(Kind::Put {
            key: key.into(),
            value: value.into(),
            lifetime: Lifetime::Unlimited,
            previous: Previous::Unwanted,
        })
    }

    /// Adds to the number that a key's value is, in decimal digits. A key that does not exist counts as 0.
    pub fn increment(key: impl Into<Bytes>, by: i64) -> Operation {
        Operation(Kind::Increment { key: key.into(), by })
    }

    /// Deletes a key, or all keys of a range: none of these may be put by the same transaction, before or after.
    pub fn delete(target: impl Into<Target>) -> Operation {
        Operation(Kind::Delete {
            target: target.into(),
            previous: Previous::Unwanted,
        })
    }

    /// Reads a key, or all keys of a range.
    pub fn get(target: impl Into<Target>) -> Operation {
        Operation(Kind::Get {
            target: target.into(),
            shape: Shape::Records,
            limit: None,
        })
    }

    /// A transaction inside this one.
    pub fn nested(transaction: &Transaction) -> Operation {
        Operation(Kind::Nested(transaction.encoded()))
    }

    /// Of a put: the key is deleted by itself after so long. Means nothing elsewhere.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Operation {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.living(Lifetime::Ttl { ttl_ms })
    }

    /// Of a put: the key lives as long as this lease. Means nothing elsewhere.
    #[must_use]
    pub fn lease(self, lease: LeaseId) -> Operation {
        self.living(Lifetime::Lease(lease))
    }

    /// Of a put: the key lives as long as it would have. Means nothing elsewhere.
    #[must_use]
    pub fn keep_lifetime(self) -> Operation {
        self.living(Lifetime::Kept)
    }

    fn living(mut self, wanted: Lifetime) -> Operation {
        if let Kind::Put { lifetime, .. } = &mut self.0 {
            *lifetime = wanted;
        }
        self
    }

    /// Of a put or delete: its result tells what was there before.
    #[must_use]
    pub fn with_previous(mut self) -> Operation {
        if let Kind::Put { previous, .. } | Kind::Delete { previous, .. } = &mut self.0 {
            *previous = Previous::Wanted;
        }
        self
    }

    /// Of a get: what of each record is wanted.
    #[must_use]
    pub fn shape(mut self, wanted: Shape) -> Operation {
        if let Kind::Get { shape, .. } = &mut self.0 {
            *shape = wanted;
        }
        self
    }

    /// Of a get: at most so many, the first ones. All are counted, so the range is bounded as without it.
    #[must_use]
    pub fn limit(mut self, keys: u32) -> Operation {
        if let Kind::Get { limit, .. } = &mut self.0 {
            *limit = Some(keys);
        }
        self
    }

    fn borrow(&self) -> Op<'_> {
        match &self.0 {
            Kind::Put {
                key,
                value,
                lifetime,
                previous,
            } => Op::Put {
                key,
                value,
                lifetime: *lifetime,
                previous: *previous,
            },
            Kind::Increment { key, by } => Op::Increment { key, by: *by },
            Kind::Delete { target, previous } => Op::Delete {
                keys: target.borrow(),
                previous: *previous,
            },
            Kind::Get { target, shape, limit } => Op::Get {
                keys: target.borrow(),
                shape: *shape,
                limit: *limit,
            },
            Kind::Nested(encoded) => Op::Txn(encoded),
        }
    }
}

/// What is to happen at once, and under which conditions. No key may be put twice in one; what is refused changes nothing.
///
/// Its ranges may hold [`MAX_TXN_KEYS`](crate::MAX_TXN_KEYS) keys together, whichever branch runs; beyond that it is
/// refused with `too_large`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    checks: Vec<Check>,
    then: Vec<Operation>,
    otherwise: Vec<Operation>,
    /// What must be held for any of it.
    guards: Vec<FencingToken>,
}

impl Transaction {
    /// One that checks nothing and does nothing.
    #[must_use]
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// All of these have to hold, beside those named before.
    #[must_use]
    pub fn when(mut self, checks: impl IntoIterator<Item = Check>) -> Transaction {
        self.checks.extend(checks);
        self
    }

    /// What happens if they hold, behind what was named before.
    #[must_use]
    pub fn then(mut self, operations: impl IntoIterator<Item = Operation>) -> Transaction {
        self.then.extend(operations);
        self
    }

    /// What happens if one does not hold, behind what was named before.
    #[must_use]
    pub fn otherwise(mut self, operations: impl IntoIterator<Item = Operation>) -> Transaction {
        self.otherwise.extend(operations);
        self
    }

    /// Nothing of it happens unless the lock, permit or leadership of this token is still held when it is applied:
    /// [`Error::NotHeld`] then. So a holder that was paused, and does not know yet that another one took over, does no harm.
    ///
    /// Its branches are judged within, so it counts as nested once. Inside another transaction ([`Operation::nested`]) it does
    /// nothing if the guard does not hold, and its result is nested once more.
    #[must_use]
    pub fn guarded_by(mut self, token: &FencingToken) -> Transaction {
        self.guards.push(token.clone());
        self
    }

    fn encoded(&self) -> Bytes {
        let inner = self.borrow().encode();
        match self.guards.is_empty() {
            true => inner,
            false => guarded(&self.guards, &inner).encode(),
        }
    }

    fn borrow(&self) -> Txn<'_> {
        Txn {
            compare: self.checks.iter().map(Check::borrow).collect(),
            then: self.then.iter().map(Operation::borrow).collect(),
            otherwise: self.otherwise.iter().map(Operation::borrow).collect(),
        }
    }
}

impl Client {
    /// Runs a transaction: if all its checks hold one list of operations, else the other; all of it at one revision.
    ///
    /// ```
    /// use raftkv_client::{Check, Client, Operation, Relation, Target, Transaction};
    ///
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), raftkv_client::Error> {
    /// # let example = Example::start();
    /// let client = Client::builder().endpoints(["127.0.0.1:7001"]).build()?;
    /// # let client = example.client();
    /// let claim = Transaction::new()
    ///     .when([Check::absent("seat/12")])
    ///     .then([Operation::put("seat/12", "alice"), Operation::increment("sold", 1)])
    ///     .otherwise([Operation::get("seat/12")]);
    /// let done = client.transact(claim).await?;
    /// if !done.succeeded() {
    ///     println!("taken by {:?}", done.read(0)[0].record.value);
    /// }
    ///
    /// // Over ranges: only if no job is held by anybody, put all of them away.
    /// let jobs = || Target::prefix("job/");
    /// let clear = Transaction::new()
    ///     .when([Check::lease(jobs(), Relation::Equal, None)])
    ///     .then([Operation::delete(jobs()).with_previous(), Operation::put("cleared", "yes")]);
    /// client.transact(clear).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] when it is refused as a whole, [`Error::NotHeld`] when a token that it is guarded by does not hold
    /// any more; nothing was changed then.
    pub async fn transact(&self, transaction: Transaction) -> Result<TxnResult, Error> {
        if transaction.guards.is_empty() {
            return run(self, transaction.borrow()).await;
        }
        let inner = transaction.borrow().encode();
        let done = run(self, guarded(&transaction.guards, &inner)).await?;
        within_guards(done, &transaction.guards)
    }

    /// Adds to the number that a key's value is, in decimal digits, and returns the sum; a key that does not exist counts as 0.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the value is no number, or the sum has more than 64 bits; nothing was changed then.
    pub async fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<i64, Error> {
        let one = Transaction::new().then([Operation::increment(key, by)]);
        let done = self.transact(one).await?;
        match done.results.first() {
            Some(OpResult::Incremented { value }) => Ok(*value),
            _ => Err(Error::UnexpectedAnswer {
                expected: "a sum",
                got: "another result",
                applied: Applied::Unknown,
            }),
        }
    }
}

async fn run(client: &Client, transaction: Txn<'_>) -> Result<TxnResult, Error> {
    match write(client, &Command::Txn(transaction)).await? {
        Answer::Txn(result) => Ok(result),
        other => Err(unexpected(
            "the result of a transaction",
            &other,
            Applied::Unknown,
        )),
    }
}

/// An encoded transaction within one that checks its guards, and tells which of them are there if one is not.
fn guarded<'a>(guards: &'a [FencingToken], inner: &'a [u8]) -> Txn<'a> {
    let look = |guard: &'a FencingToken| Op::Get {
        keys: Keys::One(guard.key()),
        shape: Shape::KeysOnly,
        limit: None,
    };
    Txn {
        compare: guards.iter().map(FencingToken::compare).collect(),
        then: vec![Op::Txn(inner)],
        otherwise: guards.iter().map(look).collect(),
    }
}

/// What the transaction within did.
fn within_guards(done: TxnResult, guards: &[FencingToken]) -> Result<TxnResult, Error> {
    if !done.succeeded() {
        let is_missing = |place: usize| {
            let created = done.read(place).first().map(|kv| kv.record.create_revision);
            created != Some(guards[place].revision())
        };
        let place = (0..guards.len()).find(|place| is_missing(*place)).unwrap_or(0);
        let token = guards[place].clone();
        return Err(Error::NotHeld { token });
    }
    match <[OpResult; 1]>::try_from(done.results) {
        Ok([OpResult::Txn { branch, results }]) => Ok(TxnResult {
            revision: done.revision,
            branch,
            results,
        }),
        _ => Err(Error::UnexpectedAnswer {
            expected: "the result of a guarded transaction",
            got: "another result",
            applied: Applied::Unknown,
        }),
    }
}
