//! A mutex.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::Shape;

use super::place::Place;
use super::queue::{Queue, token_of};
use super::token::FencingToken;
use crate::client::Client;
use crate::error::Error;

/// A lock that one at a time holds, in the order in which they asked; see [`Client::lock`].
#[derive(Clone, Debug)]
pub struct Lock(Queue);

impl Client {
    /// A lock of this name. Its keys are `NAME/` and a lease's id; nothing is asked of the cluster yet.
    ///
    /// ```
    /// use raftkv_client::{Client, Operation, Transaction};
    ///
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), raftkv_client::Error> {
    /// # let example = Example::start();
    /// let client = Client::builder().endpoints(["127.0.0.1:7001"]).build()?;
    /// # let client = example.client();
    /// let guard = client.lock("lock/report").acquire().await?;
    /// // Checked where it is applied: should the lock be lost meanwhile, this is `Error::NotHeld` and changes nothing.
    /// let write = Transaction::new()
    ///     .guarded_by(guard.token())
    ///     .then([Operation::put("report", "done")]);
    /// client.transact(write).await?;
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self, name: impl AsRef<[u8]>) -> Lock {
        Lock(Queue::new(self, name.as_ref(), NonZeroUsize::MIN))
    }
}

impl Lock {
    /// How long it stays held when its holder dies, or can not reach the cluster; 10 s unless said. It is renewed three times in
    /// that time.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Lock {
        Lock(self.0.with_ttl(ttl))
    }

    /// What whoever looks at the lock is told of its holder, such as a host and a process.
    #[must_use]
    pub fn owner(self, owner: impl Into<Bytes>) -> Lock {
        Lock(self.0.with_value(owner.into()))
    }

    /// Waits for it, however long; behind those who asked before, ahead of those who ask later. Failing nodes do not end the
    /// waiting. Dropped, it leaves the queue.
    ///
    /// # Errors
    /// When the cluster can not be asked, or the place in the queue is lost ([`Error::NotHeld`]): the lease was revoked, or could
    /// not be renewed in time.
    pub async fn acquire(&self) -> Result<LockGuard, Error> {
        self.0.acquire().await.map(LockGuard)
    }

    /// Waits for it no longer than this.
    ///
    /// # Errors
    /// [`Error::NotAcquired`] if that was too short; else as [`Lock::acquire`].
    pub async fn acquire_within(&self, patience: Duration) -> Result<LockGuard, Error> {
        self.0.acquire_within(patience).await.map(LockGuard)
    }

    /// Waits for it until `given_up` is done; `None` then, and it has left the queue. For a program that is told to stop: one
    /// that only drops [`Lock::acquire`] and exits may leave its place behind, until its lease expires.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire_unless(
        &self,
        given_up: impl Future<Output = ()>,
    ) -> Result<Option<LockGuard>, Error> {
        Ok(self.0.acquire_unless(given_up).await?.map(LockGuard))
    }

    /// Takes it if nobody holds it or waits for it; else `None`.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, Error> {
        Ok(self.0.try_acquire().await?.map(LockGuard))
    }

    /// Who holds it: the token, and what it told as its owner. `None`: nobody.
    ///
    /// # Errors
    /// As any read.
    pub async fn holder(&self) -> Result<Option<(FencingToken, Bytes)>, Error> {
        let (all, _) = self.0.list(Shape::Records).await?;
        let first = all.into_iter().next();
        Ok(first.map(|kv| (token_of(&kv), kv.record.value)))
    }
}

/// Holds a lock. Dropped, it releases it beside (the runtime must go on for that; else the lease expires).
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct LockGuard(Place);

impl LockGuard {
    /// What writes are to name as their guard: [`crate::Transaction::guarded_by`].
    #[must_use]
    pub fn token(&self) -> &FencingToken {
        self.0.token()
    }

    /// Is the lock known to be held at this moment? It is told by this machine's clock, before the cluster can give it to
    /// another one. A write can arrive later than it was sent: those that must not be done by two are to be guarded.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Waits until the lock is not known to be held any more: it could not be renewed in time, or was taken away.
    pub async fn lost(&self) {
        self.0.lost_within(Duration::ZERO).await;
    }

    /// Waits until the lock is not known to be held for as long as `margin` from now: time to stop what it protects. A margin
    /// of more than half of the time to live may be reached without any trouble.
    pub async fn lost_within(&self, margin: Duration) {
        self.0.lost_within(margin).await;
    }

    /// Gives it back; it is not held any more when this returns.
    ///
    /// # Errors
    /// When the cluster can not be told. It is tried again beside, and ends by itself with its time to live.
    pub async fn release(self) -> Result<(), Error> {
        self.0.leave().await
    }
}
