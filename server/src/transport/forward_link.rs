//! Requests on their way to the leader: one connection per address, many requests under way on it, answered in any order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use raftkv_protocol::{
    Address, ConnectionContext, Request, RequestId, Response, decode_response, encode_request,
};
use raftkv_raft::Time;
use raftkv_tls::{Flushed, Stream};
use tokio::sync::Notify;

use super::dial::{Dialer, Dialled};
use super::handshake::{self, Incoming};
use super::socket::{self, Read};
use crate::replica::{Event, ForwardOutcome, Token};
use crate::shell::{Clock, Inbox};

/// Unsent bytes beyond which nothing more is forwarded: the leader does not keep up, and its node says so to clients.
const MAX_UNSENT_BYTES: usize = 16 << 20;

/// Most requests under way to one leader.
const MAX_UNANSWERED: usize = 65_536;

/// A request to pass on.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) token: Token,
    pub(crate) request: Request,
    pub(crate) deadline: Time,
}

/// All forwarding connections.
#[derive(Debug)]
pub(crate) struct ForwardLinks {
    dialer: Rc<Dialer>,
    inbox: Rc<Inbox>,
    clock: Clock,
    links: RefCell<BTreeMap<Address, Rc<ForwardLink>>>,
    listed: RefCell<Vec<Rc<ForwardLink>>>,
}

impl ForwardLinks {
    pub(crate) fn new(dialer: Rc<Dialer>, inbox: Rc<Inbox>, clock: Clock) -> ForwardLinks {
        ForwardLinks {
            dialer,
            inbox,
            clock,
            links: RefCell::default(),
            listed: RefCell::default(),
        }
    }

    /// Takes a request; what became of it comes as [`Event::Forwarded`].
    pub(crate) fn forward(&self, to: &Address, forward: Forward) {
        let link = self.link(to);
        if link.push(forward, self.clock.now()) {
            self.listed.borrow_mut().push(link);
        }
    }

    pub(crate) fn flush(&self) {
        for link in self.listed.borrow_mut().drain(..) {
            link.flush();
        }
    }

    fn link(&self, to: &Address) -> Rc<ForwardLink> {
        let mut links = self.links.borrow_mut();
        let make = || {
            let link = Rc::new(ForwardLink::new(to.clone(), self.inbox.clone()));
            tokio::task::spawn_local(link.clone().run(self.dialer.clone(), self.clock));
            link
        };
        links.entry(to.clone()).or_insert_with(make).clone()
    }
}

#[derive(Debug)]
struct ForwardLink {
    address: Address,
    inbox: Rc<Inbox>,
    state: RefCell<State>,
    wanted: Notify,
    stalled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Taken while there was no connection.
    waiting: Vec<Forward>,
    unsent: BytesMut,
    /// Given to the connection, not answered.
    unanswered: BTreeMap<RequestId, Token>,
    last_id: u64,
    stream: Option<Rc<Stream>>,
    is_listed: bool,
    failed: Option<io::Error>,
}

impl ForwardLink {
    fn new(address: Address, inbox: Rc<Inbox>) -> ForwardLink {
        ForwardLink {
            address,
            inbox,
            state: RefCell::default(),
            wanted: Notify::new(),
            stalled: Notify::new(),
        }
    }

    /// Returns whether this is the link's first request of the batch.
    fn push(&self, forward: Forward, now: Time) -> bool {
        let state = &mut *self.state.borrow_mut();
        let is_full = state.unsent.len() > MAX_UNSENT_BYTES
            || state.unanswered.len() + state.waiting.len() >= MAX_UNANSWERED;
        if is_full {
            self.report(forward.token, ForwardOutcome::NotSent);
            return false;
        }
        if state.stream.is_none() {
            state.waiting.push(forward);
            self.wanted.notify_one();
            return false;
        }
        state.encode(&forward, now);
        !std::mem::replace(&mut state.is_listed, true)
    }

    fn flush(&self) {
        let state = &mut *self.state.borrow_mut();
        state.is_listed = false;
        let Some(stream) = &state.stream else { return };
        match socket::flush(stream, &mut state.unsent) {
            Ok(Flushed::All) => {}
            Ok(Flushed::Part) => self.stalled.notify_one(),
            Err(error) => {
                state.failed = Some(error);
                self.stalled.notify_one();
            }
        }
    }

    async fn run(self: Rc<ForwardLink>, dialer: Rc<Dialer>, clock: Clock) {
        loop {
            if self.state.borrow().waiting.is_empty() {
                self.wanted.notified().await;
                continue;
            }
            match dialer.dial_forwarder(&self.address).await {
                Ok(dialled) => self.serve(dialled, clock).await,
                Err(error) => {
                    dialer.log_failure(&self.address, &error);
                    let waiting = std::mem::take(&mut self.state.borrow_mut().waiting);
                    for forward in waiting {
                        self.report(forward.token, ForwardOutcome::NotSent);
                    }
                }
            }
        }
    }

    async fn serve(&self, dialled: Dialled, clock: Clock) {
        let Dialled {
            stream,
            incoming,
            context,
            trust,
        } = dialled;
        let late = self.state.borrow_mut().connect(stream.clone(), clock.now());
        for token in late {
            self.report(token, ForwardOutcome::NotSent);
        }
        self.flush();
        let error = tokio::select! {
            Err(error) = self.write_rest(&stream) => error,
            error = self.read_answers(&stream, incoming, &context) => error,
            error = trust.lost(stream.peer_certificates()) => error,
        };
        tracing::debug!(leader = %self.address, %error, "a forwarding connection ended");
        let lost = self.state.borrow_mut().disconnect();
        for token in lost {
            self.report(token, ForwardOutcome::Lost);
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

    async fn read_answers(
        &self,
        stream: &Stream,
        mut incoming: Incoming,
        context: &ConnectionContext,
    ) -> io::Error {
        loop {
            if let Err(error) = self.take_answers(&mut incoming, context) {
                return error;
            }
            match incoming.buffer.fill(stream).await {
                Ok(Read::Some) => {}
                Ok(Read::End) => return handshake::closed(),
                Err(error) => return error,
            }
        }
    }

    fn take_answers(&self, incoming: &mut Incoming, context: &ConnectionContext) -> io::Result<()> {
        while let Some(frame) = incoming.next_frame()? {
            let (id, response) = decode_response(frame, context).map_err(handshake::invalid)?;
            self.answered(id, response);
        }
        Ok(())
    }

    fn answered(&self, id: RequestId, response: Response) {
        let token = self.state.borrow_mut().unanswered.remove(&id);
        if let Some(token) = token {
            self.report(token, ForwardOutcome::Answered(response));
        }
    }

    fn report(&self, token: Token, outcome: ForwardOutcome) {
        self.inbox.push(Event::Forwarded { token, outcome });
    }
}

impl State {
    fn encode(&mut self, forward: &Forward, now: Time) {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        let left = forward.deadline.since(now).as_millis();
        let timeout_ms = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
        encode_request(&mut self.unsent, id, timeout_ms, &forward.request);
        self.unanswered.insert(id, forward.token);
    }

    /// Puts what waited on the connection, and returns what nobody waits for any more: that is not sent.
    fn connect(&mut self, stream: Rc<Stream>, now: Time) -> Vec<Token> {
        self.stream = Some(stream);
        let mut late = Vec::new();
        for forward in std::mem::take(&mut self.waiting) {
            if forward.deadline <= now {
                late.push(forward.token);
            } else {
                self.encode(&forward, now);
            }
        }
        late
    }

    /// Forgets the connection and returns what was under way on it.
    fn disconnect(&mut self) -> impl Iterator<Item = Token> + use<> {
        self.stream = None;
        self.failed = None;
        self.unsent = BytesMut::new();
        std::mem::take(&mut self.unanswered).into_values()
    }
}
