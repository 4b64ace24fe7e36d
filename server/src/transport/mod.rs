//! Connections that this node makes: to its peers, and to the leader to pass requests on.
//!
//! Between nodes the unit of transport is a message to an address; it may be lost, doubled or late. Each direction has a
//! connection of its own: a node sends on the one it made, and reads from the one the other node made. When an
//! established connection is ended by the other side's process, in either direction, the node is told
//! ([`Event::PeerReset`](crate::replica::Event::PeerReset)): that is how a killed leader is noticed long before a
//! time-out. A connection that this side gives up, or that a silent network lets die, says nothing of the kind.
//!
//! What is absent: no message is ever sent twice by the transport, and none is kept for a peer that can not be reached.

mod backoff;
mod dial;
mod forward_link;
pub(crate) mod handshake;
mod peer_link;
mod peer_queue;
pub(crate) mod socket;
mod tls;

pub(crate) use dial::Dialer;
pub(crate) use forward_link::{Forward, ForwardLinks};
pub(crate) use peer_link::PeerLinks;
pub use tls::TlsConfig;
pub(crate) use tls::{Tls, Trust};
