//! Leases: keys that hang on one live as long as it is renewed.

use std::time::Duration;

use raftkv_protocol::{Answer, Command, LeaseId, LeaseQuery, LeaseState, Request};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{Client, unexpected};
use crate::error::{Applied, Error};
use crate::request::write;

/// A renewal is due when this part of the time to live is over: two more may fail before it is lost.
const RENEWALS_PER_TTL: u32 = 3;

/// After a failed renewal the next one comes no sooner than this.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What keys name it by: [`crate::Operation::lease`].
    pub id: LeaseId,
    /// How long it lives without renewal.
    pub ttl: Duration,
}

impl Client {
    /// Makes a lease that lives so long without renewal, counted in milliseconds of the cluster's log time.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the time to live is nothing.
    pub async fn grant_lease(&self, ttl: Duration) -> Result<Lease, Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        match write(self, &Command::GrantLease { id: None, ttl_ms }).await? {
            Answer::LeaseGranted { id, ttl_ms } => Ok(Lease {
                id,
                ttl: Duration::from_millis(ttl_ms),
            }),
            other => Err(unexpected("a lease", &other, Applied::Unknown)),
        }
    }

    /// Lets a lease live its whole time again, from now on; that time, or `None` when there is no such lease any more.
    ///
    /// # Errors
    /// As any write.
    pub async fn renew_lease(&self, lease: LeaseId) -> Result<Option<Duration>, Error> {
        match write(self, &Command::RenewLeases { ids: vec![lease] }).await? {
            Answer::LeasesRenewed(renewed) => {
                Ok(renewed.first().copied().flatten().map(Duration::from_millis))
            }
            other => Err(unexpected("a renewed lease", &other, Applied::Unknown)),
        }
    }

    /// Ends a lease and deletes the keys that hang on it; how many those were.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such lease.
    pub async fn revoke_lease(&self, lease: LeaseId) -> Result<u64, Error> {
        match write(self, &Command::RevokeLease { id: lease }).await? {
            Answer::LeaseRevoked { deleted, .. } => Ok(deleted),
            other => Err(unexpected("a revoked lease", &other, Applied::Unknown)),
        }
    }

    /// A lease, how long it lives from now on, and the keys that hang on it; `None` when there is none.
    ///
    /// # Errors
    /// As any read.
    pub async fn lease(&self, lease: LeaseId) -> Result<Option<LeaseState>, Error> {
        match self.execute(Request::Lease(LeaseQuery::One(lease))).await? {
            Answer::Lease(state) => Ok(state),
            other => Err(unexpected("a lease", &other, Applied::No)),
        }
    }

    /// The leases behind `after` in the order of their ids, as many as fit one answer; none: there are no more.
    ///
    /// # Errors
    /// As any read.
    pub async fn leases(&self, after: LeaseId) -> Result<Vec<LeaseState>, Error> {
        match self.execute(Request::Lease(LeaseQuery::After(after))).await? {
            Answer::Leases(leases) => Ok(leases),
            other => Err(unexpected("leases", &other, Applied::No)),
        }
    }

    /// Renews a lease in time, again and again, for as long as the returned handle lives.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use raftkv_client::{Client, Operation, Transaction};
    ///
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), raftkv_client::Error> {
    /// # let example = Example::start();
    /// let client = Client::builder().endpoints(["127.0.0.1:7001"]).build()?;
    /// # let client = example.client();
    /// let begun = Instant::now();
    /// let lease = client.grant_lease(Duration::from_secs(10)).await?;
    /// let kept = client.keep_alive(lease, begun);
    /// let here = Operation::put("service/a", "10.0.0.1:80").lease(lease.id);
    /// client.transact(Transaction::new().then([here])).await?;
    ///
    /// // The key is there for as long as this program renews the lease. When it can not any more, it learns it in time.
    /// tokio::select! {
    ///     () = kept.lost() => println!("the key may be gone"),
    ///     () = std::future::ready(()) => println!("what is to be done meanwhile is done"),
    /// }
    /// client.revoke_lease(lease.id).await?;
    /// assert_eq!(client.get("service/a").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Call it just after the lease was granted or renewed: its time is counted from when that was asked for, which is what
    /// `begun` says.
    pub fn keep_alive(&self, lease: Lease, begun: std::time::Instant) -> KeepAlive {
        let until = Instant::from_std(begun) + lease.ttl;
        let (sender, state) = watch::channel(Held::Until(until));
        let task = tokio::spawn(renew(self.clone(), lease, sender));
        KeepAlive { state, task }
    }
}

/// How long a lease is known to live.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// At least until then.
    Until(Instant),
    /// It is not there any more.
    Ended,
}

/// Keeps a lease alive while it lives; see [`Client::keep_alive`]. Dropped, it ends the renewing, not the lease.
#[derive(Debug)]
pub struct KeepAlive {
    state: watch::Receiver<Held>,
    task: JoinHandle<()>,
}

impl KeepAlive {
    /// Is the lease known to live at this moment? It is counted from when its last renewal was asked for, by this machine's
    /// clock: while that runs no slower than the cluster's by more than the round trip, nobody else's view is ahead of it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(*self.state.borrow(), Held::Until(until) if Instant::now() < until)
    }

    /// Waits until the lease is not known to live any more: it has ended, or could not be renewed in time.
    pub async fn lost(&self) {
        self.ending_within(Duration::ZERO).await;
    }

    /// Waits until the lease is not known to live for as long as `margin` from now: it has ended, or could not be renewed for a
    /// while. Who needs time to stop what the lease protects learns it here before it is too late. A margin beyond two thirds of
    /// the time to live is reached in normal times.
    pub async fn ending_within(&self, margin: Duration) {
        let mut state = self.state.clone();
        loop {
            let held = *state.borrow_and_update();
            let Held::Until(until) = held else { return };
            let at = until.checked_sub(margin).unwrap_or(until);
            tokio::select! {
                // A renewal that came in the same moment counts.
                biased;
                changed = state.changed() => {
                    if changed.is_err() {
                        tokio::time::sleep_until(at).await;
                        return;
                    }
                }
                () = tokio::time::sleep_until(at) => return,
            }
        }
    }

    /// Waits until it is known that the lease has ended. Unlike [`KeepAlive::lost`] it does not give up on a cluster that can
    /// not be reached: what waits for something, and protects nothing yet, has no reason to.
    pub(crate) async fn ended(&self) {
        let mut state = self.state.clone();
        let is_known = state.wait_for(|held| matches!(held, Held::Ended)).await.is_ok();
        if !is_known {
            // Nobody renews it any more; so nobody will know.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn renew(client: Client, lease: Lease, state: watch::Sender<Held>) {
    let pause = lease.ttl / RENEWALS_PER_TTL;
    let mut next = Instant::now() + pause;
    loop {
        tokio::time::sleep_until(next).await;
        let asked = Instant::now();
        // One whose answer is lost must not take the time of the next: to renew twice does no harm.
        let renewed = tokio::time::timeout(pause, client.renew_lease(lease.id)).await;
        next = match renewed {
            Ok(Ok(Some(ttl))) => {
                state.send_replace(Held::Until(asked + ttl));
                asked + pause
            }
            Ok(Ok(None)) => {
                state.send_replace(Held::Ended);
                return;
            }
            // Whether it was applied or not: as long as there is time it is tried again, and beyond it the holder knows.
            Ok(Err(_)) | Err(_) => Instant::now() + RETRY_PAUSE.min(pause),
        };
    }
}
