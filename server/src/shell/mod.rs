//! The threads of one node, and the loop that feeds events in and carries effects out.
//!
//! ```text
//! connection tasks --+                                  +--> log thread, reader thread
//! door (HTTP) -------+--> inbox --> loop around Node ---+--> links to peers and to the leader, answers to HTTP
//! log and store threads --> mailbox ^                    +--> each client's outbox
//! watch thread -----------> mailbox ^                    +--> watch thread: what was recorded
//! ```
//! One batch of the loop: take all that waits, let the node act once, carry its effects out, write once per connection.
//! Nothing here decides anything about keys, terms or revisions.

mod answer_post;
mod call_post;
mod clock;
mod console;
mod dev;
mod door;
mod error;
mod inbox;
mod listeners;
mod log_workers;
mod logging;
mod node_context;
mod node_loop;
mod node_thread;
mod notice;
mod panic_guard;
mod pending;
mod range_workers;
mod recover;
mod recovery_mark;
mod server;
mod signals;
mod snapshot_workers;
mod storage;
mod store_workers;
mod watch_desk;
mod watch_feed;
mod watch_worker;

pub use console::{complain, end_process_on_panic};
pub use error::ServerError;
pub use listeners::Listeners;
pub use logging::init_logging;
pub use server::{Server, ServerHandle, run, run_command, run_flags};

pub(crate) use answer_post::AnswerRound;
#[cfg(test)]
pub(crate) use answer_post::answer_post;
pub(crate) use clock::Clock;
pub(crate) use door::{Door, WatchCall, stopping};
#[cfg(test)]
pub(crate) use inbox::Mailbox;
pub(crate) use inbox::{Asked, Inbox};
pub(crate) use node_context::{NodeContext, Open};
pub(crate) use pending::Origin;
pub(crate) use watch_desk::WatchDesk;
pub(crate) use watch_feed::{WatchFeed, WatchKey};
