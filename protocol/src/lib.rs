//! The wire of raftkv: frames, message types, versions and limits. Bytes in, values out; no sockets.
//!
//! # A connection
//! Clients and nodes dial the same port and speak the same frames; the first one says who speaks.
//! ```text
//!   dialler                                             listener
//!     | -- [Hello: versions, features, speaker, cluster] --> |   negotiate()
//!     | <-- [Welcome: version, features, node, epoch, ...] - |   or [Rejection], then closed
//!     |                                                      |
//!     |   Client, Forwarder: many requests in flight,        |
//!     |   answers in any order, each names its request       |
//!     | -- [request 1] [request 2] [request 3] ------------> |
//!     | <-- [answer 2] [answer 1] -------------------------- |
//!     |                                                      |
//!     |   Peer: messages one way; the other node's           |
//!     |   messages come on a connection that it dialled      |
//!     | -- [message] [message] ----------------------------> |
//! ```
//!
//! # A frame
//! ```text
//! +--------+--------+--------------------------------------------------+
//! | length | crc32c |                      body                        |
//! | u32 LE | u32 LE | header in postcard          | raw bytes          |
//! +--------+--------+-----------------------------+--------------------+
//!                     group, request id, kind,      key, value, command,
//!                     lengths ...                   payloads of entries
//! ```
//! Raw bytes are written once and read in place: what a decoder returns are slices of the frame. They keep the buffer the
//! frame was read into alive, so whoever stores them for longer than a batch copies them.
//!
//! # What is not here
//! Time-outs, reconnecting and retries are the client's and the server's. A frame is not encrypted nor authenticated: its
//! checksum finds damage, not malice.
#![forbid(unsafe_code)]

mod command;
mod error;
mod error_code;
mod foreign;
mod frame;
mod handshake;
mod kv;
mod limits;
mod membership;
mod negotiate;
mod peer;
mod range;
mod request;
mod scrub;
mod txn;
mod types;
mod watch;
mod wire;

pub use command::{
    CheckedCommand, Command, CommandError, Condition, MAX_IDEMPOTENCY_KEY_BYTES, MAX_TTL_MS, decode_command,
};
pub use error::{EntriesError, ProtocolError};
pub use error_code::{ErrorCode, Retry};
pub use foreign::Foreign;
pub use frame::{
    FRAME_HEADER_BYTES, FrameDecoder, FrameError, HANDSHAKE_BYTES, RESERVE_STEP_BYTES, write_frame,
};
pub use handshake::{
    HandshakeReply, Hello, KNOWN_FEATURES, MAGIC, PROTOCOL_VERSIONS, REQUIRED_FEATURES, Rejection,
    RejectionCode, Speaker, Welcome,
};
pub use kv::{KeySpan, KeyValue, LeaseId, Once, SESSION_WINDOW, SessionId, prefix_end};
pub use limits::Limits;
pub use membership::{
    Admission, Force, Knock, KnockWay, MemberCommand, MembershipMessage, Presence, Promotion, Standing,
    StandingReply,
};
pub use negotiate::{Availability, Listener, Proof, negotiate};
pub use peer::{
    FormedIn, Founding, Introduction, PeerMessage, RaftBody, RaftMessage, SnapshotProgress, WireEntry,
    WireEntryId,
};
pub use range::{At, Cursor, MAX_PAGE_BYTES, MAX_PAGE_KEYS, Order, RangePage, RangeRequest};
pub use request::{
    Answer, Consistency, Failure, Header, LeaderHint, LeaseQuery, LeaseState, Member, ReadBasis, Record,
    Request, Response, RoleName, Status, WatchControl,
};
pub use scrub::{CheckedFiles, DifferingMember, ScrubCommand, ScrubPass, ScrubState};
pub use txn::{
    Branch, Compare, Keys, Lifetime, MAX_TXN_ANSWER_BYTES, MAX_TXN_DEPTH, MAX_TXN_KEYS, MAX_TXN_KEYS_PASSED,
    MAX_TXN_RANGE_BYTES, Op, OpResult, Previous, Relation, Shape, Test, Txn, TxnResult,
};
pub use types::{Address, ClusterId, GroupId, HistoryEpoch, NodeId, NodeName, RequestId, Revision};
pub use watch::{EventFilter, PartKind, WatchEvent, WatchPart, WatchRequest, WatchStart, WhenSlow};
pub use wire::{
    ClientRequest, ConnectionContext, EncodedWatchPart, decode_handshake_reply, decode_hello, decode_peer,
    decode_request, decode_response, encode_handshake_reply, encode_hello, encode_peer, encode_request,
    encode_response, encode_watch_response,
};
