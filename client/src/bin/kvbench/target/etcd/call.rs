//! gRPC calls with one request and one answer, over HTTP/2.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use thiserror::Error;
use tokio::task::AbortHandle;

use crate::target::socket::connect;

/// In front of each message: not compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// What the other side may send before we read it: more than all answers in flight, so that windows never hold one up.
const WINDOW_BYTES: u32 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum EtcdError {
    #[error("{address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("the HTTP/2 connection failed: {0}")]
    Http2(#[from] h2::Error),
    #[error("an answer is not gRPC: {0}")]
    NotGrpc(&'static str),
    #[error("the answer can not be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("refused: {}", .0.name())]
    Refused(Code),
    #[error("no endpoint leads the cluster: name all of them, and wait for an election")]
    NoLeader,
}

/// gRPC status codes, as far as they are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument,
    DeadlineExceeded,
    ResourceExhausted,
    Unavailable,
    Other,
}

impl Code {
    fn of(status: &[u8]) -> Code {
        match status {
            b"3" => Code::InvalidArgument,
            b"4" => Code::DeadlineExceeded,
            b"8" => Code::ResourceExhausted,
            b"14" => Code::Unavailable,
            _ => Code::Other,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::ResourceExhausted => "resource_exhausted",
            Code::Unavailable => "unavailable",
            Code::Other => "other_grpc_status",
        }
    }
}

/// One connection; clones share it, and the last one ends it.
#[derive(Clone)]
pub(super) struct Channel {
    sender: SendRequest<Bytes>,
    authority: Arc<str>,
    _connection: Arc<AbortOnDrop>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Channel {
    pub(super) async fn connect(address: &str) -> Result<Channel, EtcdError> {
        let stream = connect(address).await.map_err(|source| EtcdError::Connect {
            address: address.to_owned(),
            source,
        })?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(stream).await?;
        // How it ends is told to the calls on it.
        let task = tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Channel {
            sender,
            authority: address.into(),
            _connection: Arc::new(AbortOnDrop(task.abort_handle())),
        })
    }

    /// Calls a method, and gives its answer's message.
    pub(super) async fn call(&self, path: &'static str, message: Bytes) -> Result<Bytes, EtcdError> {
        let request = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|_| EtcdError::NotGrpc("the address can not stand in a request"))?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(framed(&message), true)?;
        let (head, body) = response.await?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(EtcdError::NotGrpc("its HTTP status is not 200"));
        }
        receive(&head.headers, body).await
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// The message and then the status, which stands in the trailers, or in the headers if there is nothing else.
async fn receive(headers: &HeaderMap, mut body: RecvStream) -> Result<Bytes, EtcdError> {
    check(headers)?;
    let mut received = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
    }
    if let Some(trailers) = body.trailers().await? {
        check(&trailers)?;
    }
    let mut received = received.freeze();
    if received.len() < PREFIX_BYTES {
        return Err(EtcdError::NotGrpc("there is no message"));
    }
    let is_compressed = received.get_u8() != 0;
    let length = received.get_u32() as usize;
    match is_compressed || received.len() != length {
        true => Err(EtcdError::NotGrpc(
            "the message is compressed, or not of the length it says",
        )),
        false => Ok(received),
    }
}

fn check(headers: &HeaderMap) -> Result<(), EtcdError> {
    match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(status) => Err(EtcdError::Refused(Code::of(status))),
    }
}
