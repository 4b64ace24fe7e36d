//! Answers as JSON. Bodies hold exactly these fields; where and when in history the answer was given stands in headers.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use raftkv_protocol::{Header, LeaderHint, Member, ReadBasis, Record, Revision, RoleName, Status};
use serde::Serialize;

/// Bytes that stand as text where they are UTF-8, and as base64 under another name where they are not.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl<'a> Text<'a> {
    pub(super) fn plain(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    pub(super) fn base64(&self) -> Option<String> {
        self.plain().is_none().then(|| STANDARD.encode(self.0))
    }
}

#[derive(Serialize)]
struct GetBody<'a> {
    #[serde(flatten)]
    key: KeyBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    revision: u64,
}

#[derive(Serialize)]
struct SetBody<'a> {
    #[serde(flatten)]
    key: KeyBody<'a>,
    revision: u64,
}

#[derive(Serialize)]
struct DeleteBody<'a> {
    #[serde(flatten)]
    key: KeyBody<'a>,
    deleted: bool,
    revision: u64,
}

#[derive(Serialize)]
struct KeyBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
}

impl<'a> From<&'a Bytes> for KeyBody<'a> {
    fn from(key: &'a Bytes) -> KeyBody<'a> {
        let text = Text(key);
        KeyBody {
            key: text.plain(),
            key_base64: text.base64(),
        }
    }
}

/// Where the leader is, as far as known.
#[derive(Debug, Serialize)]
pub(super) struct LeaderBody {
    id: String,
    address: String,
    http: Option<String>,
}

impl From<&LeaderHint> for LeaderBody {
    fn from(hint: &LeaderHint) -> LeaderBody {
        LeaderBody {
            id: hint.name.to_string(),
            address: hint.address.to_string(),
            http: hint.http.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Serialize)]
struct StatusBody {
    id: String,
    role: &'static str,
    leader: Option<String>,
    term: u64,
    commit_index: u64,
    applied_index: u64,
    revision: u64,
    cluster_id: Option<String>,
    version: String,
    members: Vec<MemberBody>,
}

#[derive(Serialize)]
struct MemberBody {
    id: String,
    address: String,
    http: Option<String>,
    voter: bool,
}

impl From<&Status> for StatusBody {
    fn from(status: &Status) -> StatusBody {
        StatusBody {
            id: status.name.to_string(),
            role: role(status.role),
            leader: status.leader.as_ref().map(ToString::to_string),
            term: status.term,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            revision: status.revision.0,
            cluster_id: status.cluster.map(|cluster| cluster.to_string()),
            version: status.version.clone(),
            members: status.members.iter().map(MemberBody::from).collect(),
        }
    }
}

impl From<&Member> for MemberBody {
    fn from(member: &Member) -> MemberBody {
        MemberBody {
            id: member.name.to_string(),
            address: member.address.to_string(),
            http: member.http.as_ref().map(ToString::to_string),
            voter: member.voter,
        }
    }
}

fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Leader => "leader",
        RoleName::Follower => "follower",
        RoleName::Candidate => "candidate",
        RoleName::Learner => "learner",
    }
}

pub(super) fn found(header: &Header, key: &Bytes, record: &Record) -> Response {
    let value = Text(&record.value);
    answer(
        header,
        &GetBody {
            key: key.into(),
            value: value.plain(),
            value_base64: value.base64(),
            revision: record.mod_revision.0,
        },
    )
}

pub(super) fn put(header: &Header, key: &Bytes, revision: Revision) -> Response {
    let revision = revision.0;
    answer(
        header,
        &SetBody {
            key: key.into(),
            revision,
        },
    )
}

/// What a delete did.
#[derive(Clone, Copy)]
pub(super) struct Deletion {
    pub(super) existed: bool,
    pub(super) revision: Revision,
}

pub(super) fn deleted(header: &Header, key: &Bytes, deletion: Deletion) -> Response {
    answer(
        header,
        &DeleteBody {
            key: key.into(),
            deleted: deletion.existed,
            revision: deletion.revision.0,
        },
    )
}

pub(super) fn status(header: &Header, status: &Status) -> Response {
    answer(header, &StatusBody::from(status))
}

/// The members, as in a status.
pub(super) fn members(header: &Header, members: &[Member]) -> Response {
    let members: Vec<MemberBody> = members.iter().map(MemberBody::from).collect();
    answer(header, &serde_json::json!({ "members": members }))
}

/// Adds what a read rests on, as header fields.
pub(super) fn with_basis(mut response: Response, basis: ReadBasis) -> Response {
    let mut add = |name: &'static str, text: String| {
        let value = HeaderValue::try_from(text).expect("words and digits are a header value");
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    };
    match basis {
        ReadBasis::ReadIndex => add("raftkv-read-basis", "read_index".to_owned()),
        ReadBasis::LeaderLease => add("raftkv-read-basis", "leader_lease".to_owned()),
        ReadBasis::Local {
            applied_index,
            leader_contact_ms,
        } => {
            add("raftkv-read-basis", "local".to_owned());
            add("raftkv-applied-index", applied_index.to_string());
            if let Some(age) = leader_contact_ms {
                add("raftkv-leader-contact-ms", age.to_string());
            }
        }
    }
    response
}

pub(super) fn ready(header: &Header) -> Response {
    answer(header, &serde_json::json!({ "ready": true }))
}

fn answer(header: &Header, body: &impl Serialize) -> Response {
    (header_fields(header), Json(body)).into_response()
}

/// Where and when in history an answer was given, as header fields.
pub(super) fn header_fields(header: &Header) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(8);
    let mut add = |name: &'static str, text: String| {
        let value = HeaderValue::try_from(text).expect("hex and decimal digits are a header value");
        fields.insert(HeaderName::from_static(name), value);
    };
    if let Some(cluster) = header.cluster {
        add("raftkv-cluster-id", cluster.to_string());
    }
    add("raftkv-node-id", header.node.to_string());
    add("raftkv-term", header.term.to_string());
    add("raftkv-revision", header.revision.to_string());
    add("raftkv-history-epoch", header.epoch.to_string());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get_body(key: &'static [u8], value: &'static [u8]) -> String {
        let key = Bytes::from_static(key);
        let value = Text(value);
        let body = GetBody {
            key: (&key).into(),
            value: value.plain(),
            value_base64: value.base64(),
            revision: 4,
        };
        serde_json::to_string(&body).expect("plain data")
    }

    #[test]
    fn text_stands_as_text() {
        assert_eq!(
            get_body(b"k", "v\u{e9}\"".as_bytes()),
            "{\"key\":\"k\",\"value\":\"v\u{e9}\\\"\",\"revision\":4}"
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_stand_as_base64() {
        assert_eq!(
            get_body(b"k", b"\xff\x00"),
            r#"{"key":"k","value_base64":"/wA=","revision":4}"#
        );
        assert_eq!(
            get_body(b"\xfe", b""),
            r#"{"key_base64":"/g==","value":"","revision":4}"#
        );
    }

    #[test]
    fn a_delete_tells_whether_there_was_something() {
        let key = Bytes::from_static(b"k");
        let body = DeleteBody {
            key: (&key).into(),
            deleted: false,
            revision: 2,
        };
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"key":"k","deleted":false,"revision":2}"#
        );
    }
}
