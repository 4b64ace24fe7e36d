//! Ranges of keys: `GET /v1/kv` and `GET /v1/kv/{key}?prefix` list them, `DELETE` deletes them.
//!
//! With `limit` or `cursor` one page is answered, and where the next one begins. Without, the whole range is streamed
//! ([`super::listing`]). A range that is deleted goes in one transaction, at one revision, so it is bounded as those are.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use raftkv_protocol::{
    Answer, Command, Header, KeySpan, Keys, MAX_PAGE_BYTES, Op, OpResult, Order, Previous, RangePage,
    RangeRequest, Request, Shape, Txn,
};
use serde::Serialize;

use super::answer;
use super::api::{Api, Outcome, Shared, unexpected};
use super::error::HttpError;
use super::idempotency::IdempotencyKey;
use super::kv::previous;
use super::listing::{Encoder, Format, Listing, STREAMED_PAGE_BYTES};
use super::parameter::{self, Parameter};
use super::query::{Query, refused};
use super::read::ReadOf;
use super::records::{KvBody, kv_bodies};

/// What `GET /v1/kv` takes.
pub(super) static LIST: [&Parameter; 12] = [
    &parameter::PREFIX,
    &parameter::FROM,
    &parameter::TO,
    &parameter::LIMIT,
    &parameter::CURSOR,
    &parameter::REVERSE,
    &parameter::KEYS_ONLY,
    &parameter::COUNT_ONLY,
    &parameter::CONSISTENCY,
    &parameter::MAX_STALENESS_MS,
    &parameter::REVISION,
    &parameter::AGO,
];

/// What `DELETE /v1/kv` takes.
pub(super) static DELETE: [&Parameter; 4] = [
    &parameter::PREFIX,
    &parameter::FROM,
    &parameter::TO,
    &parameter::PREVIOUS,
];

/// `GET /v1/kv`
pub(super) async fn list(State(api): Shared, uri: Uri, headers: HeaderMap) -> Outcome {
    let query = Query::parse(uri.query(), &LIST)?;
    let span = span(&query)?.unwrap_or_else(KeySpan::all);
    answer(api, &query, span, &headers).await
}

/// `DELETE /v1/kv`
pub(super) async fn delete(State(api): Shared, uri: Uri, headers: HeaderMap) -> Outcome {
    let query = Query::parse(uri.query(), &DELETE)?;
    let span = span(&query)?.ok_or_else(|| {
        HttpError::bad_request(
            "say which keys: ?prefix=P (empty: all keys), or ?from=A&to=B; nothing was deleted",
        )
    })?;
    delete_span(&api, &query, &span, &headers).await
}

/// The keys that a query names; `None`: it names none.
pub(super) fn span(query: &Query<'_>) -> Result<Option<KeySpan>, HttpError> {
    let (from, to) = (query.bytes(&parameter::FROM), query.bytes(&parameter::TO));
    match (query.get(&parameter::PREFIX), from, to) {
        (None, None, None) => Ok(None),
        (Some(prefix), None, None) => Ok(Some(KeySpan::prefix(prefix))),
        (None, from, to) => Ok(Some(KeySpan {
            from: from.unwrap_or_default(),
            to,
        })),
        (Some(_), _, _) => Err(HttpError::bad_request(
            "prefix and from/to exclude each other: give one",
        )),
    }
}

/// How much of a range is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// A page, and where the next one begins.
    Page,
    /// All of it.
    Whole,
}

/// Answers a listing of `span` as the query wants it.
pub(super) async fn answer(api: Arc<Api>, query: &Query<'_>, span: KeySpan, headers: &HeaderMap) -> Outcome {
    let (request, extent) = range(query, span)?;
    request.check(&api.limits)?;
    let format = Format::of(headers);
    let (header, page) = api.page(request.clone()).await?;
    let (basis, at) = (page.basis, page.at);
    let response = match (request.shape, extent) {
        (Shape::CountOnly, Extent::Whole) => count(&api, &header, request, page).await?,
        (_, Extent::Page) => one_page(&header, format, request.shape, &page),
        (_, Extent::Whole) => {
            let fields = (answer::header_fields(&header), format.fields());
            let body = Body::new(Listing::new(api, request, page, format));
            (fields.0, fields.1, body).into_response()
        }
    };
    Ok(answer::with_state(response, basis, Some(at)))
}

/// The request for the first page.
fn range(query: &Query<'_>, span: KeySpan) -> Result<(RangeRequest, Extent), HttpError> {
    let shape = match (
        query.is_set(&parameter::KEYS_ONLY)?,
        query.is_set(&parameter::COUNT_ONLY)?,
    ) {
        (false, false) => Shape::Records,
        (true, false) => Shape::KeysOnly,
        (false, true) => Shape::CountOnly,
        (true, true) => {
            return Err(HttpError::bad_request(
                "keys_only and count_only exclude each other: give one",
            ));
        }
    };
    let limit = query.whole(&parameter::LIMIT)?;
    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let cursor = query.get(&parameter::CURSOR).map(cursor_of).transpose()?;
    let extent = match limit.is_some() || cursor.is_some() {
        true => Extent::Page,
        false => Extent::Whole,
    };
    let ReadOf { at, consistency } = ReadOf::parse(query)?;
    let request = RangeRequest {
        span,
        order: match query.is_set(&parameter::REVERSE)? {
            true => Order::Descending,
            false => Order::Ascending,
        },
        shape,
        at,
        limit,
        max_bytes: match extent {
            Extent::Page => MAX_PAGE_BYTES,
            Extent::Whole => STREAMED_PAGE_BYTES,
        },
        consistency,
        cursor,
    };
    Ok((request, extent))
}

/// What a cursor is in an address and in JSON: its bytes in the alphabet that needs no escapes.
pub(super) fn cursor_of(text: &[u8]) -> Result<Bytes, HttpError> {
    let cursor = URL_SAFE_NO_PAD.decode(text);
    cursor.map(Bytes::from).map_err(|_| no_cursor())
}

/// What was given as a cursor is none.
pub(super) fn no_cursor() -> HttpError {
    refused(&parameter::CURSOR, "is none that a page ended with")
}

/// The same the other way round.
pub(super) fn cursor_text(cursor: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(cursor)
}

fn one_page(header: &Header, format: Format, shape: Shape, page: &RangePage) -> Response {
    let mut encoder = Encoder::new(format, shape);
    let mut out = Vec::new();
    encoder.page(&mut out, page);
    encoder.end(&mut out, page);
    let mut fields = format.fields();
    if let Some(cursor) = &page.cursor {
        let cursor = HeaderValue::try_from(cursor_text(cursor)).expect("base64 is a header value");
        fields.insert(HeaderName::from_static("raftkv-cursor"), cursor);
    }
    (answer::header_fields(header), fields, out).into_response()
}

/// Counts page after page; they hold nothing but their number.
async fn count(
    api: &Api,
    header: &Header,
    mut request: RangeRequest,
    first: RangePage,
) -> Result<Response, HttpError> {
    let (at, mut count, mut cursor) = (first.at, first.count, first.cursor);
    while cursor.is_some() {
        request.cursor = cursor;
        let (_, page) = api.page(request.clone()).await?;
        count += page.count;
        cursor = page.cursor;
    }
    let whole = RangePage {
        at,
        kvs: Vec::new(),
        count,
        cursor: None,
        basis: None,
    };
    Ok(one_page(header, Format::Json, Shape::CountOnly, &whole))
}

impl Api {
    /// Asks for one page.
    pub(super) async fn page(&self, request: RangeRequest) -> Result<(Header, RangePage), HttpError> {
        match self.ask(Request::Range(request)).await? {
            (header, Answer::Range(page)) => Ok((header, page)),
            (_, other) => Err(unexpected(&other)),
        }
    }
}

#[derive(Serialize)]
struct DeletedBody<'a> {
    deleted: u64,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Vec<KvBody<'a>>>,
}

/// Deletes a range in one transaction.
pub(super) async fn delete_span(
    api: &Api,
    query: &Query<'_>,
    span: &KeySpan,
    headers: &HeaderMap,
) -> Outcome {
    if let Some(name) = [header::IF_MATCH, header::IF_NONE_MATCH]
        .iter()
        .find(|name| headers.contains_key(*name))
    {
        return Err(HttpError::bad_request(format!(
            "{name} is about one key; a range under conditions is deleted by POST /v1/txn"
        )));
    }
    let previous = previous(query)?;
    let keys = Keys::Range {
        from: &span.from,
        to: span.to.as_deref(),
    };
    let txn = Txn {
        then: vec![Op::Delete { keys, previous }],
        ..Txn::default()
    };
    let once = IdempotencyKey::of(headers)?;
    let (header, answer) = api.write(&Command::Txn(txn), once.as_ref()).await?;
    let Answer::Txn(result) = answer else {
        return Err(unexpected(&answer));
    };
    let Some(OpResult::Deleted { count, previous: kvs }) = result.results.first() else {
        return Err(unexpected(&Answer::Txn(result)));
    };
    let body = DeletedBody {
        deleted: *count,
        revision: result.revision.0,
        previous: (previous == Previous::Wanted).then(|| kv_bodies(kvs)),
    };
    Ok(answer::json(&header, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(RangeRequest, Extent)> {
        let query = Query::parse(Some(text), &LIST).expect(text);
        let span = span(&query).ok()?.unwrap_or_else(KeySpan::all);
        range(&query, span).ok()
    }

    #[test]
    fn a_query_names_a_range() {
        let span = |text| read(text).map(|(request, _)| request.span);
        assert_eq!(span(""), Some(KeySpan::all()));
        assert_eq!(span("prefix="), Some(KeySpan::all()));
        assert_eq!(span("prefix=a%2f"), Some(KeySpan::prefix(b"a/")));
        let from = KeySpan {
            from: "a".into(),
            to: None,
        };
        assert_eq!(span("from=a"), Some(from));
        assert_eq!(span("prefix=a&from=b"), None);
    }

    #[test]
    fn a_page_is_what_is_limited() {
        let extent = |text| read(text).map(|(_, extent)| extent);
        assert_eq!(extent("reverse&keys_only"), Some(Extent::Whole));
        assert_eq!(extent("limit=5"), Some(Extent::Page));
        assert_eq!(extent("cursor=AQ"), Some(Extent::Page));
        for wrong in [
            "limit=x",
            "cursor=%ff",
            "cursor=A=",
            "keys_only&count_only",
            "reverse=1",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let cursor = Bytes::from_static(b"\x01\xff\0");
        assert_eq!(cursor_of(cursor_text(&cursor).as_bytes()).ok(), Some(cursor));
    }
}
