//! The native client of raftkv.
//!
//! ```
//! use raftkv_client::{Applied, Client, Consistency};
//!
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), raftkv_client::Error> {
//! # let example = Example::start();
//! // One endpoint is enough, the others are learnt from it.
//! let client = Client::builder().endpoints(["127.0.0.1:7001"]).build()?;
//! # let client = example.client();
//!
//! let revision = client.set("colour", "blue").await?;
//! let record = client.get("colour").await?.expect("it was set just now");
//! assert_eq!(record.value, "blue");
//!
//! // Only if nobody changed it meanwhile.
//! match client.set("colour", "green").if_revision(revision).await {
//!     Ok(revision) => println!("now green, at revision {revision}"),
//!     Err(error) if error.applied() == Applied::No => println!("still what it was: {error}"),
//!     Err(error) => println!("read it before writing again: {error}"),
//! }
//!
//! // From the node that is asked, possibly old.
//! let old = client.get("colour").consistency(Consistency::Stale).await?;
//! client.delete("colour").await?;
//! # drop(old);
//! # Ok(())
//! # }
//! ```
//!
//! # Many keys, and the past
//! ```
//! use std::time::Duration;
//! use raftkv_client::{Client, KeySpan, Order};
//!
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), raftkv_client::Error> {
//! # let example = Example::start();
//! # let client = example.client();
//! # for number in 0..101 {
//! #     client.set(format!("user/{number:03}"), "x").await?;
//! # }
//! # client.set("colour", "blue").await?;
//! // One state, however long it takes and whatever is written meanwhile; two pages in memory at most. It is a
//! // `futures_core::Stream` as well.
//! let mut users = client.prefix("user/").stream();
//! while let Some(user) = users.next().await {
//!     let user = user?;
//!     println!("{:?} was changed at revision {}", user.key, user.record.mod_revision);
//! }
//!
//! // The last ten keys below "m", as they were a moment ago.
//! let below_m = KeySpan { from: "".into(), to: Some("m".into()) };
//! let range = client.range(below_m).order(Order::Descending).limit(10).ago(Duration::from_millis(1));
//! let then = range.collect_all(10).await?;
//!
//! // A page at a time: the cursor may be stored, and used by another process.
//! let page = client.prefix("user/").limit(100).page().await?;
//! if let Some(cursor) = page.cursor {
//!     let next = client.prefix("user/").limit(100).cursor(cursor).page().await?;
//!     assert_eq!(next.at, page.at);
//!     # assert_eq!(next.kvs.len(), 1);
//! }
//!
//! let how_many = client.prefix("user/").count().await?;
//! # assert_eq!(how_many, 101);
//! // All at once, at one revision; as many as one transaction may hold.
//! let deleted = client.delete_prefix("session/").await?;
//! println!("{} sessions ended at revision {}", deleted.count, deleted.revision);
//! let before = client.get("colour").at_revision(page.at).await?;
//! # assert!(before.is_some());
//! # drop((then, how_many, before));
//! # Ok(())
//! # }
//! ```
//! History is kept for a while only: what is older is refused with `compacted`, and the message names the oldest revision
//! that can still be read.
//!
//! # Locks, and who may write
//! [`Client::lock`], [`Client::semaphore`] and [`Client::election`] are fair queues of keys on leases. Whoever holds one has a
//! [`FencingToken`], and a transaction that is [guarded by](Transaction::guarded_by) it is refused once another may hold it: a
//! holder that was paused, or cut off, learns it late and does no harm.
//! ```
//! use raftkv_client::{Client, Error, Operation, Transaction};
//!
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/documented/example.rs"));
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), raftkv_client::Error> {
//! # let example = Example::start();
//! # let client = example.client();
//! let guard = client.lock("lock/report").acquire().await?;
//! let write = Transaction::new().guarded_by(guard.token()).then([Operation::put("report", "done")]);
//! client.transact(write.clone()).await?;
//! guard.release().await?;
//! match client.transact(write).await {
//!     Err(Error::NotHeld { token }) => println!("too late: {token}"),
//!     other => panic!("the lock was released, so this is not applied: {other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # One connection, many tasks
//! A [`Client`] is cheap to clone, and meant to be shared: requests of all tasks travel pipelined over one connection per
//! server (or a few, [`ClientBuilder::connections`]), gathered into one write, and answers come in any order. What does
//! not fit in flight waits, bounded, with its time-out running. Dropping a request's future is safe at any point: what was
//! not sent is not sent, and what was sent is forgotten with its answer.
//!
//! # What is tried again
//! A read, always. A write as well, and it is applied once: the client opens a session with its first write and numbers its
//! writes within, the cluster applies each number once, and answers it each time as it did the first time. So a time-out of one
//! attempt, a connection that breaks and a leader that dies cost time and no certainty. All of it within the request's
//! time-out, with a back-off, at those of the members that serve: they are learnt beside. Only if that passes is it
//! [`Error::OutcomeUnknown`]: it may have happened. [`Error::applied`] tells the two apart for every error.
//!
//! With [`Writes::AtMostOnce`] there is no session, and a write is tried again only when it is known not to have been applied.
//!
//! # TLS
//! [`ClientBuilder::tls`] names the authorities that are trusted, and the certificate to present; the servers' certificates must
//! name the hosts of their addresses. There is no falling back to a plain connection.
//!
//! # Watches
//! [`Client::watch`] is a stream of the changes of some keys. What is not taken out of it the server does not send, beyond
//! [`WatchBuilder::buffer_bytes`]; it is tried again for ever, at one node after the other, once it has begun.

mod backoff;
mod builder;
mod call;
mod client;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod command_line;
pub mod connection;
mod coordination;
mod delete_range;
mod endpoints;
mod error;
mod in_flight;
mod lane;
mod lease;
#[doc(hidden)]
pub mod numbering;
mod range;
mod request;
mod retry;
mod session;
mod txn;
mod watch;

pub use builder::{ClientBuilder, Writes};
pub use client::Client;
pub use coordination::{
    Election, FencingToken, Leader, Leaders, Leadership, Lock, LockGuard, Permit, Semaphore,
};
pub use delete_range::{DeleteRange, DeletedRange};
pub use error::{Applied, Error, UnknownReason};
pub use lease::{KeepAlive, Lease};
pub use raftkv_protocol::{
    Address, At, Branch, CheckedFiles, Consistency, DifferingMember, ErrorCode, EventFilter, Failure, Force,
    HistoryEpoch, KeySpan, KeyValue, LeaderHint, LeaseId, LeaseState, MAX_TXN_KEYS, Member, MemberCommand,
    NodeName, OpResult, Order, Promotion, RangePage, ReadBasis, Record, Relation, Revision, RoleName,
    ScrubPass, ScrubState, Shape, Status, TxnResult, WatchEvent, WhenSlow,
};
pub use raftkv_tls::{TlsError, TlsFiles};
pub use range::{Range, RangeStream};
pub use request::{Delete, Deleted, Get, Set};
pub use txn::{Check, Operation, Target, Transaction};
pub use watch::{Watch, WatchBuilder, WatchItem, WatchPosition};
