//! Locks, semaphores and elections: fair queues of keys on leases.
//!
//! Whoever wants something puts a key of its own, on a lease of its own, below the name of what it wants. The queue's order is
//! that of the keys' create revisions. Who stands first (of a semaphore: among the first) holds it; who waits, waits for the
//! key before its own alone, so that a release wakes one waiter. A key goes with its lease: released, by revoking it; lost, by
//! expiry. The create revision of the holder's key is its *fencing token*: it grows from holder to holder, and a write that
//! names it ([`crate::Transaction::guarded_by`]) is refused by the cluster once another may hold.
//!
//! The keys are `NAME/` and the lease's id in 16 hexadecimal digits; whatever else lies below the name is not looked at. So
//! other programs can join a queue, over HTTP too.

mod election;
mod lock;
mod place;
mod queue;
mod semaphore;
mod token;

pub use election::{Election, Leader, Leaders, Leadership};
pub use lock::{Lock, LockGuard};
pub use semaphore::{Permit, Semaphore};
pub use token::FencingToken;

use std::time::Duration;

/// The time to live of leases, unless said: a holder that dies is followed by the next one after it.
const DEFAULT_TTL: Duration = Duration::from_secs(10);
