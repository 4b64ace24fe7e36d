//! What the tasks of the node thread know of their node, without asking it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use raftkv_protocol::{Address, Availability, ClusterId, HistoryEpoch, Limits, NodeId, NodeName, Speaker};

use crate::config::Bounds;
use crate::membership::{FIRST_EPOCH, Membership};
use crate::native::ClientOutbox;
use crate::transport::Tls;

/// Most nodes whose address is remembered; more than any cluster has.
const MAX_KNOWN_PEERS: usize = 256;

/// Who this node is, and who is connected.
#[derive(Debug)]
pub(crate) struct NodeContext {
    pub(crate) identity: NodeId,
    /// Where others are told its HTTP API is.
    pub(crate) http: Option<Address>,
    pub(crate) limits: Limits,
    pub(crate) bounds: Bounds,
    /// `None`: connections are plain.
    pub(crate) tls: Option<Arc<Tls>>,
    cluster: Cell<Option<ClusterId>>,
    epoch: Cell<HistoryEpoch>,
    clients: RefCell<Vec<Weak<ClientOutbox>>>,
    peers: RefCell<BTreeMap<NodeId, Address>>,
    is_stopping: Cell<bool>,
}

/// How many connections are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Few,
    TooMany,
}

/// What others are told of this node.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: NodeName,
    pub(crate) identity: NodeId,
    pub(crate) address: Address,
    pub(crate) http: Option<Address>,
    pub(crate) cluster: Option<ClusterId>,
}

impl NodeContext {
    pub(crate) fn new(
        identity: Identity,
        limits: Limits,
        bounds: Bounds,
        tls: Option<Arc<Tls>>,
    ) -> NodeContext {
        NodeContext {
            identity: identity.identity,
            http: identity.http,
            limits,
            bounds,
            tls,
            cluster: Cell::new(identity.cluster),
            epoch: Cell::new(FIRST_EPOCH),
            clients: RefCell::default(),
            peers: RefCell::default(),
            is_stopping: Cell::new(false),
        }
    }

    /// The cluster this node belongs to; `None`: it is unformed.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.cluster.get()
    }

    /// The node became a member. Connections that were welcomed by an unformed node end: what their handshake told
    /// about the cluster holds no more, and clients connect again.
    pub(crate) fn join_cluster(&self, membership: &Membership) {
        self.know_members(membership);
        if self.cluster.replace(Some(membership.cluster)).is_none() {
            for client in self.clients.borrow().iter().filter_map(Weak::upgrade) {
                client.finish();
            }
        }
    }

    /// The history epoch of its cluster.
    pub(crate) fn epoch(&self) -> HistoryEpoch {
        self.epoch.get()
    }

    pub(crate) fn know_members(&self, membership: &Membership) {
        self.epoch.set(membership.epoch);
        for member in membership.everyone() {
            self.note_peer(member.identity, &member.address);
        }
    }

    /// Remembers where a node is. Bounded: a stranger can only make us forget to learn more.
    pub(crate) fn note_peer(&self, identity: NodeId, address: &Address) {
        let mut peers = self.peers.borrow_mut();
        if peers.len() < MAX_KNOWN_PEERS || peers.contains_key(&identity) {
            peers.insert(identity, address.clone());
        }
    }

    pub(crate) fn peer_address(&self, identity: NodeId) -> Option<Address> {
        self.peers.borrow().get(&identity).cloned()
    }

    /// From now on new connections are refused.
    pub(crate) fn begin_stop(&self) {
        self.is_stopping.set(true);
    }

    /// What a new connection is told.
    pub(crate) fn availability(&self, open: Open, speaker: Speaker) -> Availability {
        match (open, speaker) {
            _ if self.is_stopping.get() => Availability::ShuttingDown,
            (Open::TooMany, Speaker::Client) => Availability::Full,
            // Consensus must not stop because there are many clients.
            (Open::TooMany, Speaker::Peer | Speaker::Forwarder) | (Open::Few, _) => Availability::Serving,
        }
    }

    /// Notes a client's connection, so that a graceful stop can wait for its answers to leave.
    pub(crate) fn note_client(&self, outbox: &Rc<ClientOutbox>) {
        let mut clients = self.clients.borrow_mut();
        if clients.len() == clients.capacity() {
            clients.retain(|client| client.strong_count() > 0);
        }
        clients.push(Rc::downgrade(outbox));
    }

    /// Is a client, or a node that passes requests on, connected?
    pub(crate) fn has_clients(&self) -> bool {
        self.count_clients() > 0
    }

    /// How many clients, and nodes that pass requests on, are connected.
    pub(crate) fn count_clients(&self) -> usize {
        let clients = self.clients.borrow();
        clients.iter().filter(|client| client.strong_count() > 0).count()
    }

    pub(crate) fn are_answers_sent(&self) -> bool {
        self.clients
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .all(|client| client.is_idle())
    }
}
