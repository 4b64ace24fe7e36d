//! The messages of etcd's `rpc.proto` and `kv.proto` that the load needs, and of those the fields it needs: protobuf skips
//! fields it does not know, and leaves out those with their default.

use prost::{Message, Oneof};
use raftkv_client::Revision;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

impl ResponseHeader {
    /// The store's revision once the request was executed: of a write, that of the write.
    pub(super) fn revision(&self) -> Revision {
        Revision(self.revision.cast_unsigned())
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// Answered by the node that is asked, from what it has.
    #[prost(bool, tag = "7")]
    pub(super) serializable: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl PutRequest {
    pub(super) fn new(key: &[u8], value: &[u8]) -> PutRequest {
        PutRequest {
            key: key.to_vec(),
            value: value.to_vec(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
}

/// `result` is left out: its default is "equal".
#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(oneof = "CompareTo", tags = "6")]
    to: Option<CompareTo>,
}

/// A choice of its own, because 0 must be written here too.
#[derive(Clone, PartialEq, Oneof)]
enum CompareTo {
    #[prost(int64, tag = "6")]
    ModRevision(i64),
}

impl Compare {
    pub(super) fn mod_revision_is(key: &[u8], revision: i64) -> Compare {
        const TARGET_MOD: i32 = 2;
        Compare {
            target: TARGET_MOD,
            key: key.to_vec(),
            to: Some(CompareTo::ModRevision(revision)),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
}

impl RequestOp {
    pub(super) fn put(put: PutRequest) -> RequestOp {
        RequestOp { put: Some(put) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

impl StatusResponse {
    /// Does the node that answered lead?
    pub(super) fn leads(&self) -> bool {
        self.header
            .as_ref()
            .is_some_and(|header| header.member_id == self.leader)
    }
}
