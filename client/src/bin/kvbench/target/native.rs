//! raftkv over its native protocol.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftkv_client::command_line::TlsOptions;
use raftkv_client::connection::{Connection, ConnectionError};
use raftkv_client::numbering::Numbers;
use raftkv_client::{Address, Client, Consistency, Error as ClientError, ErrorCode, Failure, KeySpan};
use raftkv_protocol::{
    Answer, CheckedCommand, Command, Compare, Condition, Keys, Lifetime, Limits, Op, Previous, RangeRequest,
    Relation, Request, RequestId, Response, SessionId, Test, Txn,
};
use raftkv_tls::ClientTls;
use thiserror::Error;

use super::{Answered, Asked, CONNECT_TIMEOUT, Found, Session, Swapped, Target};
use crate::settings::{Promise, Route, WriteOnce};

/// A session of a load that has ended is gone soon after.
const SESSION_TTL_MS: u64 = 60_000;

/// A cluster, and how it is used.
pub(crate) struct Native {
    client: Client,
    tls: Option<ClientTls>,
    endpoints: Vec<Address>,
    next: Cell<usize>,
    route: Route,
    consistency: Consistency,
    writes: WriteOnce,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum NativeError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no node leads the cluster yet")]
    NoLeader,
    #[error("no session was opened: {}", .0.message)]
    NoSession(Failure),
}

impl Native {
    pub(crate) fn new(
        endpoints: &[String],
        route: Route,
        promise: Promise,
        writes: WriteOnce,
        tls: &TlsOptions,
    ) -> Result<Native, ClientError> {
        let builder = Client::builder().endpoints(endpoints.iter().map(String::as_str));
        let client = tls.apply(builder).build()?;
        Ok(Native {
            client,
            tls: tls.dialler().map_err(|error| ClientError::Tls(Arc::new(error)))?,
            endpoints: endpoints
                .iter()
                .map(|text| Address::from(text.as_str()))
                .collect(),
            next: Cell::new(0),
            route,
            consistency: match promise {
                Promise::Linearizable => Consistency::Linearizable,
                Promise::Stale => Consistency::Stale,
            },
            writes,
        })
    }

    /// The native address of the node that leads.
    pub(crate) async fn leader(&self) -> Result<Address, NativeError> {
        let status = self.client.status().await?;
        let leads = status
            .members
            .iter()
            .find(|member| Some(&member.name) == status.leader.as_ref());
        leads
            .map(|member| member.address.clone())
            .ok_or(NativeError::NoLeader)
    }

    async fn address(&self) -> Result<Address, NativeError> {
        match self.route {
            Route::Endpoints => {
                let turn = self.next.replace(self.next.get() + 1) % self.endpoints.len();
                Ok(self.endpoints[turn].clone())
            }
            Route::Leader => self.leader().await,
        }
    }
}

impl Target for Native {
    type Session = NativeSession;

    async fn version(&self) -> Result<String, NativeError> {
        Ok(self.client.status().await?.version)
    }

    async fn connect(&self) -> Result<NativeSession, NativeError> {
        let mut connection =
            Connection::open(self.address().await?, self.tls.as_ref(), CONNECT_TIMEOUT).await?;
        let numbered = match self.writes {
            WriteOnce::AtMostOnce => None,
            WriteOnce::ExactlyOnce => Some(Numbered::new(open_session(&mut connection).await?)),
        };
        Ok(NativeSession {
            connection,
            consistency: self.consistency,
            numbered,
        })
    }
}

/// A session of the cluster, opened before the connection carries anything else.
async fn open_session(connection: &mut Connection) -> Result<SessionId, NativeError> {
    let command = Command::OpenSession {
        ttl_ms: SESSION_TTL_MS,
    };
    let checked = CheckedCommand::new(&command, &Limits::default()).expect("it lives for a while");
    let request = Request::Write(checked);
    let enqueued = connection.enqueue(RequestId(0), CONNECT_TIMEOUT, &request);
    enqueued.map_err(NativeError::NoSession)?;
    connection.send()?;
    loop {
        if let Some((_, response)) = connection.next_response()? {
            return match response.outcome {
                Ok(Answer::SessionOpened { session, .. }) => Ok(session),
                Ok(_) => Err(NativeError::NoLeader),
                Err(failure) => Err(NativeError::NoSession(failure)),
            };
        }
        connection.drive().await?;
    }
}

/// The numbers of a session, and which slot's write has which.
struct Numbered {
    numbers: Numbers,
    by_slot: Vec<Option<u64>>,
}

impl Numbered {
    fn new(session: SessionId) -> Numbered {
        Numbered {
            numbers: Numbers::new(session),
            by_slot: Vec::new(),
        }
    }

    fn number(&mut self, slot: usize, request: Request) -> Result<Request, &'static str> {
        let Request::Write(command) = request else {
            return Ok(request);
        };
        // One write has waited while thousands passed it by: what is measured then is no load any more.
        let once = self.numbers.take().ok_or("session_window_full")?;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some(once.sequence);
        Ok(Request::Write(command.within(once)))
    }

    fn answered(&mut self, slot: usize) {
        if let Some(sequence) = self.by_slot.get_mut(slot).and_then(Option::take) {
            self.numbers.give_back(sequence);
        }
    }
}

/// One connection to one node.
pub(crate) struct NativeSession {
    connection: Connection,
    consistency: Consistency,
    /// `None`: writes are not numbered.
    numbered: Option<Numbered>,
}

impl Session for NativeSession {
    type Error = NativeError;

    fn enqueue(&mut self, slot: usize, timeout: Duration, asked: Asked<'_>) -> Result<(), &'static str> {
        let request = match asked {
            Asked::Get { key } => Request::Get {
                key: Bytes::copy_from_slice(key),
                consistency: self.consistency,
            },
            Asked::Scan { from, keys } => scan(from, keys, self.consistency),
            Asked::Put { key, value } => put(key, value, Condition::Always)?,
            Asked::Swap(swapped) => put(swapped.key, swapped.value, unchanged(swapped.seen))?,
            Asked::SwapBoth(writes) => write(&Command::Txn(Txn {
                compare: writes.iter().map(is_unchanged).collect(),
                then: writes
                    .iter()
                    .map(|swapped| put_op(swapped.key, swapped.value, Lifetime::Unlimited))
                    .collect(),
                otherwise: Vec::new(),
            }))?,
            Asked::Grant { ttl } => write(&Command::GrantLease {
                id: None,
                ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            })?,
            Asked::Attach { key, value, lease } => write(&Command::Txn(Txn {
                then: vec![put_op(key, value, Lifetime::Lease(lease))],
                ..Txn::default()
            }))?,
            Asked::Revoke { lease } => write(&Command::RevokeLease { id: lease })?,
        };
        let request = match &mut self.numbered {
            Some(numbered) => numbered.number(slot, request)?,
            None => request,
        };
        let enqueued = self.connection.enqueue(RequestId(slot as u64), timeout, &request);
        enqueued.map_err(|failure| failure.code.name())
    }

    fn send(&mut self) -> Result<(), NativeError> {
        Ok(self.connection.send()?)
    }

    async fn drive(&mut self) -> Result<(), NativeError> {
        Ok(self.connection.drive().await?)
    }

    fn next_answer(&mut self) -> Result<Option<(usize, Answered)>, NativeError> {
        let Some((id, response)) = self.connection.next_response()? else {
            return Ok(None);
        };
        let slot = usize::try_from(id.0).unwrap_or(usize::MAX);
        if let Some(numbered) = &mut self.numbered {
            numbered.answered(slot);
        }
        Ok(Some((slot, answered(response))))
    }
}

fn scan(from: &[u8], keys: u32, consistency: Consistency) -> Request {
    let span = KeySpan {
        from: Bytes::copy_from_slice(from),
        to: None,
    };
    Request::Range(RangeRequest {
        limit: Some(keys),
        consistency,
        ..RangeRequest::new(span)
    })
}

fn put(key: &[u8], value: &[u8], condition: Condition) -> Result<Request, &'static str> {
    let put = Command::Put {
        key,
        value,
        condition,
        ttl_ms: None,
    };
    write(&put)
}

fn write(command: &Command<'_>) -> Result<Request, &'static str> {
    let checked = CheckedCommand::new(command, &Limits::default());
    checked.map(Request::Write).map_err(|failure| failure.code.name())
}

fn put_op<'a>(key: &'a [u8], value: &'a [u8], lifetime: Lifetime) -> Op<'a> {
    Op::Put {
        key,
        value,
        lifetime,
        previous: Previous::Unwanted,
    }
}

fn is_unchanged<'a>(swapped: &Swapped<'a>) -> Compare<'a> {
    Compare {
        keys: Keys::One(swapped.key),
        test: Test::ModRevision(Relation::Equal, swapped.revision()),
    }
}

/// The condition that the key is still what was read.
fn unchanged(seen: Option<&Found>) -> Condition {
    match seen.and_then(|found| found.revision) {
        Some(revision) => Condition::ModRevision(revision),
        None => Condition::Absent,
    }
}

fn answered(response: Response) -> Answered {
    match response.outcome {
        Ok(Answer::Found(record)) => Answered::Read(Some(Found {
            value: record.value,
            revision: Some(record.mod_revision),
        })),
        Ok(Answer::NotFound) => Answered::Read(None),
        Ok(Answer::Read { record, .. }) => Answered::Read(record.map(|record| Found {
            value: record.value,
            revision: Some(record.mod_revision),
        })),
        Ok(Answer::Range(page)) => Answered::Scanned { keys: page.count },
        Ok(Answer::Put { revision }) => Answered::Written(Some(revision)),
        Ok(Answer::ConditionFailed { .. }) => Answered::Conflict,
        Ok(Answer::Txn(result)) => match result.succeeded() {
            true => Answered::Written(Some(result.revision)),
            false => Answered::Conflict,
        },
        Ok(Answer::LeaseGranted { id, .. }) => Answered::Granted(id),
        Ok(Answer::LeaseRevoked { .. }) => Answered::Revoked,
        Ok(_) => Answered::Unknown("unexpected_answer"),
        Err(Failure {
            code: ErrorCode::OutcomeUnknown,
            ..
        }) => Answered::Unknown(ErrorCode::OutcomeUnknown.name()),
        Err(failure) => Answered::Refused(failure.code.name()),
    }
}
