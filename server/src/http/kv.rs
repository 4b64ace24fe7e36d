//! `/v1/kv/{key}`: one key, its value as the plain body.
//!
//! The key is the rest of the path, percent-decoded to bytes; it may hold slashes and whatever else. `ETag` is the revision
//! that last changed it: `If-None-Match` on a read answers 304 where the client has that state already, `If-Match` and
//! `If-None-Match: *` make a write conditional. A condition that does not hold is 409 as everywhere here, not 412: one code,
//! one status, and the revision as it is in the body.

use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use raftkv_protocol::{Condition, KeySpan, Lifetime, MAX_TTL_MS, Previous, Record, Revision};

use super::answer;
use super::api::{Outcome, Shared};
use super::error::HttpError;
use super::idempotency::IdempotencyKey;
use super::list;
use super::parameter::{self, Parameter};
use super::query::{Query, decode_path, refused};
use super::read::{ReadOf, Reading};
use super::write::{Delete, Precondition, Put};

/// Where keys stand in paths.
const ROOT: &str = "/v1/kv/";

/// What `GET` takes: of one key the first four, of a prefix all.
pub(super) static READ: [&Parameter; 10] = [
    &parameter::CONSISTENCY,
    &parameter::MAX_STALENESS_MS,
    &parameter::REVISION,
    &parameter::AGO,
    &parameter::IS_PREFIX,
    &parameter::LIMIT,
    &parameter::CURSOR,
    &parameter::REVERSE,
    &parameter::KEYS_ONLY,
    &parameter::COUNT_ONLY,
];

/// What `PUT` takes.
pub(super) static PUT: [&Parameter; 4] = [
    &parameter::TTL,
    &parameter::TTL_SECONDS,
    &parameter::LEASE,
    &parameter::PREVIOUS,
];

/// What `DELETE` takes.
pub(super) static DELETE: [&Parameter; 2] = [&parameter::PREVIOUS, &parameter::IS_PREFIX];

/// `GET` and `HEAD`.
pub(super) async fn read(State(api): Shared, uri: Uri, headers: HeaderMap) -> Outcome {
    let query = Query::parse(uri.query(), &READ)?;
    let key = key(&uri)?;
    if query.is_set(&parameter::IS_PREFIX)? {
        return list::answer(api, &query, KeySpan::prefix(&key), &headers).await;
    }
    if let Some(other) = query.first_of(&READ[5..]) {
        return Err(refused(
            other,
            "goes with ?prefix alone: a key by itself is no list",
        ));
    }
    let known = Tags::of(&headers, &header::IF_NONE_MATCH)?;
    let reading = api.read(&key, ReadOf::parse(&query)?).await?;
    Ok(told(reading, &known))
}

/// `PUT`
pub(super) async fn put(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, body) = request.into_parts();
    let key = key(&parts.uri)?;
    let query = Query::parse(parts.uri.query(), &PUT)?;
    let once = IdempotencyKey::of(&parts.headers)?;
    let precondition = precondition(&parts.headers)?;
    let (lifetime, previous) = (lifetime(&query)?, previous(&query)?);
    let value = api.read_body(&parts.headers, body).await?;
    let put = Put {
        key: &key,
        value: &value,
        precondition,
        lifetime,
        previous,
    };
    let (header, written) = api.put(put, once.as_ref()).await?;
    let mut response = answer::put(&header, &key, &written, previous);
    let tag = etag(written.revision);
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// `DELETE`
pub(super) async fn delete(State(api): Shared, request: HttpRequest) -> Outcome {
    let (parts, _) = request.into_parts();
    let key = key(&parts.uri)?;
    let query = Query::parse(parts.uri.query(), &DELETE)?;
    if query.is_set(&parameter::IS_PREFIX)? {
        return list::delete_span(&api, &query, &KeySpan::prefix(&key), &parts.headers).await;
    }
    let once = IdempotencyKey::of(&parts.headers)?;
    let delete = Delete {
        key: &key,
        precondition: precondition(&parts.headers)?,
        previous: previous(&query)?,
    };
    let (header, written) = api.delete(delete, once.as_ref()).await?;
    Ok(answer::deleted(&header, &key, &written, delete.previous))
}

/// The key that the path names: what stands there, not what a library makes of it.
fn key(uri: &Uri) -> Result<Bytes, HttpError> {
    let rest = uri.path().strip_prefix(ROOT).unwrap_or_default();
    Ok(Bytes::from(decode_path(rest)?.into_owned()))
}

/// Are the old records wanted?
pub(super) fn previous(query: &Query<'_>) -> Result<Previous, HttpError> {
    Ok(match query.is_set(&parameter::PREVIOUS)? {
        true => Previous::Wanted,
        false => Previous::Unwanted,
    })
}

fn lifetime(query: &Query<'_>) -> Result<Lifetime, HttpError> {
    let ttl_ms = match (
        query.duration_ms(&parameter::TTL)?,
        query.get(&parameter::TTL_SECONDS),
    ) {
        (Some(_), Some(_)) => {
            return Err(HttpError::bad_request(
                "ttl and ttl_seconds exclude each other: give one",
            ));
        }
        (None, Some(seconds)) => Some(seconds_ms(seconds)?),
        (ttl_ms, None) => ttl_ms,
    };
    match (ttl_ms, query.lease(&parameter::LEASE)?) {
        (Some(_), Some(_)) => Err(HttpError::bad_request(
            "a time to live and a lease exclude each other: give one",
        )),
        (None, Some(lease)) => Ok(Lifetime::Lease(lease)),
        (None, None) => Ok(Lifetime::Unlimited),
        (Some(ttl_ms), None) if (1..=MAX_TTL_MS).contains(&ttl_ms) => Ok(Lifetime::Ttl { ttl_ms }),
        (Some(_), None) => Err(HttpError::bad_request(
            "the time to live is between a millisecond and a hundred years",
        )),
    }
}

fn seconds_ms(text: &[u8]) -> Result<u64, HttpError> {
    let seconds = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    seconds.and_then(whole_ms).ok_or_else(|| {
        refused(
            &parameter::TTL_SECONDS,
            "is not a number of seconds from 0.001 on",
        )
    })
}

/// Seconds as milliseconds; `None` for less than one, and for more than a hundred years.
pub(super) fn whole_ms(seconds: f64) -> Option<u64> {
    // The cast saturates, and what is no number becomes 0.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ms = (seconds * 1000.0).round() as u64;
    (1..=MAX_TTL_MS).contains(&ms).then_some(ms)
}

/// The entity tags of a header field.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// The field is not there.
    Unnamed,
    /// `*`
    Any,
    /// These; tags that no revision has are left out.
    These(Vec<Revision>),
}

impl Tags {
    /// Reads a field; tags in it that are none refuse the request, lest a condition be taken for none.
    fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Tags, HttpError> {
        let mut tags = Vec::new();
        for value in headers.get_all(name) {
            for tag in value.as_bytes().split(|byte| *byte == b',') {
                match tag.trim_ascii() {
                    b"*" => return Ok(Tags::Any),
                    b"" => {}
                    tag => tags.push(revision_of(tag).ok_or_else(|| no_tag(name))?),
                }
            }
        }
        Ok(match headers.contains_key(name) {
            true => Tags::These(tags),
            false => Tags::Unnamed,
        })
    }

    fn hold(&self, revision: Revision) -> bool {
        match self {
            Tags::Unnamed => false,
            Tags::Any => true,
            Tags::These(tags) => tags.contains(&revision),
        }
    }
}

/// The revision in `"7"`, and in `W/"7"` as proxies make of it.
fn revision_of(tag: &[u8]) -> Option<Revision> {
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    let digits = tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Revision)
}

fn no_tag(name: &HeaderName) -> HttpError {
    HttpError::bad_request(format!(
        "{name} holds what no ETag of this server is: it is a revision in double quotes, such as \"7\", or *"
    ))
}

/// `If-Match` and `If-None-Match` of a write.
fn precondition(headers: &HeaderMap) -> Result<Precondition, HttpError> {
    let matching = Tags::of(headers, &header::IF_MATCH)?;
    match (&matching, Tags::of(headers, &header::IF_NONE_MATCH)?) {
        (Tags::Unnamed, Tags::Unnamed) => Ok(Precondition::Plain(Condition::Always)),
        (Tags::Unnamed, Tags::Any) => Ok(Precondition::Plain(Condition::Absent)),
        (Tags::Any, Tags::Unnamed) => Ok(Precondition::Exists),
        (Tags::These(tags), Tags::Unnamed) => match tags[..] {
            // No key has revision 0; elsewhere here it stands for "absent", and a tag never does.
            [revision] if revision.0 > 0 => Ok(Precondition::Plain(Condition::ModRevision(revision))),
            _ => Err(HttpError::bad_request(
                "If-Match of a write names exactly one ETag, or *; a key that must not exist is If-None-Match: *",
            )),
        },
        (_, Tags::These(_)) => Err(HttpError::bad_request(
            "If-None-Match of a write is *: the key must not exist; to write over a known state use If-Match",
        )),
        (_, Tags::Any) => Err(HttpError::bad_request(
            "If-Match and If-None-Match exclude each other: give one",
        )),
    }
}

fn etag(revision: Revision) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("quotes and digits are a header value")
}

/// The value as the body, its record as header fields.
fn told(reading: Reading, known: &Tags) -> Response {
    let Reading {
        header,
        record,
        basis,
        at,
    } = reading;
    let response = match record {
        None => HttpError::key_not_found(header).into_response(),
        Some(record) => {
            let is_known = known.hold(record.mod_revision);
            let fields = (answer::header_fields(&header), record_fields(&record));
            match is_known {
                true => (StatusCode::NOT_MODIFIED, fields.0, fields.1).into_response(),
                false => (fields.0, fields.1, record.value).into_response(),
            }
        }
    };
    answer::with_state(response, basis, at)
}

fn record_fields(record: &Record) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(8);
    let octets = HeaderValue::from_static("application/octet-stream");
    fields.insert(header::CONTENT_TYPE, octets);
    // A copy may be kept, and is asked about before it is used.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    fields.insert(header::ETAG, etag(record.mod_revision));
    for (name, number) in [
        ("raftkv-create-revision", record.create_revision.0),
        ("raftkv-mod-revision", record.mod_revision.0),
        ("raftkv-version", record.version),
    ] {
        fields.insert(HeaderName::from_static(name), HeaderValue::from(number));
    }
    if let Some(lease) = record.lease {
        let lease = HeaderValue::try_from(lease.to_string()).expect("digits are a header value");
        fields.insert(HeaderName::from_static("raftkv-lease"), lease);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn a_key_is_the_rest_of_the_path_to_the_byte() {
        for (path, expected) in [
            ("/v1/kv/a", &b"a"[..]),
            ("/v1/kv/a/b//c/", b"a/b//c/"),
            ("/v1/kv//", b"/"),
            ("/v1/kv/a%2Fb+c", b"a/b+c"),
            ("/v1/kv/../x", b"../x"),
            ("/v1/kv/%ff%00", b"\xff\0"),
            ("/v1/kv/", b""),
        ] {
            let uri: Uri = path.parse().expect(path);
            assert_eq!(key(&uri).expect(path), expected, "{path}");
        }
        assert!(key(&"/v1/kv/100%".parse().expect("a path")).is_err());
    }

    #[test]
    fn a_write_is_conditional_on_what_stands_in_the_headers() {
        let read = |fields| precondition(&headers(fields)).ok();
        let plain = |condition| Some(Precondition::Plain(condition));
        assert_eq!(read(&[]), plain(Condition::Always));
        assert_eq!(
            read(&[("if-match", "\"7\"")]),
            plain(Condition::ModRevision(Revision(7)))
        );
        assert_eq!(read(&[("if-match", "*")]), Some(Precondition::Exists));
        assert_eq!(read(&[("if-none-match", "*")]), plain(Condition::Absent));
        for wrong in [
            &[("if-match", "7")][..],
            &[("if-match", "\"x\"")],
            &[("if-match", "")],
            &[("if-match", "\"0\"")],
            &[("if-match", "\"1\", \"2\"")],
            &[("if-none-match", "\"7\"")],
            &[("if-match", "*"), ("if-none-match", "*")],
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_read_knows_what_the_client_has() {
        let holds = |value| {
            Tags::of(&headers(&[("if-none-match", value)]), &header::IF_NONE_MATCH)
                .map(|tags| tags.hold(Revision(7)))
        };
        assert_eq!(holds("\"7\"").ok(), Some(true));
        assert_eq!(holds("\"5\", W/\"7\"").ok(), Some(true));
        assert_eq!(holds("*").ok(), Some(true));
        assert_eq!(holds("\"70\"").ok(), Some(false));
        assert!(holds("seven").is_err());
    }

    #[test]
    fn a_key_lives_as_long_as_it_is_told() {
        let read = |text| lifetime(&Query::parse(Some(text), &PUT).expect(text)).ok();
        assert_eq!(read(""), Some(Lifetime::Unlimited));
        assert_eq!(read("ttl=30s"), Some(Lifetime::Ttl { ttl_ms: 30_000 }));
        assert_eq!(read("ttl_seconds=1.5"), Some(Lifetime::Ttl { ttl_ms: 1500 }));
        for wrong in [
            "ttl=0s",
            "ttl=5",
            "ttl=40000d",
            "ttl_seconds=0",
            "ttl_seconds=-1",
            "ttl_seconds=NaN",
            "ttl_seconds=inf",
            "ttl=1s&ttl_seconds=1",
            "ttl=1s&lease=5",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
