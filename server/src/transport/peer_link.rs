//! The outgoing connections to other nodes: one per address, made when there is something to say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raftkv_protocol::{Address, PeerMessage, encode_peer};
use raftkv_tls::{Flushed, Stream};
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::dial::{Dialer, Dialled};
use super::handshake;
use super::peer_queue::PeerQueue;
use super::socket::{self, Read, ReadBuffer};
use crate::replica::Event;
use crate::shell::Inbox;

/// Encoded and unsent bytes beyond which messages wait unencoded, where they can still be dropped.
const ENCODED_BYTES: usize = 1 << 20;

/// Most addresses that are spoken to; more than any cluster has, so only nonsense is refused.
const MAX_LINKS: usize = 256;

/// A connection that ends sooner counts as a failed attempt: a peer that welcomes us and then hangs up every time must
/// not be dialled in a tight loop.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// All outgoing peer connections.
#[derive(Debug)]
pub(crate) struct PeerLinks {
    dialer: Rc<Dialer>,
    inbox: Rc<Inbox>,
    max_unsent_bytes: usize,
    links: RefCell<BTreeMap<Address, Rc<PeerLink>>>,
    /// Links with messages of this batch.
    listed: RefCell<Vec<Rc<PeerLink>>>,
}

impl PeerLinks {
    pub(crate) fn new(dialer: Rc<Dialer>, inbox: Rc<Inbox>, max_unsent_bytes: usize) -> PeerLinks {
        PeerLinks {
            dialer,
            inbox,
            max_unsent_bytes,
            links: RefCell::default(),
            listed: RefCell::default(),
        }
    }

    /// Takes a message; it leaves with [`PeerLinks::flush`], or once the connection is there, or never.
    pub(crate) fn send(&self, to: &Address, message: PeerMessage) {
        let Some(link) = self.link(to) else {
            tracing::debug!(%to, "too many peer addresses; a message was dropped");
            return;
        };
        if link.push(message) {
            self.listed.borrow_mut().push(link);
        }
    }

    /// Writes what the batch gathered, one system call per peer.
    pub(crate) fn flush(&self) {
        for link in self.listed.borrow_mut().drain(..) {
            link.flush();
        }
    }

    /// A node at this address has just connected to us, so connecting to it is worth another try now.
    pub(crate) fn nudge(&self, address: &Address) {
        if let Some(link) = self.links.borrow().get(address) {
            link.nudge.notify_one();
        }
    }

    fn link(&self, to: &Address) -> Option<Rc<PeerLink>> {
        let mut links = self.links.borrow_mut();
        if let Some(link) = links.get(to) {
            return Some(link.clone());
        }
        if links.len() >= MAX_LINKS {
            return None;
        }
        let link = Rc::new(PeerLink::new(to.clone(), self.max_unsent_bytes));
        links.insert(to.clone(), link.clone());
        tokio::task::spawn_local(link.clone().run(self.dialer.clone(), self.inbox.clone()));
        Some(link)
    }
}

#[derive(Debug)]
struct PeerLink {
    address: Address,
    state: RefCell<State>,
    /// Rings when a message waits and there is no connection.
    wanted: Notify,
    /// Rings when the wait before the next attempt is pointless.
    nudge: Notify,
    /// Rings when the socket did not take everything, or failed.
    stalled: Notify,
}

#[derive(Debug)]
struct State {
    queue: PeerQueue,
    unsent: BytesMut,
    stream: Option<Rc<Stream>>,
    is_listed: bool,
    failed: Option<io::Error>,
}

impl PeerLink {
    fn new(address: Address, max_unsent_bytes: usize) -> PeerLink {
        PeerLink {
            address,
            state: RefCell::new(State {
                queue: PeerQueue::new(max_unsent_bytes),
                unsent: BytesMut::new(),
                stream: None,
                is_listed: false,
                failed: None,
            }),
            wanted: Notify::new(),
            nudge: Notify::new(),
            stalled: Notify::new(),
        }
    }

    /// Returns whether this is the link's first message of the batch.
    fn push(&self, message: PeerMessage) -> bool {
        let state = &mut *self.state.borrow_mut();
        if state.stream.is_none() {
            state.queue.push(message);
            self.wanted.notify_one();
            return false;
        }
        if state.queue.is_empty() && state.unsent.len() < ENCODED_BYTES {
            encode_peer(&mut state.unsent, &message);
        } else {
            state.queue.push(message);
        }
        !std::mem::replace(&mut state.is_listed, true)
    }

    fn flush(&self) {
        let state = &mut *self.state.borrow_mut();
        state.is_listed = false;
        match state.write() {
            Ok(Flushed::All) => {}
            Ok(Flushed::Part) => self.stalled.notify_one(),
            Err(error) => {
                state.failed = Some(error);
                self.stalled.notify_one();
            }
        }
    }

    async fn run(self: Rc<PeerLink>, dialer: Rc<Dialer>, inbox: Rc<Inbox>) {
        let mut backoff = Backoff::new();
        // Without randomness waits are no longer spread; connecting works all the same.
        let mut random = fastrand::Rng::with_seed(getrandom::u64().unwrap_or_default());
        loop {
            if self.state.borrow().queue.is_empty() {
                self.wanted.notified().await;
                continue;
            }
            match dialer.dial_peer(&self.address).await {
                Ok(dialled) => {
                    let since = Instant::now();
                    self.serve(dialled, &inbox).await;
                    if since.elapsed() >= PROVEN_AFTER {
                        backoff.reset();
                    } else {
                        self.pause(backoff.next(random.f64())).await;
                    }
                }
                Err(error) => {
                    dialer.log_failure(&self.address, &error);
                    self.state.borrow_mut().queue.clear();
                    self.pause(backoff.next(random.f64())).await;
                }
            }
        }
    }

    async fn pause(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.nudge.notified() => {}
        }
    }

    /// Uses an established connection until it ends; a process that ended it is an event for the node.
    async fn serve(&self, dialled: Dialled, inbox: &Inbox) {
        tracing::debug!(peer = %self.address, "connected");
        let stream = dialled.stream;
        self.state.borrow_mut().stream = Some(stream.clone());
        self.flush();
        let error = tokio::select! {
            Err(error) = self.write_rest(&stream) => error,
            error = read_nothing(&stream, dialled.incoming.buffer) => error,
            error = dialled.trust.lost(stream.peer_certificates()) => error,
        };
        self.state.borrow_mut().disconnect();
        tracing::debug!(peer = %self.address, %error, "the connection to a peer ended");
        if socket::is_reset(&error) {
            inbox.push(Event::PeerReset(self.address.clone()));
        }
    }

    async fn write_rest(&self, stream: &Stream) -> io::Result<Infallible> {
        loop {
            self.stalled.notified().await;
            if let Some(error) = self.state.borrow_mut().failed.take() {
                return Err(error);
            }
            stream.writable().await?;
            self.flush();
        }
    }
}

impl State {
    fn write(&mut self) -> io::Result<Flushed> {
        let Some(stream) = &self.stream else {
            return Ok(Flushed::All);
        };
        loop {
            while self.unsent.len() < ENCODED_BYTES
                && let Some(message) = self.queue.pop()
            {
                encode_peer(&mut self.unsent, &message);
            }
            let flushed = socket::flush(stream, &mut self.unsent)?;
            if flushed == Flushed::Part || self.queue.is_empty() {
                return Ok(flushed);
            }
        }
    }

    fn disconnect(&mut self) {
        self.stream = None;
        self.failed = None;
        self.unsent = BytesMut::new();
        self.queue.clear();
    }
}

/// Waits for the end of a connection on which nothing is to be read: messages back come on the peer's own connection.
async fn read_nothing(stream: &Stream, mut buffer: ReadBuffer) -> io::Error {
    loop {
        match buffer.fill(stream).await {
            Ok(Read::Some) => buffer.bytes.clear(),
            Ok(Read::End) => return handshake::closed(),
            Err(error) => return error,
        }
    }
}
