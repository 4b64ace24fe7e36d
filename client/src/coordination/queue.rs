//! The queue that locks, semaphores and elections share: who is ahead, and waiting for one's turn.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{EventFilter, KeySpan, KeyValue, Revision, Shape};
use tokio::time::{sleep, timeout};

use super::DEFAULT_TTL;
use super::place::{Place, RETRY_PAUSE, may_help};
use super::token::FencingToken;
use crate::client::Client;
use crate::error::Error;
use crate::watch::WatchItem;

/// Hexadecimal digits behind the prefix.
const ID_DIGITS: usize = 16;

/// A waiter whose watch says nothing for so long looks itself: the watch may be at a node that is cut off, or of a history that
/// was forked since.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A queue, and how one joins it.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    client: Client,
    /// `NAME/`
    prefix: Bytes,
    permits: NonZeroUsize,
    value: Bytes,
    ttl: Duration,
}

/// A key in a queue, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entered<'a> {
    pub(super) revision: Revision,
    /// Tells apart what one transaction of somebody else made.
    pub(super) key: &'a Bytes,
}

impl<'a> Entered<'a> {
    fn of(kv: &'a KeyValue) -> Entered<'a> {
        Entered {
            revision: kv.record.create_revision,
            key: &kv.key,
        }
    }
}

/// What has to happen for a waiter to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Awaited {
    span: KeySpan,
    filter: EventFilter,
}

impl Queue {
    pub(super) fn new(client: &Client, name: &[u8], permits: NonZeroUsize) -> Queue {
        Queue {
            client: client.clone(),
            prefix: [name, b"/"].concat().into(),
            permits,
            value: Bytes::new(),
            ttl: DEFAULT_TTL,
        }
    }

    pub(super) fn with_ttl(self, ttl: Duration) -> Queue {
        Queue { ttl, ..self }
    }

    pub(super) fn with_value(self, value: Bytes) -> Queue {
        Queue { value, ..self }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn span(&self) -> KeySpan {
        KeySpan::prefix(&self.prefix)
    }

    /// Joins it and waits for a place among the first.
    pub(super) async fn acquire(&self) -> Result<Place, Error> {
        let place = self.join().await?;
        self.wait_in(&place).await?;
        Ok(place)
    }

    /// The same, until it is given up: it has left then, as far as the cluster could be told.
    pub(super) async fn acquire_unless(
        &self,
        given_up: impl Future<Output = ()>,
    ) -> Result<Option<Place>, Error> {
        tokio::pin!(given_up);
        let place = tokio::select! {
            joined = self.join() => joined?,
            () = &mut given_up => return Ok(None),
        };
        tokio::select! {
            reached = self.wait_in(&place) => reached?,
            () = given_up => {
                // One that fails is tried again beside.
                let _ = place.leave().await;
                return Ok(None);
            }
        }
        Ok(Some(place))
    }

    /// The same, for so long.
    pub(super) async fn acquire_within(&self, patience: Duration) -> Result<Place, Error> {
        let acquired = self.acquire_unless(sleep(patience)).await?;
        acquired.ok_or(Error::NotAcquired { after: patience })
    }

    /// Joins it, and stays if that gives a place among the first at once.
    pub(super) async fn try_acquire(&self) -> Result<Option<Place>, Error> {
        let place = self.join().await?;
        let (ahead, _) = self.look(&place).await?;
        if ahead.len() < self.permits.get() && place.is_held() {
            self.tell_next(&place).await?;
            return Ok(Some(place));
        }
        place.leave().await?;
        Ok(None)
    }

    /// All in it, in its order.
    pub(super) async fn list(&self, shape: Shape) -> Result<(Vec<KeyValue>, Revision), Error> {
        let mut listing = self.client.range(self.span()).shape(shape).stream();
        let mut all = Vec::new();
        while let Some(kv) = listing.next().await {
            let kv = kv?;
            if is_entry(&self.prefix, &kv.key) {
                all.push(kv);
            }
        }
        all.sort_by(|a, b| Entered::of(a).cmp(&Entered::of(b)));
        Ok((all, listing.at().unwrap_or_default()))
    }

    async fn join(&self) -> Result<Place, Error> {
        Place::join(&self.client, &self.prefix, self.value.clone(), self.ttl).await
    }

    async fn wait_in(&self, place: &Place) -> Result<(), Error> {
        tokio::select! {
            turn = self.turn(place) => turn?,
            () = place.ended() => return Err(place.not_held()),
        }
        self.tell_next(place).await
    }

    /// Waits until fewer are ahead than may hold at once.
    async fn turn(&self, place: &Place) -> Result<(), Error> {
        loop {
            let (ahead, at) = match self.look(place).await {
                Err(error) if may_help(&error) => {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
                looked => looked?,
            };
            if let Some(awaited) = self.awaited(&ahead) {
                self.wait_for(awaited, ahead.last(), at).await?;
            } else if place.is_held() {
                return Ok(());
            } else {
                // The lease lives, but for how long is known with its next renewal only.
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Those ahead, in order, as of a revision.
    async fn look(&self, place: &Place) -> Result<(Vec<KeyValue>, Revision), Error> {
        let (mut all, at) = self.list(Shape::KeysOnly).await?;
        let own = all.iter().position(|kv| Entered::of(kv) == place.entered());
        all.truncate(own.ok_or_else(|| place.not_held())?);
        Ok((all, at))
    }

    /// What those ahead have to do first; `None`: nothing.
    ///
    /// Each waits for the one before it alone, so that a release wakes one waiter. Of those who wait for one of several permits,
    /// the first waits for any holder to leave, and tells the next one when it has become a holder: by writing its key once more.
    fn awaited(&self, ahead: &[KeyValue]) -> Option<Awaited> {
        let before = ahead.last().filter(|_| ahead.len() >= self.permits.get())?;
        let is_first_to_wait = ahead.len() == self.permits.get();
        Some(match (self.is_exclusive(), is_first_to_wait) {
            (true, _) => Awaited {
                span: KeySpan::one(&before.key),
                filter: EventFilter::Deletes,
            },
            (false, true) => Awaited {
                span: self.span(),
                filter: EventFilter::Deletes,
            },
            (false, false) => Awaited {
                span: KeySpan::one(&before.key),
                filter: EventFilter::All,
            },
        })
    }

    fn is_exclusive(&self) -> bool {
        self.permits == NonZeroUsize::MIN
    }

    /// It holds now: whoever waits behind it may be the first who waits.
    async fn tell_next(&self, place: &Place) -> Result<(), Error> {
        if self.is_exclusive() {
            return Ok(());
        }
        loop {
            match place.rewrite(self.value.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if may_help(&error) && place.is_held() => sleep(RETRY_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until it is worth to look again: `at` is the revision that was looked at, `before` whoever is just ahead.
    async fn wait_for(&self, awaited: Awaited, before: Option<&KeyValue>, at: Revision) -> Result<(), Error> {
        loop {
            let change = changed(&self.client, awaited.span.clone(), awaited.filter, at);
            match timeout(LOOK_EVERY, change).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if !may_help(&error) && !matches!(error, Error::Rejected(_)) => {
                    return Err(error);
                }
                // A watch that is refused (its history is not kept) is as good as a change.
                Ok(Err(_)) => {
                    sleep(RETRY_PAUSE).await;
                    return Ok(());
                }
                Err(_) => {}
            }
            let Some(before) = before.filter(|before| awaited.span == KeySpan::one(&before.key)) else {
                return Ok(());
            };
            // Cheaper than the whole queue, when many wait.
            match self.client.get(before.key.clone()).await {
                Ok(Some(record)) if record.mod_revision == before.record.mod_revision => {}
                _ => return Ok(()),
            }
        }
    }
}

/// Waits for the first event behind a revision.
pub(super) async fn changed(
    client: &Client,
    span: KeySpan,
    filter: EventFilter,
    behind: Revision,
) -> Result<(), Error> {
    let from = Revision(behind.0 + 1);
    let mut watch = client.watch(span).from_revision(from).filter(filter).stream();
    loop {
        match watch.next().await {
            Some(Ok(WatchItem::Change(_))) => return Ok(()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(Error::Closed),
        }
    }
}

/// Is it a key of somebody in the queue of this prefix?
pub(super) fn is_entry(prefix: &[u8], key: &[u8]) -> bool {
    key.strip_prefix(prefix).is_some_and(|id| {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        id.len() == ID_DIGITS && id.iter().all(is_digit)
    })
}

/// The token of whoever holds by this key.
pub(super) fn token_of(kv: &KeyValue) -> FencingToken {
    FencingToken::new(kv.key.clone(), kv.record.create_revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_protocol::Record;

    fn queue(permits: usize) -> Queue {
        let client = Client::builder().endpoints(["127.0.0.1:1"]).build();
        let permits = NonZeroUsize::new(permits).expect("some");
        Queue::new(&client.expect("an endpoint"), b"q", permits)
    }

    fn ahead(count: u64) -> Vec<KeyValue> {
        let entry = |id| KeyValue {
            key: format!("q/{id:016x}").into(),
            record: Record {
                value: Bytes::new(),
                create_revision: Revision(id),
                mod_revision: Revision(id),
                version: 1,
                lease: None,
            },
        };
        (1..=count).map(entry).collect()
    }

    #[test]
    fn each_waits_for_the_one_before_it_and_the_first_who_waits_for_permits_for_any_holder() {
        let awaited = |permits, count: u64| queue(permits).awaited(&ahead(count));
        let before = |count: u64, filter| {
            let span = KeySpan::one(format!("q/{count:016x}").as_bytes());
            Some(Awaited { span, filter })
        };
        assert_eq!(awaited(1, 0), None);
        assert_eq!(awaited(1, 1), before(1, EventFilter::Deletes));
        assert_eq!(awaited(1, 5), before(5, EventFilter::Deletes));
        assert_eq!(awaited(3, 2), None);
        let any = Awaited {
            span: KeySpan::prefix(b"q/"),
            filter: EventFilter::Deletes,
        };
        assert_eq!(awaited(3, 3), Some(any));
        assert_eq!(awaited(3, 4), before(4, EventFilter::All));
    }

    #[test]
    fn what_else_lies_below_the_name_does_not_queue() {
        assert!(is_entry(b"q/", b"q/00000000000000af"));
        for other in [
            &b"q/"[..],
            b"q/af",
            b"q/00000000000000AF",
            b"q/00000000000000af/00000000000000af",
            b"q/nested/00000000000000af",
            b"p/00000000000000af",
        ] {
            assert!(!is_entry(b"q/", other), "{other:?}");
        }
    }
}
