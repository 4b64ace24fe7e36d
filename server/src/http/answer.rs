//! Answers as JSON. Bodies hold exactly these fields; where and when in history the answer was given stands in headers.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use raftkv_protocol::{
    Header, LeaderHint, Member, Previous, ReadBasis, Record, Revision, RoleName, Shape, Status,
};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::records::{KvBody, put_bytes};
use super::write::Written;

/// Room that a body mostly finds without growing, and a header's fields.
const USUAL_BODY_BYTES: usize = 512;
const USUAL_FIELDS: usize = 8;

/// What `/get` answers.
struct GetBody<'a> {
    key: &'a [u8],
    record: &'a Record,
}

impl Serialize for GetBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        put_bytes(&mut map, ["key", "key_base64"], self.key)?;
        put_bytes(&mut map, ["value", "value_base64"], &self.record.value)?;
        map.serialize_entry("revision", &self.record.mod_revision.0)?;
        map.end()
    }
}

/// What a write of one key did.
struct WrittenBody<'a> {
    key: &'a [u8],
    deleted: Option<bool>,
    revision: Revision,
    /// `None`: not asked for.
    previous: Option<Option<KvBody<'a>>>,
}

impl Serialize for WrittenBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_bytes(&mut map, ["key", "key_base64"], self.key)?;
        if let Some(deleted) = self.deleted {
            map.serialize_entry("deleted", &deleted)?;
        }
        map.serialize_entry("revision", &self.revision.0)?;
        if let Some(previous) = &self.previous {
            map.serialize_entry("previous", previous)?;
        }
        map.end()
    }
}

/// Where the leader is, as far as known.
#[derive(Debug, serde::Serialize)]
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

#[derive(serde::Serialize)]
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

#[derive(serde::Serialize)]
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
    json(header, &GetBody { key, record })
}

pub(super) fn put(header: &Header, key: &[u8], written: &Written, previous: Previous) -> Response {
    let body = WrittenBody {
        key,
        deleted: None,
        revision: written.revision,
        previous: before(written, previous),
    };
    json(header, &body)
}

pub(super) fn deleted(header: &Header, key: &[u8], written: &Written, previous: Previous) -> Response {
    let body = WrittenBody {
        key,
        deleted: Some(written.is_change),
        revision: written.revision,
        previous: before(written, previous),
    };
    json(header, &body)
}

fn before(written: &Written, previous: Previous) -> Option<Option<KvBody<'_>>> {
    let body = |kv| KvBody {
        kv,
        shape: Shape::Records,
    };
    match previous {
        Previous::Unwanted => None,
        Previous::Wanted => Some(written.previous.as_ref().map(body)),
    }
}

pub(super) fn status(header: &Header, status: &Status) -> Response {
    json(header, &StatusBody::from(status))
}

/// The members, as in a status.
pub(super) fn members(header: &Header, members: &[Member]) -> Response {
    let members: Vec<MemberBody> = members.iter().map(MemberBody::from).collect();
    json(header, &serde_json::json!({ "members": members }))
}

/// Adds what a read rests on, and which state it is of, as header fields.
pub(super) fn with_state(mut response: Response, basis: Option<ReadBasis>, at: Option<Revision>) -> Response {
    let fields = response.headers_mut();
    if let Some(basis) = basis {
        add_basis(fields, basis);
    }
    if let Some(at) = at {
        fields.insert(
            HeaderName::from_static("raftkv-read-revision"),
            HeaderValue::from(at.0),
        );
    }
    response
}

fn add_basis(fields: &mut HeaderMap, basis: ReadBasis) {
    let mut add = |name: &'static str, text: String| {
        let value = HeaderValue::try_from(text).expect("words and digits are a header value");
        fields.insert(HeaderName::from_static(name), value);
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
}

pub(super) fn ready(header: &Header) -> Response {
    json(header, &serde_json::json!({ "ready": true }))
}

/// A JSON body, with where and when in history it was given.
pub(super) fn json(header: &Header, body: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(USUAL_BODY_BYTES);
    serde_json::to_writer(&mut bytes, body).expect("plain data in memory");
    let mut response = Response::new(Body::from(bytes));
    *response.headers_mut() = header_fields(header);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Where and when in history an answer was given, as header fields.
pub(super) fn header_fields(header: &Header) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(USUAL_FIELDS);
    let mut add = |name: &'static str, value: HeaderValue| {
        fields.insert(HeaderName::from_static(name), value);
    };
    let hexadecimal = |text: String| HeaderValue::try_from(text).expect("hex digits are a header value");
    if let Some(cluster) = header.cluster {
        add("raftkv-cluster-id", hexadecimal(cluster.to_string()));
    }
    add("raftkv-node-id", hexadecimal(header.node.to_string()));
    add("raftkv-term", HeaderValue::from(header.term));
    add("raftkv-revision", HeaderValue::from(header.revision.0));
    add("raftkv-history-epoch", HeaderValue::from(header.epoch.0));
    fields
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::kv;
    use super::*;

    fn body(deleted: Option<bool>, previous: Option<Option<KvBody<'_>>>) -> String {
        let body = WrittenBody {
            key: b"k",
            deleted,
            revision: Revision(2),
            previous,
        };
        serde_json::to_string(&body).expect("plain data")
    }

    #[test]
    fn a_get_tells_exactly_three_fields() {
        let body = |key: &'static [u8], value: &'static [u8]| {
            let record = &kv(key, value).record;
            serde_json::to_string(&GetBody { key, record }).expect("plain data")
        };
        assert_eq!(
            body(b"k", "v\u{e9}\"".as_bytes()),
            "{\"key\":\"k\",\"value\":\"v\u{e9}\\\"\",\"revision\":5}"
        );
        assert_eq!(
            body(b"k", b"\xff\x00"),
            r#"{"key":"k","value_base64":"/wA=","revision":5}"#
        );
        assert_eq!(
            body(b"\xfe", b""),
            r#"{"key_base64":"/g==","value":"","revision":5}"#
        );
    }

    #[test]
    fn a_write_tells_what_it_did_and_more_only_when_asked() {
        assert_eq!(body(None, None), r#"{"key":"k","revision":2}"#);
        assert_eq!(
            body(Some(false), None),
            r#"{"key":"k","deleted":false,"revision":2}"#
        );
        assert_eq!(
            body(None, Some(None)),
            r#"{"key":"k","revision":2,"previous":null}"#
        );
    }
}
