//! Elections of a leader among those who use the store. They have nothing to do with those of the cluster's own nodes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use raftkv_protocol::{ErrorCode, KeyValue, Revision, Shape, WatchEvent};

use super::place::Place;
use super::queue::{Queue, is_entry, token_of};
use super::token::FencingToken;
use crate::client::Client;
use crate::error::Error;
use crate::watch::{Watch, WatchItem};

/// A queue of candidates, the first of whom leads; see [`Client::election`].
#[derive(Clone, Debug)]
pub struct Election {
    queue: Queue,
    name: Bytes,
}

/// Who leads, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its fencing token, which tells it from every other leader of the election.
    pub token: FencingToken,
    /// What it proclaims.
    pub value: Bytes,
}

impl Leader {
    fn of(kv: &KeyValue) -> Leader {
        Leader {
            token: token_of(kv),
            value: kv.record.value.clone(),
        }
    }
}

impl Client {
    /// An election of this name. Its keys are `NAME/` and a lease's id; nothing is asked of the cluster yet.
    ///
    /// ```
    /// use raftkv_client::Client;
    ///
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), raftkv_client::Error> {
    /// # let example = Example::start();
    /// let client = Client::builder().endpoints(["127.0.0.1:7001"]).build()?;
    /// # let client = example.client();
    /// let election = client.election("election/scheduler");
    /// let leadership = election.campaign("10.0.0.1:9000").await?;
    /// let leader = election.leader().await?.expect("elected just now");
    /// assert_eq!(leader.value, "10.0.0.1:9000");
    /// assert_eq!(&leader.token, leadership.token());
    /// leadership.resign().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn election(&self, name: impl AsRef<[u8]>) -> Election {
        let name = name.as_ref();
        Election {
            queue: Queue::new(self, name, NonZeroUsize::MIN),
            name: Bytes::copy_from_slice(name),
        }
    }
}

impl Election {
    /// How long a leader that dies, or can not reach the cluster, still counts as leader; 10 s unless said.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Election {
        Election {
            queue: self.queue.with_ttl(ttl),
            ..self
        }
    }

    /// Stands for election, and waits until it leads; candidates come in the order in which they stood. Dropped, it withdraws.
    ///
    /// # Errors
    /// As [`crate::Lock::acquire`].
    pub async fn campaign(&self, value: impl Into<Bytes>) -> Result<Leadership, Error> {
        let queue = self.queue.clone().with_value(value.into());
        queue.acquire().await.map(Leadership)
    }

    /// The same, for no longer than this.
    ///
    /// # Errors
    /// [`Error::NotAcquired`] if that was too short; else as [`crate::Lock::acquire`].
    pub async fn campaign_within(
        &self,
        value: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Leadership, Error> {
        let queue = self.queue.clone().with_value(value.into());
        queue.acquire_within(patience).await.map(Leadership)
    }

    /// The same, until `given_up` is done; see [`crate::Lock::acquire_unless`].
    ///
    /// # Errors
    /// As [`crate::Lock::acquire`].
    pub async fn campaign_unless(
        &self,
        value: impl Into<Bytes>,
        given_up: impl Future<Output = ()>,
    ) -> Result<Option<Leadership>, Error> {
        let queue = self.queue.clone().with_value(value.into());
        Ok(queue.acquire_unless(given_up).await?.map(Leadership))
    }

    /// Who leads now; `None`: nobody.
    ///
    /// # Errors
    /// As any read.
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        let (all, _) = self.queue.list(Shape::Records).await?;
        Ok(all.first().map(Leader::of))
    }

    /// Who leads, from now on: the leader that there is, then each one that follows, once and in order, and each value that it
    /// proclaims. `None` tells that nobody leads.
    #[must_use]
    pub fn observe(&self) -> Leaders {
        Leaders {
            client: self.queue.client().clone(),
            prefix: [&self.name[..], b"/"].concat().into(),
            watch: self
                .queue
                .client()
                .watch(self.queue.span())
                .from_snapshot()
                .stream(),
            candidates: BTreeMap::new(),
            is_whole: false,
            told: None,
        }
    }
}

/// Leads. Dropped, it resigns beside (the runtime must go on for that; else the lease expires).
#[derive(Debug)]
#[must_use = "it resigns when this is dropped"]
pub struct Leadership(Place);

impl Leadership {
    /// What the leader's writes are to name as their guard: [`crate::Transaction::guarded_by`].
    #[must_use]
    pub fn token(&self) -> &FencingToken {
        self.0.token()
    }

    /// Does it lead, as far as is known at this moment? See [`crate::LockGuard::is_held`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Waits until it is not known to lead any more.
    pub async fn lost(&self) {
        self.0.lost_within(Duration::ZERO).await;
    }

    /// Proclaims another value; the revision that did.
    ///
    /// # Errors
    /// [`Error::NotHeld`] when it does not lead any more; else as any write.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<Revision, Error> {
        self.0.rewrite(value.into()).await
    }

    /// Lets the next candidate lead; it does not lead any more when this returns.
    ///
    /// # Errors
    /// When the cluster can not be told. It is tried again beside, and ends by itself with its time to live.
    pub async fn resign(self) -> Result<(), Error> {
        self.0.leave().await
    }
}

/// The leaders of an election; see [`Election::observe`]. It goes on over failures of nodes. Should it fall so far behind that
/// history is not kept, it goes on with who leads then; an error is its end.
#[derive(Debug)]
pub struct Leaders {
    client: Client,
    prefix: Bytes,
    watch: Watch,
    /// By what orders them.
    candidates: BTreeMap<(Revision, Bytes), Bytes>,
    /// Is all of the state there that it begins with?
    is_whole: bool,
    /// `None`: nothing was told yet.
    told: Option<Option<Leader>>,
}

impl Leaders {
    /// The next leader; `None` behind an error. Nothing is lost when it is dropped unfinished.
    pub async fn next(&mut self) -> Option<Result<Option<Leader>, Error>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn take(&mut self, item: WatchItem) {
        match item {
            WatchItem::SnapshotBegin => {
                self.candidates.clear();
                self.is_whole = false;
            }
            WatchItem::SnapshotEnd(_) => self.is_whole = true,
            WatchItem::Current(kv) | WatchItem::Change(WatchEvent::Put { kv, .. }) => self.put(kv),
            WatchItem::Change(WatchEvent::Delete { key, .. }) => {
                self.candidates.retain(|(_, candidate), _| *candidate != key);
            }
            WatchItem::Gap | WatchItem::Progress(_) => {}
        }
    }

    fn put(&mut self, kv: KeyValue) {
        if is_entry(&self.prefix, &kv.key) {
            let place = (kv.record.create_revision, kv.key);
            self.candidates.insert(place, kv.record.value);
        }
    }

    /// Who leads, if that was not told yet.
    fn news(&mut self) -> Option<Option<Leader>> {
        if !self.is_whole {
            return None;
        }
        let first = self.candidates.first_key_value();
        let leader = first.map(|((revision, key), value)| Leader {
            token: FencingToken::new(key.clone(), *revision),
            value: value.clone(),
        });
        if self.told.as_ref() == Some(&leader) {
            return None;
        }
        self.told = Some(leader.clone());
        Some(leader)
    }
}

impl Stream for Leaders {
    type Item = Result<Option<Leader>, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match ready!(Pin::new(&mut this.watch).poll_next(context)) {
                None => return Poll::Ready(None),
                Some(Err(Error::Rejected(failure))) if failure.code == ErrorCode::Compacted => {
                    let span = raftkv_protocol::KeySpan::prefix(&this.prefix);
                    this.watch = this.client.watch(span).from_snapshot().stream();
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(item)) => {
                    this.take(item);
                    if let Some(leader) = this.news() {
                        return Poll::Ready(Some(Ok(leader)));
                    }
                }
            }
        }
    }
}
