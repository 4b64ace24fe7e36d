//! Accepts connections, and finds out who speaks.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use raftkv_tls::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{client, peer};
use crate::http;
use crate::replica::Hop;
use crate::shell::{Inbox, NodeContext, Open, WatchDesk};
use crate::transport::handshake::{self, HandshakeError, Speaks};
use crate::transport::socket;
use crate::transport::{PeerLinks, Trust};

/// After a failed accept (too many open files, mostly): trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Places beyond the limit. Other nodes keep theirs: however many clients there are, consensus must go on. Clients only
/// stay until they are told why they are refused. With these places taken too, connections are closed unread.
const RESERVED: usize = 64;

/// What every native connection works with.
#[derive(Debug)]
pub(crate) struct Doorway {
    pub(crate) context: Rc<NodeContext>,
    pub(crate) inbox: Rc<Inbox>,
    pub(crate) peers: Rc<PeerLinks>,
    pub(crate) watches: Rc<WatchDesk>,
}

/// Accepts for as long as the node's thread lives.
pub(crate) async fn accept(listener: TcpListener, doorway: Rc<Doorway>) {
    let open = Rc::new(Cell::new(0_usize));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let max = doorway.context.bounds.max_connections;
        if open.get() >= max + RESERVED {
            continue;
        }
        let place = Place::take(&open);
        let count = if open.get() > max {
            Open::TooMany
        } else {
            Open::Few
        };
        let doorway = doorway.clone();
        tokio::task::spawn_local(async move {
            let from = stream.peer_addr();
            if let Err(error) = serve(stream, count, &doorway).await {
                tracing::debug!(from = from.ok().map(tracing::field::display), %error, "a connection was closed");
            }
            drop(place);
        });
    }
}

/// One of the places that connections may take.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>) -> Place {
        open.set(open.get() + 1);
        Place(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn serve(tcp: TcpStream, open: Open, doorway: &Rc<Doorway>) -> io::Result<()> {
    socket::configure(&tcp)?;
    let context = &doorway.context;
    let deadline = Instant::now() + context.bounds.handshake_timeout;
    let trust = Trust::begin(context.tls.as_ref());
    let accepted = tokio::time::timeout_at(deadline, accept_within(tcp, context)).await;
    let stream = accepted
        .unwrap_or(Err(HandshakeError::TooSlow))
        .map_err(handshake::invalid)?;
    let received = tokio::time::timeout_at(deadline, handshake::receive(&stream, context, open)).await;
    let (speaks, incoming) = match received.unwrap_or(Err(HandshakeError::TooSlow)) {
        Ok(greeted) => greeted,
        Err(error) if handshake::is_http(&error) => return redirect_http(&stream, context).await,
        Err(error) => return Err(handshake::invalid(error)),
    };
    let trust_lost = trust.lost(stream.peer_certificates());
    let served = async {
        match speaks {
            Speaks::Client => client::serve(stream, incoming, Hop::First, doorway).await,
            Speaks::Forwarder => client::serve(stream, incoming, Hop::Last, doorway).await,
            Speaks::Peer(node) => peer::serve(stream, incoming, node, doorway).await,
        }
    };
    tokio::select! {
        ended = served => ended,
        error = trust_lost => Err(error),
    }
}

/// Within TLS, where that is set up.
async fn accept_within(tcp: TcpStream, context: &NodeContext) -> Result<Stream, HandshakeError> {
    match &context.tls {
        None => Ok(Stream::from(tcp)),
        Some(tls) => Ok(tls.renewed().accept(tcp).await?),
    }
}

async fn redirect_http(stream: &Stream, context: &NodeContext) -> io::Result<()> {
    let scheme = if context.tls.is_some() { "https" } else { "http" };
    let place = match &context.http {
        Some(http) => format!("the HTTP API is at {scheme}://{http}"),
        None => "this server serves no HTTP API (start it with --http :8080)".to_owned(),
    };
    let answer = http::bad_request(&format!("this port speaks raftkv's native protocol; {place}"));
    stream.write_all(answer.as_bytes()).await
}
