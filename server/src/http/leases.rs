//! `/v1/leases`: objects that live as long as they are renewed; keys that hang on one are deleted with it.
//!
//! The id of a lease is sixteen hexadecimal digits, in JSON a string: it has 64 bits, which not every reader of JSON keeps.

use axum::extract::{Request as HttpRequest, State};
use axum::http::Uri;
use raftkv_protocol::{Answer, Command, ErrorCode, Header, LeaseId, LeaseQuery, LeaseState, Request};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::answer;
use super::api::{Outcome, Shared, unexpected};
use super::error::HttpError;
use super::idempotency::IdempotencyKey;
use super::json::{self, Node, Refusal};
use super::list;
use super::parameter::{self, Parameter};
use super::query::Query;
use super::records::KeyOnly;

/// What `GET /v1/leases` takes.
pub(super) static LIST: [&Parameter; 1] = [&parameter::CURSOR];

/// `POST /v1/leases`
pub(super) async fn grant(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, body) = request.into_parts();
    Query::parse(parts.uri.query(), &[])?;
    let once = IdempotencyKey::of(&parts.headers)?;
    let body = api.read_body(&parts.headers, body).await?;
    let node = json::parse(&body)?;
    let fields = node.fields(&["ttl_seconds", "id"])?;
    let ttl_ms = fields.seconds_ms("ttl_seconds")?;
    let ttl_ms = ttl_ms.ok_or_else(|| Refusal::new("the field ttl_seconds is missing"))?;
    let id = fields.read("id", Node::lease)?;
    let command = Command::GrantLease { id, ttl_ms };
    match api.write(&command, once.as_ref()).await? {
        (header, Answer::LeaseGranted { id, ttl_ms }) => Ok(answer::json(&header, &TtlBody { id, ttl_ms })),
        (_, other) => Err(unexpected(&other)),
    }
}

/// `GET /v1/leases`
pub(super) async fn list(State(api): Shared, uri: Uri) -> Outcome {
    let query = Query::parse(uri.query(), &LIST)?;
    let after = query.get(&parameter::CURSOR).map(cursor_of).transpose()?;
    let request = Request::Lease(LeaseQuery::After(after.unwrap_or(LeaseId(0))));
    match api.ask(request).await? {
        (header, Answer::Leases(leases)) => Ok(answer::json(&header, &LeasesBody(&leases))),
        (_, other) => Err(unexpected(&other)),
    }
}

/// `GET /v1/leases/{id}`
pub(super) async fn one(State(api): Shared, uri: Uri) -> Outcome {
    Query::parse(uri.query(), &[])?;
    let id = id(&uri)?;
    match api.ask(Request::Lease(LeaseQuery::One(id))).await? {
        (header, Answer::Lease(Some(state))) => {
            let keys = Some(&state.keys[..]);
            Ok(answer::json(&header, &LeaseBody { state: &state, keys }))
        }
        (header, Answer::Lease(None)) => Err(not_found(header, id)),
        (_, other) => Err(unexpected(&other)),
    }
}

/// `POST /v1/leases/{id}/renew`
pub(super) async fn renew(State(api): Shared, uri: Uri) -> Outcome {
    Query::parse(uri.query(), &[])?;
    let id = id(&uri)?;
    let command = Command::RenewLeases { ids: vec![id] };
    match api.write(&command, None).await? {
        (header, Answer::LeasesRenewed(renewed)) => match renewed[..] {
            [Some(ttl_ms)] => Ok(answer::json(&header, &TtlBody { id, ttl_ms })),
            _ => Err(not_found(header, id)),
        },
        (_, other) => Err(unexpected(&other)),
    }
}

/// `DELETE /v1/leases/{id}`
pub(super) async fn revoke(State(api): Shared, uri: Uri) -> Outcome {
    Query::parse(uri.query(), &[])?;
    let id = id(&uri)?;
    match api.write(&Command::RevokeLease { id }, None).await? {
        (header, Answer::LeaseRevoked { deleted, revision }) => {
            let body = serde_json::json!({
                "id": id.to_string(), "deleted": deleted, "revision": revision.0
            });
            Ok(answer::json(&header, &body))
        }
        (_, other) => Err(unexpected(&other)),
    }
}

fn not_found(header: Header, id: LeaseId) -> HttpError {
    let message = format!("there is no lease {id} (any more)");
    HttpError::from_code(ErrorCode::LeaseNotFound, message).given_by(header)
}

/// The id in `/v1/leases/{id}` and what is below it.
fn id(uri: &Uri) -> Result<LeaseId, HttpError> {
    let text = uri.path().split('/').nth(3).unwrap_or_default();
    text.parse().map_err(|_| {
        HttpError::bad_request(format!(
            "{text:?} is not the id of a lease, which is hexadecimal digits"
        ))
    })
}

/// A cursor is the last lease of the page before, written so that nobody takes it for anything but a cursor.
fn cursor_of(text: &[u8]) -> Result<LeaseId, HttpError> {
    let bytes = list::cursor_of(text)?;
    let id = <[u8; 8]>::try_from(&bytes[..]).map_err(|_| list::no_cursor())?;
    Ok(LeaseId(u64::from_be_bytes(id)))
}

/// How long a lease lives.
struct TtlBody {
    id: LeaseId,
    ttl_ms: u64,
}

impl Serialize for TtlBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("id", &format_args!("{}", self.id))?;
        map.serialize_entry("ttl_seconds", &Seconds(self.ttl_ms))?;
        map.end()
    }
}

/// A lease, with its keys where one alone was asked for.
struct LeaseBody<'a> {
    state: &'a LeaseState,
    keys: Option<&'a [bytes::Bytes]>,
}

impl Serialize for LeaseBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let LeaseState {
            id,
            ttl_ms,
            remaining_ms,
            key_count,
            ..
        } = self.state;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &format_args!("{id}"))?;
        map.serialize_entry("ttl_seconds", &Seconds(*ttl_ms))?;
        map.serialize_entry("remaining_seconds", &Seconds(*remaining_ms))?;
        map.serialize_entry("key_count", key_count)?;
        if let Some(keys) = self.keys {
            let keys: Vec<KeyOnly<'_>> = keys.iter().map(|key| KeyOnly(key)).collect();
            map.serialize_entry("keys", &keys)?;
        }
        map.end()
    }
}

/// A page of leases. The one behind the last holds none.
struct LeasesBody<'a>(&'a [LeaseState]);

impl Serialize for LeasesBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = |state| LeaseBody { state, keys: None };
        let leases: Vec<LeaseBody<'_>> = self.0.iter().map(body).collect();
        let last = self.0.last();
        let cursor = last.map(|state| list::cursor_text(&state.id.0.to_be_bytes()));
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("leases", &leases)?;
        map.serialize_entry("cursor", &cursor)?;
        map.end()
    }
}

/// Milliseconds told as seconds: whole where they are whole.
struct Seconds(u64);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (seconds, rest_ms) = (self.0 / 1000, self.0 % 1000);
        if rest_ms == 0 {
            return serializer.serialize_u64(seconds);
        }
        // A hundred years of milliseconds are below 2^53.
        #[allow(clippy::cast_precision_loss)]
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn lease(id: u64) -> LeaseState {
        LeaseState {
            id: LeaseId(id),
            ttl_ms: 30_000,
            remaining_ms: 29_500,
            key_count: 2,
            keys: vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")],
        }
    }

    #[test]
    fn a_lease_is_told_with_its_keys() {
        let state = &lease(255);
        let keys = Some(&state.keys[..]);
        let body = serde_json::to_string(&LeaseBody { state, keys }).expect("plain data");
        assert_eq!(
            body,
            r#"{"id":"00000000000000ff","ttl_seconds":30,"remaining_seconds":29.5,"key_count":2,"keys":[{"key":"a"},{"key_base64":"/w=="}]}"#
        );
    }

    #[test]
    fn a_page_tells_where_the_next_one_begins() {
        let leases = [lease(1), lease(u64::MAX)];
        let body = serde_json::to_value(LeasesBody(&leases)).expect("plain data");
        let cursor = body["cursor"].as_str().expect("a cursor");
        assert_eq!(cursor_of(cursor.as_bytes()).ok(), Some(LeaseId(u64::MAX)));
        let none = serde_json::to_string(&LeasesBody(&[])).expect("plain data");
        assert_eq!(none, r#"{"leases":[],"cursor":null}"#);
        assert!(cursor_of(b"AQ").is_err());
    }

    #[test]
    fn the_path_names_a_lease() {
        let read = |path: &str| id(&path.parse().expect(path)).ok();
        assert_eq!(read("/v1/leases/ff"), Some(LeaseId(255)));
        assert_eq!(read("/v1/leases/ff/renew"), Some(LeaseId(255)));
        for wrong in ["/v1/leases/x", "/v1/leases/%66", "/v1/leases/11112222333344445"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
