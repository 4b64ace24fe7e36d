//! Requests and answers.
//!
//! ```text
//! request   RequestHeader, then raw:  Get: the key      Write: the encoded command
//!                                     Status: nothing   Member: the encoded command
//!                                     WriteOnce: the encoded command    Range, Watch: what is wanted
//! answer    ResponseHeader, then raw: Found, Read: the value   Members: the list   all others: nothing
//! ```
//! Cluster, node and history epoch are the same for all answers on a connection: its [`Welcome`](crate::Welcome) told
//! them, and answers do not repeat them.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{append, expect_end, take};
use crate::{
    Answer, CheckedCommand, ClusterId, Consistency, ErrorCode, Failure, GroupId, Header, HistoryEpoch,
    LeaseId, LeaseQuery, LeaseState, Limits, Member, NodeId, Once, ProtocolError, RangePage, RangeRequest,
    ReadBasis, Record, Request, RequestId, Response, Revision, SESSION_WINDOW, ScrubCommand, ScrubState,
    SessionId, Status, TxnResult, WatchControl, WatchPart, WatchRequest, Welcome, write_frame,
};

/// The group of every client frame today.
const GROUP: GroupId = GroupId(0);

const EXPECTED_REQUEST: &str = "a request";
const EXPECTED_RESPONSE: &str = "an answer";

#[derive(Serialize, Deserialize)]
struct RequestHeader {
    group: GroupId,
    id: RequestId,
    timeout_ms: u32,
    kind: RequestKind,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum RequestKind {
    Get { consistency: Consistency },
    Write,
    Status,
    Member,
    WriteOnce(Once),
    Range,
    Lease(LeaseQuery),
    Watch,
    WatchControl(WatchControl),
    Scrub(ScrubCommand),
}

/// `O` borrows when written, and owns when read.
#[derive(Serialize, Deserialize)]
struct ResponseHeader<O> {
    group: GroupId,
    id: RequestId,
    term: u64,
    revision: Revision,
    outcome: O,
}

/// Type parameters are references when written, and owned when read.
#[derive(Serialize, Deserialize)]
enum Outcome<S, F, T, R, W> {
    Failed(F),
    Found(RecordHeader),
    NotFound,
    Put {
        revision: Revision,
    },
    Deleted {
        existed: bool,
        revision: Revision,
    },
    ConditionFailed {
        current: Option<Revision>,
    },
    Status(S),
    Members,
    Read {
        basis: ReadBasis,
        record: Option<RecordHeader>,
    },
    Txn(T),
    Range(R),
    LeaseGranted {
        id: LeaseId,
        ttl_ms: u64,
    },
    LeasesRenewed(Vec<Option<u64>>),
    LeaseRevoked {
        deleted: u64,
        revision: Revision,
    },
    Lease(Option<LeaseState>),
    Leases(Vec<LeaseState>),
    SessionOpened {
        session: SessionId,
        ttl_ms: u64,
    },
    SessionDone,
    Watch(W),
    Scrub(Box<ScrubState>),
}

/// A record but for its value.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct RecordHeader {
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
    lease: Option<LeaseId>,
}

type OwnedOutcome = Outcome<Box<Status>, Failure, TxnResult, RangePage, WatchPart>;
type BorrowedOutcome<'a> = Outcome<&'a Status, &'a Failure, &'a TxnResult, &'a RangePage, &'a WatchPart>;

impl RecordHeader {
    fn of(record: &Record) -> RecordHeader {
        RecordHeader {
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            version: record.version,
            lease: record.lease,
        }
    }

    fn with(self, value: Bytes) -> Record {
        Record {
            value,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// A request as a listener receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// To be named by the answer.
    pub id: RequestId,
    /// How long the client waits, milliseconds from sending it.
    pub timeout_ms: u32,
    /// What to do; or, if it breaks a limit, what to answer.
    pub request: Result<Request, Failure>,
}

/// What all answers on one connection have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionContext {
    /// The cluster; `None` if the node was unformed.
    pub cluster: Option<ClusterId>,
    /// The node that answers.
    pub node: NodeId,
    /// Its history epoch.
    pub epoch: HistoryEpoch,
}

impl From<&Welcome> for ConnectionContext {
    fn from(welcome: &Welcome) -> ConnectionContext {
        ConnectionContext {
            cluster: welcome.cluster,
            node: welcome.node,
            epoch: welcome.epoch,
        }
    }
}

/// Appends a request as one frame. `timeout_ms`: how long the answer is waited for.
pub fn encode_request(out: &mut BytesMut, id: RequestId, timeout_ms: u32, request: &Request) {
    let encoded: Vec<u8>;
    let (kind, raw): (RequestKind, &[u8]) = match request {
        Request::Get { key, consistency } => (
            RequestKind::Get {
                consistency: *consistency,
            },
            key,
        ),
        Request::Write(command) => (
            command.once().map_or(RequestKind::Write, RequestKind::WriteOnce),
            command.encoded(),
        ),
        Request::Status => (RequestKind::Status, &[]),
        Request::Member(command) => {
            encoded = postcard::to_allocvec(command).expect("plain data always encodes");
            (RequestKind::Member, &encoded)
        }
        Request::Range(range) => {
            encoded = postcard::to_allocvec(range).expect("plain data always encodes");
            (RequestKind::Range, &encoded)
        }
        Request::Lease(query) => (RequestKind::Lease(*query), &[]),
        Request::Watch(watch) => {
            encoded = postcard::to_allocvec(watch).expect("plain data always encodes");
            (RequestKind::Watch, &encoded)
        }
        Request::WatchControl(control) => (RequestKind::WatchControl(*control), &[]),
        Request::Scrub(command) => (RequestKind::Scrub(*command), &[]),
    };
    let header = RequestHeader {
        group: GROUP,
        id,
        timeout_ms,
        kind,
    };
    write_frame(out, |out| {
        append(out, &header);
        out.extend_from_slice(raw);
    });
}

/// Decodes the body of a client's frame. Key and command are slices of it.
///
/// A request that is well formed but not allowed (over a limit, an empty key, a command that does not decode, a group that
/// is not here) is a failure to be answered; the connection goes on.
///
/// # Errors
/// If it is not a request of this version: there is no id to answer to.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a frame is done with once its message is taken out"
)]
pub fn decode_request(body: Bytes, limits: &Limits) -> Result<ClientRequest, ProtocolError> {
    let (header, rest) = take::<RequestHeader>(EXPECTED_REQUEST, &body)?;
    if let RequestKind::Status
    | RequestKind::Lease(_)
    | RequestKind::WatchControl(_)
    | RequestKind::Scrub(_) = header.kind
    {
        expect_end(EXPECTED_REQUEST, rest)?;
    }
    let raw = body.slice_ref(rest);
    Ok(ClientRequest {
        id: header.id,
        timeout_ms: header.timeout_ms,
        request: check_group(header.group).and_then(|()| request(header.kind, raw, limits)),
    })
}

fn check_group(group: GroupId) -> Result<(), Failure> {
    if group == GROUP {
        return Ok(());
    }
    let message = format!("there is no group {group} here, only group {GROUP}");
    Err(Failure::new(ErrorCode::BadRequest, message))
}

fn request(kind: RequestKind, raw: Bytes, limits: &Limits) -> Result<Request, Failure> {
    match kind {
        RequestKind::Get { consistency } => {
            limits.check_key(&raw)?;
            Ok(Request::Get {
                key: raw,
                consistency,
            })
        }
        RequestKind::Write => CheckedCommand::from_client(raw, limits).map(Request::Write),
        RequestKind::Status => Ok(Request::Status),
        RequestKind::Member => plain(&raw, "change of members").map(Request::Member),
        RequestKind::WriteOnce(once) => {
            let once = checked_once(once)?;
            let command = CheckedCommand::from_client(raw, limits)?;
            Ok(Request::Write(command.within(once)))
        }
        RequestKind::Range => {
            limits.check_request(&raw)?;
            let range: RangeRequest = plain(&raw, "range")?;
            range.check(limits)?;
            Ok(Request::Range(range))
        }
        RequestKind::Lease(query) => Ok(Request::Lease(query)),
        RequestKind::Watch => {
            limits.check_request(&raw)?;
            let watch: WatchRequest = plain(&raw, "watch")?;
            watch.check(limits)?;
            Ok(Request::Watch(watch))
        }
        RequestKind::WatchControl(control) => Ok(Request::WatchControl(control)),
        RequestKind::Scrub(command) => Ok(Request::Scrub(command)),
    }
}

fn checked_once(once: Once) -> Result<Once, Failure> {
    let is_within = once.session.0 != 0
        && (1..=once.sequence).contains(&once.first_unacknowledged)
        && once.sequence - once.first_unacknowledged < SESSION_WINDOW;
    if is_within {
        return Ok(once);
    }
    let message = format!(
        "{once:?} is no write of a session: sequences begin at 1, and run at most {SESSION_WINDOW} ahead of the first \
         unacknowledged one"
    );
    Err(Failure::new(ErrorCode::BadRequest, message))
}

fn plain<T: serde::de::DeserializeOwned>(raw: &[u8], what: &str) -> Result<T, Failure> {
    match postcard::take_from_bytes(raw) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Failure::new(
            ErrorCode::BadRequest,
            format!("the {what} does not decode: use a client of the server's version"),
        )),
    }
}

/// Appends an answer as one frame.
pub fn encode_response(out: &mut BytesMut, id: RequestId, response: &Response) {
    let outcome = outcome(response);
    let members: Vec<u8>;
    let raw: &[u8] = match &response.outcome {
        Ok(
            Answer::Found(record)
            | Answer::Read {
                record: Some(record), ..
            },
        ) => &record.value,
        Ok(Answer::Members(list)) => {
            members = postcard::to_allocvec(list).expect("plain data always encodes");
            &members
        }
        Ok(_) | Err(_) => &[],
    };
    let header = ResponseHeader {
        group: GROUP,
        id,
        term: response.header.term,
        revision: response.header.revision,
        outcome,
    };
    write_frame(out, |out| {
        append(out, &header);
        out.extend_from_slice(raw);
    });
}

/// A part of a watch, encoded once for all watches that get it.
#[derive(Clone, Debug)]
pub struct EncodedWatchPart(Bytes);

impl EncodedWatchPart {
    /// Encodes a part.
    #[must_use]
    pub fn new(part: &WatchPart) -> EncodedWatchPart {
        EncodedWatchPart(
            postcard::to_allocvec(part)
                .expect("plain data always encodes")
                .into(),
        )
    }

    /// Bytes it adds to an answer.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

/// Appends the same frame as [`encode_response`] does of an answer that is this part.
pub fn encode_watch_response(out: &mut BytesMut, id: RequestId, header: &Header, part: &EncodedWatchPart) {
    // An outcome's content follows its number, and nothing follows the outcome: so the content can be put behind it.
    let outcome: Outcome<(), (), (), (), ()> = Outcome::Watch(());
    let header = ResponseHeader {
        group: GROUP,
        id,
        term: header.term,
        revision: header.revision,
        outcome,
    };
    write_frame(out, |out| {
        append(out, &header);
        out.extend_from_slice(&part.0);
    });
}

fn outcome(response: &Response) -> BorrowedOutcome<'_> {
    match &response.outcome {
        Err(failure) => Outcome::Failed(failure),
        Ok(Answer::Found(record)) => Outcome::Found(RecordHeader::of(record)),
        Ok(Answer::NotFound) => Outcome::NotFound,
        Ok(Answer::Put { revision }) => Outcome::Put { revision: *revision },
        Ok(Answer::Deleted { existed, revision }) => Outcome::Deleted {
            existed: *existed,
            revision: *revision,
        },
        Ok(Answer::ConditionFailed { current }) => Outcome::ConditionFailed { current: *current },
        Ok(Answer::Status(status)) => Outcome::Status(status),
        Ok(Answer::Members(_)) => Outcome::Members,
        Ok(Answer::Read { record, basis }) => Outcome::Read {
            basis: *basis,
            record: record.as_ref().map(RecordHeader::of),
        },
        Ok(Answer::Txn(result)) => Outcome::Txn(result),
        Ok(Answer::Range(page)) => Outcome::Range(page),
        Ok(Answer::LeaseGranted { id, ttl_ms }) => Outcome::LeaseGranted {
            id: *id,
            ttl_ms: *ttl_ms,
        },
        Ok(Answer::LeasesRenewed(remaining)) => Outcome::LeasesRenewed(remaining.clone()),
        Ok(Answer::LeaseRevoked { deleted, revision }) => Outcome::LeaseRevoked {
            deleted: *deleted,
            revision: *revision,
        },
        Ok(Answer::Lease(lease)) => Outcome::Lease(lease.clone()),
        Ok(Answer::Leases(leases)) => Outcome::Leases(leases.clone()),
        Ok(Answer::SessionOpened { session, ttl_ms }) => Outcome::SessionOpened {
            session: *session,
            ttl_ms: *ttl_ms,
        },
        Ok(Answer::SessionDone) => Outcome::SessionDone,
        Ok(Answer::Watch(part)) => Outcome::Watch(part),
        Ok(Answer::Scrub(state)) => Outcome::Scrub(state.clone()),
    }
}

/// Decodes the body of an answer. A value is a slice of it.
///
/// # Errors
/// If it is not an answer of this version.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a frame is done with once its message is taken out"
)]
pub fn decode_response(
    body: Bytes,
    context: &ConnectionContext,
) -> Result<(RequestId, Response), ProtocolError> {
    let (header, rest) = take::<ResponseHeader<OwnedOutcome>>(EXPECTED_RESPONSE, &body)?;
    if header.group != GROUP {
        return Err(ProtocolError::UnknownGroup(header.group));
    }
    let response = Response {
        header: Header {
            cluster: context.cluster,
            node: context.node,
            term: header.term,
            revision: header.revision,
            epoch: context.epoch,
        },
        outcome: answer(header.outcome, &body, rest)?,
    };
    Ok((header.id, response))
}

/// Turns an outcome's header, and what stands behind it in the frame, into the outcome.
fn answer(
    outcome: OwnedOutcome,
    frame: &Bytes,
    rest: &[u8],
) -> Result<Result<Answer, Failure>, ProtocolError> {
    let answer = match outcome {
        Outcome::Found(record) => return Ok(Ok(Answer::Found(record.with(frame.slice_ref(rest))))),
        Outcome::Failed(failure) => Err(failure),
        Outcome::NotFound => Ok(Answer::NotFound),
        Outcome::Put { revision } => Ok(Answer::Put { revision }),
        Outcome::Deleted { existed, revision } => Ok(Answer::Deleted { existed, revision }),
        Outcome::ConditionFailed { current } => Ok(Answer::ConditionFailed { current }),
        Outcome::Status(status) => Ok(Answer::Status(status)),
        Outcome::Members => {
            let (members, rest) = take::<Vec<Member>>(EXPECTED_RESPONSE, rest)?;
            expect_end(EXPECTED_RESPONSE, rest)?;
            return Ok(Ok(Answer::Members(members)));
        }
        Outcome::Read { basis, record: None } => Ok(Answer::Read { record: None, basis }),
        Outcome::Read {
            basis,
            record: Some(record),
        } => {
            let record = Some(record.with(frame.slice_ref(rest)));
            return Ok(Ok(Answer::Read { record, basis }));
        }
        Outcome::Txn(result) => Ok(Answer::Txn(result)),
        Outcome::Range(page) => Ok(Answer::Range(page)),
        Outcome::LeaseGranted { id, ttl_ms } => Ok(Answer::LeaseGranted { id, ttl_ms }),
        Outcome::LeasesRenewed(remaining) => Ok(Answer::LeasesRenewed(remaining)),
        Outcome::LeaseRevoked { deleted, revision } => Ok(Answer::LeaseRevoked { deleted, revision }),
        Outcome::Lease(lease) => Ok(Answer::Lease(lease)),
        Outcome::Leases(leases) => Ok(Answer::Leases(leases)),
        Outcome::SessionOpened { session, ttl_ms } => Ok(Answer::SessionOpened { session, ttl_ms }),
        Outcome::SessionDone => Ok(Answer::SessionDone),
        Outcome::Watch(part) => Ok(Answer::Watch(part)),
        Outcome::Scrub(state) => Ok(Answer::Scrub(state)),
    };
    expect_end(EXPECTED_RESPONSE, rest)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyValue, PartKind, WatchEvent};

    #[test]
    fn a_part_that_was_encoded_once_makes_the_same_frame_as_its_answer() {
        let record = Record {
            value: Bytes::from_static(b"value"),
            create_revision: Revision(2),
            mod_revision: Revision(9),
            version: 3,
            lease: None,
        };
        let kv = KeyValue {
            key: Bytes::from_static(b"key"),
            record,
        };
        let part = WatchPart {
            kind: PartKind::Changes,
            through: Revision(9),
            events: vec![WatchEvent::Put { kv, previous: None }],
        };
        let header = Header {
            cluster: None,
            node: NodeId(1),
            term: 4,
            revision: Revision(300),
            epoch: HistoryEpoch(1),
        };
        let (mut plain, mut shared) = (BytesMut::new(), BytesMut::new());
        let encoded = EncodedWatchPart::new(&part);
        encode_watch_response(&mut shared, RequestId(70_000), &header, &encoded);
        let outcome = Ok(Answer::Watch(part));
        encode_response(&mut plain, RequestId(70_000), &Response { header, outcome });
        assert_eq!(plain, shared);
    }
}
