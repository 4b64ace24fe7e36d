//! A lock that several may hold at once.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::Shape;

use super::place::Place;
use super::queue::Queue;
use super::token::FencingToken;
use crate::client::Client;
use crate::error::Error;

/// Permits that are given out in the order in which they were asked for; see [`Client::semaphore`].
#[derive(Clone, Debug)]
pub struct Semaphore(Queue);

impl Client {
    /// A semaphore of this name: so many may hold a permit at once. All who use it must say the same number. Its keys are
    /// `NAME/` and a lease's id; nothing is asked of the cluster yet.
    ///
    /// ```
    /// use std::num::NonZeroUsize;
    /// use raftkv_client::Client;
    ///
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), raftkv_client::Error> {
    /// # let example = Example::start();
    /// let client = Client::builder().endpoints(["127.0.0.1:7001"]).build()?;
    /// # let client = example.client();
    /// let encoders = client.semaphore("pool/encoders", NonZeroUsize::new(2).expect("not zero"));
    /// let permit = encoders.acquire().await?;
    /// let another = encoders.try_acquire().await?.expect("there are two");
    /// assert!(encoders.try_acquire().await?.is_none());
    /// permit.release().await?;
    /// another.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn semaphore(&self, name: impl AsRef<[u8]>, permits: NonZeroUsize) -> Semaphore {
        Semaphore(Queue::new(self, name.as_ref(), permits))
    }
}

impl Semaphore {
    /// How long a permit stays taken when its holder dies, or can not reach the cluster; 10 s unless said.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Semaphore {
        Semaphore(self.0.with_ttl(ttl))
    }

    /// What whoever looks at the semaphore's keys is told of the holder.
    #[must_use]
    pub fn owner(self, owner: impl Into<Bytes>) -> Semaphore {
        Semaphore(self.0.with_value(owner.into()))
    }

    /// Waits for a permit, however long, as [`crate::Lock::acquire`] does for a lock.
    ///
    /// # Errors
    /// As [`crate::Lock::acquire`].
    pub async fn acquire(&self) -> Result<Permit, Error> {
        self.0.acquire().await.map(Permit)
    }

    /// Waits for a permit no longer than this.
    ///
    /// # Errors
    /// [`Error::NotAcquired`] if that was too short; else as [`crate::Lock::acquire`].
    pub async fn acquire_within(&self, patience: Duration) -> Result<Permit, Error> {
        self.0.acquire_within(patience).await.map(Permit)
    }

    /// Waits for a permit until `given_up` is done; see [`crate::Lock::acquire_unless`].
    ///
    /// # Errors
    /// As [`crate::Lock::acquire`].
    pub async fn acquire_unless(&self, given_up: impl Future<Output = ()>) -> Result<Option<Permit>, Error> {
        Ok(self.0.acquire_unless(given_up).await?.map(Permit))
    }

    /// Takes a permit if one is free and nobody waits for it; else `None`.
    ///
    /// # Errors
    /// As [`crate::Lock::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<Permit>, Error> {
        Ok(self.0.try_acquire().await?.map(Permit))
    }

    /// How many hold a permit or wait for one.
    ///
    /// # Errors
    /// As any read.
    pub async fn queue_len(&self) -> Result<usize, Error> {
        Ok(self.0.list(Shape::KeysOnly).await?.0.len())
    }
}

/// Holds a permit. Dropped, it gives it back beside (the runtime must go on for that; else the lease expires).
#[derive(Debug)]
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit(Place);

impl Permit {
    /// What writes are to name as their guard: [`crate::Transaction::guarded_by`].
    #[must_use]
    pub fn token(&self) -> &FencingToken {
        self.0.token()
    }

    /// Is it known to be held at this moment? See [`crate::LockGuard::is_held`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Waits until it is not known to be held any more.
    pub async fn lost(&self) {
        self.0.lost_within(Duration::ZERO).await;
    }

    /// Gives it back; it is not held any more when this returns.
    ///
    /// # Errors
    /// When the cluster can not be told. It is tried again beside, and ends by itself with its time to live.
    pub async fn release(self) -> Result<(), Error> {
        self.0.leave().await
    }
}
