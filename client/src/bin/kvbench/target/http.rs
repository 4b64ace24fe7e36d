//! raftkv over its HTTP API.
//!
//! A connection carries one request at a time, as those of ordinary HTTP clients do: what is enqueued meanwhile waits, and
//! the wait counts as latency. HTTP/1.1 is spoken right here, because a general client would cost the load more than the
//! server spends on an answer.

mod message;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftkv_client::{ErrorCode, LeaseId, Revision};
use serde::Deserialize;
use thiserror::Error;

use super::socket::Socket;
use super::{Answered, Asked, Found, Session, Swapped, Target};
use crate::settings::Route;
use message::{HttpAnswer, take_answer, write_delete, write_get, write_post};

/// A cluster, by its HTTP addresses.
pub(crate) struct Http {
    endpoints: Vec<String>,
    next: Cell<usize>,
    route: Route,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    #[error("{address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the answer is not HTTP/1.1: {0}")]
    NotHttp(#[from] httparse::Error),
    #[error("the answer has no Content-Length")]
    NoLength,
    #[error("an answer came that nothing asked for")]
    Unasked,
    #[error("the body of an answer is not as documented: {0}")]
    Body(#[from] serde_json::Error),
    #[error("{path} was answered with HTTP status {status}")]
    Status { path: &'static str, status: u16 },
    #[error("no node leads the cluster yet, or the leader serves no HTTP")]
    NoLeader,
}

/// Asks one server one thing.
pub(crate) async fn get(address: &str, path: &'static str) -> Result<Bytes, HttpError> {
    let connect = |source| HttpError::Connect {
        address: address.to_owned(),
        source,
    };
    let mut socket = Socket::connect(address).await.map_err(connect)?;
    write_get(&mut socket.outgoing, address, path, b"");
    loop {
        if let Some(answer) = take_answer(&mut socket.incoming)? {
            return match answer.status {
                200 => Ok(answer.body),
                status => Err(HttpError::Status { path, status }),
            };
        }
        socket.drive().await?;
    }
}

/// What `GET /status` tells, as far as it matters here.
#[derive(Deserialize)]
struct StatusBody {
    version: String,
    leader: Option<String>,
    members: Vec<MemberBody>,
}

#[derive(Deserialize)]
struct MemberBody {
    id: String,
    http: Option<String>,
}

impl Http {
    pub(crate) fn new(endpoints: &[String], route: Route) -> Http {
        Http {
            endpoints: endpoints.to_vec(),
            next: Cell::new(0),
            route,
        }
    }

    /// What the first endpoint that answers says of its cluster.
    async fn status(&self) -> Result<StatusBody, HttpError> {
        let mut outcome = Err(HttpError::NoLeader);
        for endpoint in &self.endpoints {
            outcome = get(endpoint, "/status").await;
            if outcome.is_ok() {
                break;
            }
        }
        Ok(serde_json::from_slice(&outcome?)?)
    }

    async fn address(&self) -> Result<String, HttpError> {
        match self.route {
            Route::Endpoints => {
                let turn = self.next.replace(self.next.get() + 1) % self.endpoints.len();
                Ok(self.endpoints[turn].clone())
            }
            Route::Leader => {
                let status = self.status().await?;
                let mut members = status.members.into_iter();
                let leads = members.find(|member| Some(&member.id) == status.leader.as_ref());
                leads.and_then(|member| member.http).ok_or(HttpError::NoLeader)
            }
        }
    }
}

impl Target for Http {
    type Session = HttpSession;

    async fn version(&self) -> Result<String, HttpError> {
        Ok(self.status().await?.version)
    }

    async fn connect(&self) -> Result<HttpSession, HttpError> {
        let address = self.address().await?;
        let socket = Socket::connect(&address).await.map_err(|source| {
            let address = address.clone();
            HttpError::Connect { address, source }
        })?;
        Ok(HttpSession {
            socket,
            address,
            waiting: VecDeque::new(),
            in_flight: None,
        })
    }
}

/// One keep-alive connection.
pub(crate) struct HttpSession {
    socket: Socket,
    address: String,
    waiting: VecDeque<(Sent, BytesMut)>,
    in_flight: Option<Sent>,
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Sent {
    slot: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Get,
    Set,
    Txn,
    Grant,
    Revoke,
}

impl Session for HttpSession {
    type Error = HttpError;

    fn enqueue(&mut self, slot: usize, _: Duration, asked: Asked<'_>) -> Result<(), &'static str> {
        let mut request = BytesMut::new();
        let kind = match asked {
            Asked::Get { key } => {
                write_get(&mut request, &self.address, "/get?key=", key);
                Kind::Get
            }
            Asked::Scan { .. } => return Err("no_scans_of_this_target"),
            Asked::Put { key, value } => {
                let body = set_body(key, value, SetExtra::Nothing);
                write_post(&mut request, &self.address, "/set", &body);
                Kind::Set
            }
            Asked::Swap(swapped) => {
                let extra = SetExtra::IfRevision(swapped.revision());
                let body = set_body(swapped.key, swapped.value, extra);
                write_post(&mut request, &self.address, "/set", &body);
                Kind::Set
            }
            Asked::SwapBoth(writes) => {
                write_post(&mut request, &self.address, "/v1/txn", &txn_body(&writes));
                Kind::Txn
            }
            Asked::Grant { ttl } => {
                let body = format!("{{\"ttl_seconds\":{}}}", ttl.as_secs());
                write_post(&mut request, &self.address, "/v1/leases", body.as_bytes());
                Kind::Grant
            }
            Asked::Attach { key, value, lease } => {
                let body = set_body(key, value, SetExtra::Lease(lease));
                write_post(&mut request, &self.address, "/set", &body);
                Kind::Set
            }
            Asked::Revoke { lease } => {
                let id = lease.to_string();
                write_delete(&mut request, &self.address, "/v1/leases/", id.as_bytes());
                Kind::Revoke
            }
        };
        self.waiting.push_back((Sent { slot, kind }, request));
        Ok(())
    }

    fn send(&mut self) -> Result<(), HttpError> {
        if self.in_flight.is_none()
            && let Some((sent, request)) = self.waiting.pop_front()
        {
            self.in_flight = Some(sent);
            self.socket.outgoing.unsplit(request);
        }
        Ok(self.socket.send()?)
    }

    async fn drive(&mut self) -> Result<(), HttpError> {
        Ok(self.socket.drive().await?)
    }

    fn next_answer(&mut self) -> Result<Option<(usize, Answered)>, HttpError> {
        let Some(answer) = take_answer(&mut self.socket.incoming)? else {
            return Ok(None);
        };
        let Sent { slot, kind } = self.in_flight.take().ok_or(HttpError::Unasked)?;
        answered(kind, &answer).map(|answered| Some((slot, answered)))
    }
}

/// What a set says beyond key and value.
#[derive(Clone, Copy, Debug)]
enum SetExtra {
    Nothing,
    /// It happens if that is the key's revision; 0: if there is no such key.
    IfRevision(Revision),
    /// The key hangs on this lease.
    Lease(LeaseId),
}

/// Keys and values of the load are letters and digits, so that they stand in JSON as they are.
fn set_body(key: &[u8], value: &[u8], extra: SetExtra) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    debug_assert!(
        key.iter().chain(value).all(is_plain),
        "expected letters and digits"
    );
    let mut body = Vec::with_capacity(key.len() + value.len() + 64);
    body.extend_from_slice(b"{\"key\":\"");
    body.extend_from_slice(key);
    body.extend_from_slice(b"\",\"value\":\"");
    body.extend_from_slice(value);
    body.push(b'"');
    match extra {
        SetExtra::Nothing => {}
        SetExtra::IfRevision(revision) => {
            body.extend_from_slice(format!(",\"if_revision\":{revision}").as_bytes());
        }
        SetExtra::Lease(lease) => body.extend_from_slice(format!(",\"lease\":\"{lease}\"").as_bytes()),
    }
    body.push(b'}');
    body
}

/// The body of `POST /v1/txn`: compares by revision, then puts.
fn txn_body(writes: &[Swapped<'_>]) -> Vec<u8> {
    let mut body = b"{\"compare\":[".to_vec();
    for (place, swapped) in writes.iter().enumerate() {
        body.extend_from_slice(if place == 0 {
            b"{\"key\":\""
        } else {
            b",{\"key\":\""
        });
        body.extend_from_slice(swapped.key);
        body.extend_from_slice(format!("\",\"mod_revision\":{}}}", swapped.revision()).as_bytes());
    }
    body.extend_from_slice(b"],\"then\":[");
    for (place, swapped) in writes.iter().enumerate() {
        body.extend_from_slice(if place == 0 { b"{\"put\":" } else { b",{\"put\":" });
        body.extend_from_slice(&set_body(swapped.key, swapped.value, SetExtra::Nothing));
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

/// The answer to `GET /get`.
#[derive(Deserialize)]
struct GetBody {
    /// Not there if it is not UTF-8: then it is none of ours.
    #[serde(default)]
    value: String,
    revision: u64,
}

/// The answer to `POST /set`.
#[derive(Deserialize)]
struct SetBody {
    revision: u64,
}

/// The answer to `POST /v1/txn`.
#[derive(Deserialize)]
struct TxnBody {
    succeeded: bool,
    revision: u64,
}

/// The answer to `POST /v1/leases`.
#[derive(Deserialize)]
struct LeaseBody {
    id: String,
}

/// An answer that says no.
#[derive(Deserialize)]
struct ErrorBody {
    code: String,
}

fn answered(kind: Kind, answer: &HttpAnswer) -> Result<Answered, HttpError> {
    match (answer.status, kind) {
        (200, Kind::Get) => {
            let body: GetBody = serde_json::from_slice(&answer.body)?;
            Ok(Answered::Read(Some(Found {
                value: body.value.into(),
                revision: Some(Revision(body.revision)),
            })))
        }
        (200, Kind::Set) => {
            let body: SetBody = serde_json::from_slice(&answer.body)?;
            Ok(Answered::Written(Some(Revision(body.revision))))
        }
        (200, Kind::Txn) => {
            let body: TxnBody = serde_json::from_slice(&answer.body)?;
            Ok(match body.succeeded {
                true => Answered::Written(Some(Revision(body.revision))),
                false => Answered::Conflict,
            })
        }
        (200, Kind::Grant) => {
            let body: LeaseBody = serde_json::from_slice(&answer.body)?;
            let granted = body.id.parse().map(Answered::Granted);
            Ok(granted.unwrap_or(Answered::Unknown("unexpected_answer")))
        }
        (200, Kind::Revoke) => Ok(Answered::Revoked),
        _ => {
            let body: ErrorBody = serde_json::from_slice(&answer.body)?;
            Ok(failed(&body.code))
        }
    }
}

fn failed(code: &str) -> Answered {
    let known = ErrorCode::ALL.into_iter().find(|known| known.name() == code);
    match known {
        Some(ErrorCode::KeyNotFound) => Answered::Read(None),
        Some(ErrorCode::RevisionMismatch) => Answered::Conflict,
        Some(code @ ErrorCode::OutcomeUnknown) => Answered::Unknown(code.name()),
        Some(code) => Answered::Refused(code.name()),
        None => Answered::Unknown("unexpected_answer"),
    }
}

#[cfg(test)]
mod tests;
