//! The native port: peers, clients and forwarding nodes on one listener; the first frame says who speaks.
//!
//! - What does not keep to the protocol gets a typed refusal while the handshake lasts, and is closed either way; the
//!   reason stands in the log at debug level, because anybody can send garbage.
//! - Somebody who speaks HTTP here is told where to go.
//! - Nothing is allocated for what a length claims, only for what has arrived; one connection never waits for another.

mod accept;
mod client;
mod outbox;
mod peer;

pub(crate) use accept::{Doorway, accept};
pub(crate) use outbox::{ClientOutbox, Listing};
