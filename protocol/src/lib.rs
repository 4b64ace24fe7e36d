//! The wire of raftkv.
#![forbid(unsafe_code)]

mod command;
mod peer;
mod request;
mod types;

pub use command::{CheckedCommand, Command, Condition, decode_command};
pub use peer::{
    FormedIn, Founding, Introduction, PeerMessage, RaftBody, RaftMessage, WireEntry, WireEntryId,
};
pub use request::{
    Answer, Consistency, ErrorCode, Failure, Header, LeaderHint, Limits, Member, Record, Request, Response,
    RoleName, Status,
};
pub use types::{Address, ClusterId, GroupId, HistoryEpoch, NodeId, NodeName, RequestId, Revision};
