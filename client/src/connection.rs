//! One connection to one server: the handshake, and frames in buffers. Who waits for which answer is not known here.
//!
//! The building block that the client's tasks and the load generator share: [`Connection::enqueue`] encodes requests into
//! a buffer, [`Connection::drive`] moves bytes both ways, [`Connection::next_response`] takes answers out, in the order
//! in which the server gave them. Nothing waits but `open` and `drive`.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use raftkv_protocol::{
    Address, ConnectionContext, FRAME_HEADER_BYTES, Failure, FrameDecoder, FrameError, HANDSHAKE_BYTES,
    HandshakeReply, Hello, Limits, MAX_PAGE_BYTES, ProtocolError, Rejection, Request, RequestId, Response,
    Speaker, decode_handshake_reply, decode_response, encode_hello, encode_request,
};
use raftkv_tls::{ClientTls, HandshakeError, Stream};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_util::codec::Decoder;

/// Room offered to each read: some two hundred answers with values of 256 bytes.
const READ_BYTES: usize = 64 << 10;

/// A buffer that was once filled by a large batch is given back when it is empty and larger than this.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// What an answer may need beside a key and a value, bytes: headers, and a status with all its members.
const ANSWER_OVERHEAD_BYTES: usize = 64 << 10;

/// Why a connection could not be made, or ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The address can not be resolved, or nothing listens there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Whom we called.
        address: Address,
        /// The system's reason.
        source: io::Error,
    },
    /// The two sides do not agree on TLS: a certificate that one of them does not accept, or no TLS at all.
    #[error("cannot connect to {address}: {source}")]
    Tls {
        /// Whom we called.
        address: Address,
        /// What is wrong.
        source: HandshakeError,
    },
    /// No connection, or no handshake, in time.
    #[error("{address} did not accept a connection within {after:?}")]
    ConnectTimedOut {
        /// Whom we called.
        address: Address,
        /// How long we waited.
        after: Duration,
    },
    /// The server does not want us.
    #[error("{address}: {rejection}")]
    Rejected {
        /// Whom we called.
        address: Address,
        /// Its reason.
        rejection: Rejection,
    },
    /// The connection failed.
    #[error("the connection to {address} failed: {source}")]
    Lost {
        /// To whom.
        address: Address,
        /// The system's reason.
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("{address} closed the connection")]
    Closed {
        /// Who.
        address: Address,
    },
    /// Nothing at all came for as long as a request may take.
    #[error("{address} gave no sign of life for {after:?}")]
    Silent {
        /// Who.
        address: Address,
        /// How long we waited.
        after: Duration,
    },
    /// What came is not a stream of frames, or an answer is larger than the server's own limits allow.
    #[error("{address} broke the protocol: {source}")]
    Frame {
        /// Who.
        address: Address,
        /// How.
        source: FrameError,
    },
    /// A frame is not the message that must come here.
    #[error("{address} broke the protocol: {source}")]
    Protocol {
        /// Who.
        address: Address,
        /// How.
        source: ProtocolError,
    },
}

impl ConnectionError {
    /// Did the other side break the protocol? Asking it again would end in the same way.
    pub(crate) fn is_protocol_violation(&self) -> bool {
        match self {
            ConnectionError::Frame { source, .. } => {
                !matches!(source, FrameError::Io(_) | FrameError::Truncated { .. })
            }
            ConnectionError::Protocol { .. } => true,
            ConnectionError::Tls { source, .. } => !matches!(source, HandshakeError::Io(_)),
            ConnectionError::Connect { .. }
            | ConnectionError::ConnectTimedOut { .. }
            | ConnectionError::Rejected { .. }
            | ConnectionError::Lost { .. }
            | ConnectionError::Closed { .. }
            | ConnectionError::Silent { .. } => false,
        }
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection {
    address: Address,
    stream: Stream,
    decoder: FrameDecoder,
    incoming: BytesMut,
    outgoing: BytesMut,
    context: ConnectionContext,
    limits: Limits,
}

impl Connection {
    /// Connects and shakes hands, within `timeout`; without `tls` the connection is plain.
    ///
    /// # Errors
    /// If nobody answers in time, or who answers is not a server that speaks with us.
    pub async fn open(
        address: Address,
        tls: Option<&ClientTls>,
        timeout: Duration,
    ) -> Result<Connection, ConnectionError> {
        match tokio::time::timeout(timeout, handshake(address.clone(), tls)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectionError::ConnectTimedOut {
                address,
                after: timeout,
            }),
        }
    }

    /// Whom we are connected to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Encodes a request for the next [`Connection::drive`] or [`Connection::send`]; its answer will carry `id`.
    ///
    /// # Errors
    /// `too_large` if the server would not take a frame of this size; nothing is enqueued then.
    pub fn enqueue(&mut self, id: RequestId, timeout: Duration, request: &Request) -> Result<(), Failure> {
        let start = self.outgoing.len();
        // 0 would mean the server's own default.
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        encode_request(&mut self.outgoing, id, timeout_ms, request);
        let body = &self.outgoing[start + FRAME_HEADER_BYTES..];
        // The server would close the connection over a frame beyond its limit, and take other requests down with it.
        self.limits
            .check_request(body)
            .inspect_err(|_| self.outgoing.truncate(start))
    }

    /// Writes what the system takes at once; [`Connection::drive`] writes the rest.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn send(&mut self) -> Result<(), ConnectionError> {
        while !self.outgoing.is_empty() {
            match self.stream.try_write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.lost(error)),
            }
        }
        if self.outgoing.capacity() > KEPT_BUFFER_BYTES {
            self.outgoing = BytesMut::new();
        }
        self.stream
            .try_flush()
            .map(drop)
            .map_err(|error| self.lost(error))
    }

    /// Waits until bytes can be moved, and moves them. Cancelling it loses nothing.
    ///
    /// # Errors
    /// If the connection ends.
    pub async fn drive(&mut self) -> Result<(), ConnectionError> {
        let interest = match self.outgoing.is_empty() && !self.stream.has_unsent() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        let ready = self
            .stream
            .tcp()
            .ready(interest)
            .await
            .map_err(|error| self.lost(error))?;
        if ready.is_writable() {
            self.send()?;
        }
        if ready.is_readable() {
            self.receive()?;
        }
        Ok(())
    }

    /// Reads once, what is there.
    fn receive(&mut self) -> Result<(), ConnectionError> {
        self.incoming.reserve(READ_BYTES);
        match self.stream.try_read(&mut self.incoming) {
            Ok(0) => Err(self.ended()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// The next answer that has arrived whole. Its value is a slice of the read buffer: copy what is kept.
    ///
    /// # Errors
    /// If what came is not an answer; the connection is of no use then.
    pub fn next_response(&mut self) -> Result<Option<(RequestId, Response)>, ConnectionError> {
        match self.decoder.decode(&mut self.incoming) {
            Ok(None) => Ok(None),
            Ok(Some(body)) => match decode_response(body, &self.context) {
                Ok(answer) => Ok(Some(answer)),
                Err(source) => Err(ConnectionError::Protocol {
                    address: self.address.clone(),
                    source,
                }),
            },
            Err(source) => Err(ConnectionError::Frame {
                address: self.address.clone(),
                source,
            }),
        }
    }

    fn lost(&self, source: io::Error) -> ConnectionError {
        ConnectionError::Lost {
            address: self.address.clone(),
            source,
        }
    }

    fn ended(&mut self) -> ConnectionError {
        let address = self.address.clone();
        match self.decoder.decode_eof(&mut self.incoming) {
            Err(source) => ConnectionError::Frame { address, source },
            Ok(_) => ConnectionError::Closed { address },
        }
    }
}

async fn handshake(address: Address, tls: Option<&ClientTls>) -> Result<Connection, ConnectionError> {
    let connect = |source| ConnectionError::Connect {
        address: address.clone(),
        source,
    };
    let tcp = TcpStream::connect(&*address.0).await.map_err(connect)?;
    // Requests are gathered here, so waiting for more of them in the kernel would only add latency.
    tcp.set_nodelay(true).map_err(connect)?;
    let stream = match tls {
        None => Stream::from(tcp),
        Some(tls) => tls
            .dial(tcp, &address.0)
            .await
            .map_err(|source| ConnectionError::Tls {
                address: address.clone(),
                source,
            })?,
    };
    let mut outgoing = BytesMut::new();
    encode_hello(&mut outgoing, &Hello::new(Speaker::Client, None, None));
    let lost = |source| ConnectionError::Lost {
        address: address.clone(),
        source,
    };
    stream.write_all(&outgoing).await.map_err(lost)?;
    outgoing.clear();

    let mut decoder = FrameDecoder::awaiting_handshake(HANDSHAKE_BYTES);
    let mut incoming = BytesMut::with_capacity(READ_BYTES);
    let body = loop {
        let frame = |source| ConnectionError::Frame {
            address: address.clone(),
            source,
        };
        if let Some(body) = decoder.decode(&mut incoming).map_err(frame)? {
            break body;
        }
        if stream.read(&mut incoming).await.map_err(lost)? == 0 {
            return Err(ConnectionError::Closed { address });
        }
    };
    match decode_handshake_reply(&body) {
        Ok(HandshakeReply::Welcome(welcome)) => {
            // A page of a range may be larger than any request.
            let largest = welcome.limits.request_bytes.max(MAX_PAGE_BYTES as usize);
            decoder.set_max_frame_bytes(largest.saturating_add(ANSWER_OVERHEAD_BYTES));
            let context = ConnectionContext::from(&welcome);
            let limits = welcome.limits;
            Ok(Connection {
                address,
                stream,
                decoder,
                incoming,
                outgoing,
                context,
                limits,
            })
        }
        Ok(HandshakeReply::Rejection(rejection)) => Err(ConnectionError::Rejected { address, rejection }),
        Err(source) => Err(ConnectionError::Protocol { address, source }),
    }
}
