//! Requests and answers.
//!
//! ```text
//! request   RequestHeader, then raw:  Get: the key      Write: the encoded command
//!                                     Status: nothing   Member: the encoded command
//! answer    ResponseHeader, then raw: Found, Read: the value   Members: the list   all others: nothing
//! ```
//! Cluster, node and history epoch are the same for all answers on a connection: its [`Welcome`](crate::Welcome) told
//! them, and answers do not repeat them.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{append, expect_end, take};
use crate::{
    Answer, CheckedCommand, ClusterId, Consistency, ErrorCode, Failure, GroupId, Header, HistoryEpoch,
    Limits, Member, MemberCommand, NodeId, ProtocolError, ReadBasis, Record, Request, RequestId, Response,
    Revision, Status, Welcome, write_frame,
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
}

/// `S` and `F` are references when written, and owned when read.
#[derive(Serialize, Deserialize)]
struct ResponseHeader<S, F> {
    group: GroupId,
    id: RequestId,
    term: u64,
    revision: Revision,
    outcome: Outcome<S, F>,
}

#[derive(Serialize, Deserialize)]
enum Outcome<S, F> {
    Failed(F),
    Found {
        create_revision: Revision,
        mod_revision: Revision,
        version: u64,
    },
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
}

/// A record but for its value.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct RecordHeader {
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
}

impl RecordHeader {
    fn of(record: &Record) -> RecordHeader {
        RecordHeader {
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            version: record.version,
        }
    }

    fn with(self, value: Bytes) -> Record {
        Record {
            value,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
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
        Request::Write(command) => (RequestKind::Write, command.encoded()),
        Request::Status => (RequestKind::Status, &[]),
        Request::Member(command) => {
            encoded = postcard::to_allocvec(command).expect("plain data always encodes");
            (RequestKind::Member, &encoded)
        }
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
    if let RequestKind::Status = header.kind {
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
        RequestKind::Member => member_command(&raw).map(Request::Member),
    }
}

fn member_command(raw: &[u8]) -> Result<MemberCommand, Failure> {
    match postcard::take_from_bytes(raw) {
        Ok((command, [])) => Ok(command),
        Ok(_) | Err(_) => Err(Failure::new(
            ErrorCode::BadRequest,
            "the change of members does not decode: use a client of the server's version",
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

fn outcome(response: &Response) -> Outcome<&Status, &Failure> {
    match &response.outcome {
        Err(failure) => Outcome::Failed(failure),
        Ok(Answer::Found(record)) => Outcome::Found {
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            version: record.version,
        },
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
    let (header, rest) = take::<ResponseHeader<Box<Status>, Failure>>(EXPECTED_RESPONSE, &body)?;
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
    outcome: Outcome<Box<Status>, Failure>,
    frame: &Bytes,
    rest: &[u8],
) -> Result<Result<Answer, Failure>, ProtocolError> {
    let answer = match outcome {
        Outcome::Found {
            create_revision,
            mod_revision,
            version,
        } => {
            return Ok(Ok(Answer::Found(Record {
                value: frame.slice_ref(rest),
                create_revision,
                mod_revision,
                version,
            })));
        }
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
    };
    expect_end(EXPECTED_RESPONSE, rest)?;
    Ok(answer)
}
