//! Makes connections to other nodes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use raftkv_protocol::{Address, ConnectionContext, Foreign, FrameError, RejectionCode, Speaker};
use raftkv_tls::{HandshakeError as TlsFailure, Stream};
use tokio::net::TcpStream;

use super::handshake::{self, HandshakeError, Incoming};
use super::socket;
use super::tls::Trust;
use crate::shell::NodeContext;

/// Connection and handshake with a peer; a peer that is up answers in far less.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Connection and handshake with the leader while a client waits.
const FORWARD_TIMEOUT: Duration = Duration::from_millis(500);

/// A refusal is logged once in this time: it is tried again every other second.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Dials on behalf of one node.
#[derive(Debug)]
pub(crate) struct Dialer {
    context: Rc<NodeContext>,
    last_refusal: RefCell<Option<Instant>>,
}

/// A connection whose other side has agreed.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: Rc<Stream>,
    pub(super) incoming: Incoming,
    /// What all answers on it have in common.
    pub(super) context: ConnectionContext,
    /// In the other side.
    pub(super) trust: Trust,
}

impl Dialer {
    pub(crate) fn new(context: Rc<NodeContext>) -> Dialer {
        Dialer {
            context,
            last_refusal: RefCell::default(),
        }
    }

    pub(super) async fn dial_peer(&self, address: &Address) -> Result<Dialled, HandshakeError> {
        self.dial(address, Speaker::Peer, PEER_TIMEOUT).await
    }

    pub(super) async fn dial_forwarder(&self, address: &Address) -> Result<Dialled, HandshakeError> {
        self.dial(address, Speaker::Forwarder, FORWARD_TIMEOUT).await
    }

    async fn dial(
        &self,
        address: &Address,
        speaker: Speaker,
        time: Duration,
    ) -> Result<Dialled, HandshakeError> {
        let connect = async {
            let tcp = TcpStream::connect(&*address.0).await?;
            socket::configure(&tcp)?;
            socket::expect_prompt_reader(&tcp)?;
            let trust = Trust::begin(self.context.tls.as_ref());
            let stream = match &self.context.tls {
                None => Stream::from(tcp),
                Some(tls) => tls.renewed().dial(tcp, &address.0).await?,
            };
            let (welcome, incoming) = handshake::greet(&stream, &self.context, speaker).await?;
            Ok(Dialled {
                stream: Rc::new(stream),
                incoming,
                context: ConnectionContext::from(&welcome),
                trust,
            })
        };
        tokio::time::timeout(time, connect)
            .await
            .unwrap_or(Err(HandshakeError::TooSlow))
    }

    /// A node that is down is no news; one that refuses us needs its operator.
    pub(super) fn log_failure(&self, address: &Address, error: &HandshakeError) {
        match error {
            HandshakeError::Rejected(rejection) if !is_passing(rejection.code) => {
                self.warn(address, rejection, "a node refuses our connection");
            }
            HandshakeError::Tls(tls @ (TlsFailure::Tls(_) | TlsFailure::Name(_))) => {
                self.warn(address, tls, "a node can not be reached within TLS");
            }
            HandshakeError::Frame(foreign @ FrameError::Foreign(Foreign::Tls)) => {
                self.warn(address, foreign, "a node can not be reached without TLS");
            }
            other => tracing::debug!(%address, reason = %other, "a node can not be reached"),
        }
    }

    /// Said once in a while: it is tried again every other second.
    fn warn(&self, address: &Address, reason: &dyn std::fmt::Display, what: &'static str) {
        let last = &mut *self.last_refusal.borrow_mut();
        if last.is_none_or(|last| last.elapsed() >= REFUSAL_LOG_INTERVAL) {
            *last = Some(Instant::now());
            tracing::warn!(%address, %reason, "{what}");
        }
    }
}

/// Does such a refusal end by itself?
fn is_passing(code: RejectionCode) -> bool {
    matches!(
        code,
        RejectionCode::ShuttingDown | RejectionCode::TooManyConnections
    )
}
