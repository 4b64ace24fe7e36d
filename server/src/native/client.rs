//! A client's connection (or a forwarding node's): requests in, many under way at once, answers in any order.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use raftkv_protocol::{ClientRequest, Failure, Request, decode_request};
use raftkv_tls::Stream;

use super::{ClientOutbox, Doorway};
use crate::metrics::{Asking, RequestKind};
use crate::replica::Hop;
use crate::shell::{Asked, Origin, WatchKey};
use crate::transport::handshake::{self, Incoming};
use crate::transport::socket::Read;
use crate::watch::ConnectionId;

/// What a request may ask for at most: places for waiting requests are few, and nobody waits for weeks.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Serves until the client goes away or breaks the protocol.
pub(super) async fn serve(
    stream: Stream,
    incoming: Incoming,
    hop: Hop,
    doorway: &Rc<Doorway>,
) -> io::Result<()> {
    let stream = Rc::new(stream);
    let desk = &doorway.watches;
    let watches = (desk.name_connection(), desk.feed().clone());
    let outbox = Rc::new(ClientOutbox::new(stream.clone(), doorway.context.bounds, watches));
    let _watches_end = EndsWatches(doorway, outbox.connection());
    doorway.context.note_client(&outbox);
    let reader = Reader {
        stream,
        incoming,
        hop,
        outbox: outbox.clone(),
        doorway,
    };
    tokio::select! {
        ended = reader.read_requests() => ended,
        failed = outbox.write_rest() => failed.map(|never| match never {}),
        () = outbox.finished() => Ok(()),
    }
}

/// However the connection ends, its watches do.
struct EndsWatches<'a>(&'a Doorway, ConnectionId);

impl Drop for EndsWatches<'_> {
    fn drop(&mut self) {
        self.0.watches.closed(self.1);
    }
}

struct Reader<'a> {
    stream: Rc<Stream>,
    incoming: Incoming,
    hop: Hop,
    outbox: Rc<ClientOutbox>,
    doorway: &'a Doorway,
}

impl Reader<'_> {
    async fn read_requests(mut self) -> io::Result<()> {
        loop {
            // What came with the handshake's bytes is decoded before the first read.
            while let Some(frame) = self.incoming.next_frame()? {
                let request =
                    decode_request(frame, &self.doorway.context.limits).map_err(handshake::invalid)?;
                self.take(request);
                if !self.outbox.has_room() {
                    self.outbox.wait_for_room().await;
                }
            }
            if self.incoming.buffer.fill(&self.stream).await? == Read::End {
                return Ok(());
            }
        }
    }

    fn take(&self, request: ClientRequest) {
        if let Ok(Request::WatchControl(control)) = request.request {
            let key = WatchKey {
                connection: self.outbox.connection(),
                request: request.id,
            };
            self.doorway.watches.control(key, control);
            return;
        }
        self.outbox.note_request();
        let timeout = match request.timeout_ms {
            0 => self.doorway.context.bounds.request_timeout,
            timeout_ms => Duration::from_millis(timeout_ms.into()).min(LONGEST_TIMEOUT),
        };
        let is_watch = matches!(request.request, Ok(Request::Watch(_)));
        let (outbox, id) = (self.outbox.clone(), request.id);
        let mut origin = Origin::Native { outbox, request: id };
        if is_watch {
            if let Err(failure) = self.doorway.watches.ask(&self.outbox, id) {
                return self.refuse(RequestKind::Watch, failure, origin);
            }
            let outbox = self.outbox.clone();
            origin = Origin::NativeWatch { outbox, request: id };
        }
        match request.request {
            Ok(request) => {
                let hop = self.hop;
                self.doorway.inbox.ask(
                    Asked {
                        request,
                        hop,
                        timeout,
                    },
                    origin,
                );
            }
            Err(failure) => self.refuse(RequestKind::Unread, failure, origin),
        }
    }

    fn refuse(&self, kind: RequestKind, failure: Failure, origin: Origin) {
        let hop = self.hop;
        self.doorway.inbox.refuse(Asking { kind, hop }, failure, origin);
    }
}
