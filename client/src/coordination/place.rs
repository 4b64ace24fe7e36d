//! A place in a queue: a key on a lease that is kept alive. Whoever holds a lock has the first place.

use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, EventFilter, KeySpan, OpResult, Revision, Shape};
use tokio::runtime::Handle;

use super::queue::{Entered, changed};
use super::token::FencingToken;
use crate::client::Client;
use crate::error::{Applied, Error};
use crate::lease::{KeepAlive, Lease};
use crate::txn::{Check, Operation, Transaction};

/// After a failed attempt the next one comes no sooner than this.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One in a queue, waiting or holding. Dropped, it leaves: its lease is revoked beside, and expires if that fails.
#[derive(Debug)]
pub(super) struct Place {
    client: Client,
    lease: Lease,
    keep_alive: Option<KeepAlive>,
    token: FencingToken,
    runtime: Handle,
    has_left: bool,
}

impl Place {
    /// Joins the queue of keys that begin with `prefix`, at its end.
    pub(super) async fn join(
        client: &Client,
        prefix: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<Place, Error> {
        let (lease, begun) = grant(client, ttl).await?;
        let key = Bytes::from([prefix, format!("{:016x}", lease.id.0).as_bytes()].concat());
        // From here on whoever gives up leaves the queue by dropping this.
        let mut place = Place {
            client: client.clone(),
            lease,
            keep_alive: Some(client.keep_alive(lease, begun)),
            token: FencingToken::new(key.clone(), Revision(0)),
            runtime: Handle::current(),
            has_left: false,
        };
        place.token = FencingToken::new(key, place.put_key(value).await?);
        Ok(place)
    }

    /// Puts the key, once, however often it has to be asked for; the revision that made it. The lease makes it safe: whatever
    /// attempt is applied late finds the key there, or the lease gone.
    async fn put_key(&self, value: Bytes) -> Result<Revision, Error> {
        let key = self.token.key();
        let entry = Transaction::new()
            .when([Check::absent(key.clone())])
            .then([Operation::put(key.clone(), value).lease(self.lease.id)])
            .otherwise([Operation::get(key.clone())]);
        loop {
            match self.client.transact(entry.clone()).await {
                Ok(done) if done.succeeded() => return Ok(done.revision),
                Ok(done) => match &done.results[..] {
                    [OpResult::Got { kvs, .. }] if kvs.len() == 1 => {
                        return Ok(kvs[0].record.create_revision);
                    }
                    _ => return Err(self.not_held()),
                },
                Err(error) if error.applied() == Applied::Unknown && self.is_held() => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn token(&self) -> &FencingToken {
        &self.token
    }

    /// As a queue's listing tells it.
    pub(super) fn entered(&self) -> Entered<'_> {
        Entered {
            revision: self.token.revision(),
            key: self.token.key(),
        }
    }

    pub(super) fn not_held(&self) -> Error {
        Error::NotHeld {
            token: self.token.clone(),
        }
    }

    /// Is its lease known to live at this moment, by this machine's clock?
    pub(super) fn is_held(&self) -> bool {
        self.keep_alive.as_ref().is_some_and(KeepAlive::is_held)
    }

    /// Waits until its lease is known to have ended.
    pub(super) async fn ended(&self) {
        if let Some(keep_alive) = &self.keep_alive {
            keep_alive.ended().await;
        }
    }

    /// Waits until it is not known any more that the key is there for as long as `margin` from now.
    pub(super) async fn lost_within(&self, margin: Duration) {
        let Some(keep_alive) = &self.keep_alive else {
            return;
        };
        tokio::select! {
            () = keep_alive.ending_within(margin) => {}
            () = self.taken_away() => {}
        }
    }

    /// Waits until the cluster tells that the key was deleted. Before the lease expires that takes somebody who revokes it; a
    /// renewal would tell of it too, but later.
    async fn taken_away(&self) {
        let span = KeySpan::one(self.token.key());
        let mut behind = self.token.revision();
        loop {
            // One that fails (what lies behind is not kept) is as good as a change.
            let _ = changed(&self.client, span.clone(), EventFilter::Deletes, behind).await;
            match self
                .client
                .range(span.clone())
                .shape(Shape::KeysOnly)
                .page()
                .await
            {
                Ok(page) => match page.kvs.first() {
                    Some(kv) if kv.record.create_revision == self.token.revision() => behind = page.at,
                    Some(_) | None => return,
                },
                // The lease's own clock goes on beside.
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Writes its value anew, if it still has its place.
    pub(super) async fn rewrite(&self, value: Bytes) -> Result<Revision, Error> {
        let put = Operation::put(self.token.key().clone(), value).lease(self.lease.id);
        let written = Transaction::new().guarded_by(&self.token).then([put]);
        match self.client.transact(written).await {
            Ok(done) => Ok(done.revision),
            Err(Error::Rejected(failure)) if failure.code == ErrorCode::LeaseNotFound => Err(self.not_held()),
            Err(error) => Err(error),
        }
    }

    /// Leaves the queue; returns when it has.
    pub(super) async fn leave(mut self) -> Result<(), Error> {
        self.keep_alive = None;
        let leaving = tokio::time::timeout(self.lease.ttl, leave(&self.client, self.lease));
        let left = leaving.await.unwrap_or(Err(Error::TimedOut {
            after: self.lease.ttl,
        }));
        // One that failed is tried again beside.
        self.has_left = left.is_ok();
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keep_alive = None;
        if self.has_left {
            return;
        }
        let (client, lease) = (self.client.clone(), self.lease);
        self.runtime.spawn(async move {
            let leaving = async {
                while leave(&client, lease).await.is_err_and(|error| may_help(&error)) {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            };
            // Beyond that it has expired by itself.
            let _ = tokio::time::timeout(lease.ttl, leaving).await;
        });
    }
}

/// Could the same request succeed a little later?
pub(super) fn may_help(error: &Error) -> bool {
    match error {
        Error::NoLeader(_)
        | Error::Overloaded(_)
        | Error::Unreachable(_)
        | Error::TimedOut { .. }
        | Error::OutcomeUnknown { .. }
        | Error::Unanswered(_) => true,
        Error::NoEndpoints
        | Error::InvalidEndpoint { .. }
        | Error::Tls(_)
        | Error::Rejected(_)
        | Error::ConditionFailed { .. }
        | Error::NotHeld { .. }
        | Error::NotAcquired { .. }
        | Error::UnexpectedAnswer { .. }
        | Error::Closed => false,
    }
}

/// A lease whose grant got lost holds no key, and expires: another one is as good.
async fn grant(client: &Client, ttl: Duration) -> Result<(Lease, Instant), Error> {
    let give_up_at = Instant::now() + client.time_out();
    loop {
        let begun = Instant::now();
        match client.grant_lease(ttl).await {
            Ok(lease) => return Ok((lease, begun)),
            Err(error) if error.applied() == Applied::Unknown && Instant::now() < give_up_at => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            // What may have been granted stands for nothing.
            Err(Error::OutcomeUnknown { .. }) => {
                return Err(Error::TimedOut {
                    after: client.time_out(),
                });
            }
            Err(error) => return Err(error),
        }
    }
}

async fn leave(client: &Client, lease: Lease) -> Result<(), Error> {
    loop {
        match client.revoke_lease(lease.id).await {
            Ok(_) => return Ok(()),
            Err(Error::Rejected(failure)) if failure.code == ErrorCode::LeaseNotFound => return Ok(()),
            // To revoke twice does no harm.
            Err(Error::OutcomeUnknown { .. }) => tokio::time::sleep(RETRY_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}
