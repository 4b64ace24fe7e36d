//! etcd over its v3 gRPC API.
//!
//! gRPC is spoken right here, on an HTTP/2 crate and with the few messages that the load needs: the published client needs
//! a protobuf compiler at build time, and brings several times the code.

mod call;
mod message;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use raftkv_client::Revision;

use super::{Answered, Asked, Found, Session, Swapped, Target};
use crate::settings::{Promise, Route};
pub(crate) use call::EtcdError;
use call::{Channel, Code};
use message::{
    Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, StatusRequest, StatusResponse,
    TxnRequest, TxnResponse,
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// A cluster, by its client addresses.
pub(crate) struct Etcd {
    endpoints: Vec<String>,
    next: Cell<usize>,
    route: Route,
    promise: Promise,
}

impl Etcd {
    pub(crate) fn new(endpoints: &[String], route: Route, promise: Promise) -> Etcd {
        Etcd {
            endpoints: endpoints.to_vec(),
            next: Cell::new(0),
            route,
            promise,
        }
    }

    /// The endpoint of the node that leads: a node knows the leader's id, not its address, so each is asked for its own.
    async fn leader(&self) -> Result<&str, EtcdError> {
        let mut last = EtcdError::NoLeader;
        for endpoint in &self.endpoints {
            match status(endpoint).await {
                Ok(status) if status.leads() => return Ok(endpoint),
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn address(&self) -> Result<&str, EtcdError> {
        match self.route {
            Route::Leader => self.leader().await,
            Route::Endpoints => {
                let turn = self.next.replace(self.next.get() + 1) % self.endpoints.len();
                Ok(&self.endpoints[turn])
            }
        }
    }
}

async fn status(endpoint: &str) -> Result<StatusResponse, EtcdError> {
    let channel = Channel::connect(endpoint).await?;
    let answer = channel
        .call(STATUS, Bytes::from(StatusRequest {}.encode_to_vec()))
        .await?;
    Ok(StatusResponse::decode(answer)?)
}

impl Target for Etcd {
    type Session = EtcdSession;

    async fn version(&self) -> Result<String, EtcdError> {
        let mut last = EtcdError::NoLeader;
        for endpoint in &self.endpoints {
            match status(endpoint).await {
                Ok(status) => return Ok(status.version),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(&self) -> Result<EtcdSession, EtcdError> {
        Ok(EtcdSession {
            channel: Channel::connect(self.address().await?).await?,
            promise: self.promise,
            calls: FuturesUnordered::new(),
            answers: VecDeque::new(),
        })
    }
}

/// One HTTP/2 connection with a stream per request.
pub(crate) struct EtcdSession {
    channel: Channel,
    promise: Promise,
    calls: FuturesUnordered<Pin<Box<dyn Future<Output = Ended>>>>,
    answers: VecDeque<Ended>,
}

type Ended = Result<(usize, Answered), EtcdError>;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Get,
    Put,
    Swap,
}

impl Session for EtcdSession {
    type Error = EtcdError;

    fn enqueue(&mut self, slot: usize, _: Duration, asked: Asked<'_>) -> Result<(), &'static str> {
        let (kind, path, message) = match asked {
            Asked::Get { key } => (Kind::Get, RANGE, range(key, self.promise).encode_to_vec()),
            Asked::Scan { .. } => return Err("no_scans_of_this_target"),
            Asked::Put { key, value } => (Kind::Put, PUT, PutRequest::new(key, value).encode_to_vec()),
            Asked::Swap(swapped) => (Kind::Swap, TXN, swap(&[swapped]).encode_to_vec()),
            Asked::SwapBoth(writes) => (Kind::Swap, TXN, swap(&writes).encode_to_vec()),
            Asked::Grant { .. } | Asked::Attach { .. } | Asked::Revoke { .. } => {
                return Err("no_leases_of_this_target");
            }
        };
        let channel = self.channel.clone();
        self.calls.push(Box::pin(async move {
            let outcome = channel.call(path, Bytes::from(message)).await;
            answered(kind, outcome).map(|answered| (slot, answered))
        }));
        Ok(())
    }

    fn send(&mut self) -> Result<(), EtcdError> {
        // A call sends its request when it is polled first, in `drive`.
        Ok(())
    }

    async fn drive(&mut self) -> Result<(), EtcdError> {
        match self.calls.next().await {
            Some(ended) => self.answers.push_back(ended),
            None => std::future::pending().await,
        }
        while let Some(Some(ended)) = self.calls.next().now_or_never() {
            self.answers.push_back(ended);
        }
        Ok(())
    }

    fn next_answer(&mut self) -> Result<Option<(usize, Answered)>, EtcdError> {
        self.answers.pop_front().transpose()
    }
}

fn range(key: &[u8], promise: Promise) -> RangeRequest {
    RangeRequest {
        key: key.to_vec(),
        serializable: match promise {
            Promise::Linearizable => false,
            Promise::Stale => true,
        },
    }
}

/// A transaction that writes if the revision of each key is what was read; that of an absent key is 0.
fn swap(writes: &[Swapped<'_>]) -> TxnRequest {
    let compare =
        |swapped: &Swapped<'_>| Compare::mod_revision_is(swapped.key, swapped.revision().0.cast_signed());
    let put = |swapped: &Swapped<'_>| RequestOp::put(PutRequest::new(swapped.key, swapped.value));
    TxnRequest {
        compare: writes.iter().map(compare).collect(),
        success: writes.iter().map(put).collect(),
    }
}

fn answered(kind: Kind, outcome: Result<Bytes, EtcdError>) -> Result<Answered, EtcdError> {
    let message = match outcome {
        Ok(message) => message,
        Err(EtcdError::Refused(code)) => return Ok(refused(kind, code)),
        Err(error) => return Err(error),
    };
    Ok(match kind {
        Kind::Get => {
            let found = RangeResponse::decode(message)?.kvs.into_iter().next();
            Answered::Read(found.map(|kv| Found {
                value: kv.value.into(),
                revision: Some(Revision(kv.mod_revision.cast_unsigned())),
            }))
        }
        Kind::Put => Answered::Written(
            PutResponse::decode(message)?
                .header
                .map(|header| header.revision()),
        ),
        Kind::Swap => {
            let answer = TxnResponse::decode(message)?;
            match answer.succeeded {
                true => Answered::Written(answer.header.map(|header| header.revision())),
                false => Answered::Conflict,
            }
        }
    })
}

/// A read changed nothing, and neither did what was refused for being wrong or too much.
fn refused(kind: Kind, code: Code) -> Answered {
    match (kind, code) {
        (Kind::Get, code) => Answered::Refused(code.name()),
        (_, code @ (Code::InvalidArgument | Code::ResourceExhausted)) => Answered::Refused(code.name()),
        (_, code) => Answered::Unknown(code.name()),
    }
}

#[cfg(test)]
mod tests;
