//! A server that speaks the native protocol and does what a script says, for tests of what the client makes of it.
// Each test binary uses its own part of it.
#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftkv_client::{Client, ClientBuilder, Writes};
use raftkv_protocol::{
    Address, Answer, Availability, ClientRequest, ClusterId, Failure, FrameDecoder, HandshakeReply, Header,
    HistoryEpoch, KNOWN_FEATURES, Limits, Listener, Member, NodeId, NodeName, PROTOCOL_VERSIONS, Proof,
    Request, RequestId, Response, Revision, RoleName, Status, decode_hello, decode_request,
    encode_handshake_reply, encode_response, negotiate,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::codec::Decoder;

/// Longer than anything in these tests takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Of a client that sends nothing but what it is asked to send: it opens no session.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder().writes(Writes::AtMostOnce)
}

/// Such a client that was given these servers.
pub(crate) fn client_of(servers: &[&FakeServer]) -> Client {
    let endpoints = servers.iter().map(|server| server.address().to_string());
    builder().endpoints(endpoints).timeout(PATIENCE).build().unwrap()
}

/// What the server does next.
pub(crate) enum Act {
    /// Answers a request.
    Answer(RequestId, Result<Answer, Failure>),
    /// Sends these bytes, whatever they are.
    Raw(Bytes),
    /// Closes the connection.
    Close,
}

/// What a script makes of each request but `Status`; doing nothing is never answering.
pub(crate) type Script = dyn FnMut(&ClientRequest) -> Vec<Act> + Send;

/// A running fake server; it stops when dropped.
pub(crate) struct FakeServer {
    address: Address,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    script: Mutex<Box<Script>>,
    status: Mutex<Status>,
    seen: Mutex<Seen>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Connections that shook hands.
    pub(crate) connections: usize,
    /// Requests but `Status`.
    pub(crate) requests: usize,
    /// Requests for `Status`.
    pub(crate) statuses: usize,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeServer {
    /// Listens on a free port.
    pub(crate) async fn start(script: impl FnMut(&ClientRequest) -> Vec<Act> + Send + 'static) -> FakeServer {
        Self::start_at("127.0.0.1:0", script).await
    }

    /// Listens on this address.
    pub(crate) async fn start_at(
        address: &str,
        script: impl FnMut(&ClientRequest) -> Vec<Act> + Send + 'static,
    ) -> FakeServer {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = Address::from(listener.local_addr().expect("it is bound").to_string().as_str());
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            status: Mutex::new(status("fake")),
            seen: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        FakeServer {
            address,
            shared,
            task,
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.shared.seen.lock().unwrap()
    }

    /// What it answers to `Status` from now on.
    pub(crate) fn set_status(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.shared.status.lock().unwrap());
    }
}

/// The status of a formed node that follows nobody.
pub(crate) fn status(name: &str) -> Status {
    Status {
        name: NodeName::from(name),
        role: RoleName::Follower,
        leader: None,
        term: 1,
        commit_index: 4,
        applied_index: 4,
        revision: Revision(3),
        cluster: Some(ClusterId(7)),
        version: "0.1.0".to_owned(),
        members: Vec::new(),
        ready: true,
        not_ready_because: None,
    }
}

pub(crate) fn member(name: &str, address: &Address) -> Member {
    Member {
        name: NodeName::from(name),
        identity: NodeId(1),
        address: address.clone(),
        http: None,
        voter: true,
    }
}

/// The answer that a put gets.
pub(crate) fn put_at(revision: u64) -> Result<Answer, Failure> {
    Ok(Answer::Put {
        revision: Revision(revision),
    })
}

/// A frame as it goes over the wire.
pub(crate) fn answer_frame(id: RequestId, outcome: Result<Answer, Failure>) -> BytesMut {
    let header = Header {
        cluster: Some(ClusterId(7)),
        node: NodeId(1),
        term: 1,
        revision: Revision(3),
        epoch: HistoryEpoch(1),
    };
    let mut out = BytesMut::new();
    encode_response(&mut out, id, &Response { header, outcome });
    out
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned by this task, so that stopping the server also cuts its connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepting on loopback works");
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn next_frame(
    stream: &mut TcpStream,
    decoder: &mut FrameDecoder,
    buffer: &mut BytesMut,
) -> Option<Bytes> {
    loop {
        if let Some(body) = decoder.decode(buffer).expect("the client sends valid frames") {
            return Some(body);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let limits = Limits::default();
    let (mut decoder, mut buffer) = (
        FrameDecoder::awaiting_handshake(limits.request_bytes),
        BytesMut::new(),
    );
    let hello = decode_hello(&next_frame(&mut stream, &mut decoder, &mut buffer).await?).expect("a hello");
    let listener = Listener {
        versions: PROTOCOL_VERSIONS,
        features: KNOWN_FEATURES,
        cluster: Some(ClusterId(7)),
        node: NodeId(1),
        epoch: HistoryEpoch(1),
        limits,
        availability: Availability::Serving,
        proof: Proof::NotAsked,
    };
    let mut reply = BytesMut::new();
    encode_handshake_reply(&mut reply, &HandshakeReply::from(negotiate(&hello, &listener)));
    stream.write_all(&reply).await.ok()?;
    shared.seen.lock().unwrap().connections += 1;
    loop {
        let body = next_frame(&mut stream, &mut decoder, &mut buffer).await?;
        let request = decode_request(body, &limits).expect("a request");
        for act in shared.react(&request) {
            match act {
                Act::Answer(id, outcome) => stream.write_all(&answer_frame(id, outcome)).await.ok()?,
                Act::Raw(bytes) => stream.write_all(&bytes).await.ok()?,
                Act::Close => return None,
            }
        }
    }
}

impl Shared {
    fn react(&self, request: &ClientRequest) -> Vec<Act> {
        if let Ok(Request::Status) = request.request {
            self.seen.lock().unwrap().statuses += 1;
            let status = self.status.lock().unwrap().clone();
            return vec![Act::Answer(request.id, Ok(Answer::Status(Box::new(status))))];
        }
        self.seen.lock().unwrap().requests += 1;
        (self.script.lock().unwrap())(request)
    }
}
