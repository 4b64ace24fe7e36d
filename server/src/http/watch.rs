//! `GET /v1/watch`: the changes of some keys as server-sent events.
//!
//! ```text
//! event: put            data: {"key","value","create_revision","mod_revision","version", optional "lease","previous"}
//! event: delete         data: {"key","mod_revision", optional "previous"}
//! event: snapshot_end   data: {"revision"}     the puts before were the state as of then, every change of it follows
//! event: progress       data: {"revision"}     everything up to there was told; the first one tells from where the watch is
//! event: gap            data: {}               the next events are the latest of their keys, those between were left out
//! event: error          data: the JSON of an error; the end
//! ```
//! `id` is the revision, and stands on the last event of a revision alone: so who comes back with `Last-Event-ID` gets exactly
//! what it lacks. A comment keeps quiet connections alive.

use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::body::Frame;
use raftkv_protocol::{
    Answer, EventFilter, HistoryEpoch, KeySpan, Limits, PartKind, Revision, Shape, WatchEvent, WatchPart,
    WatchRequest, WatchStart, WhenSlow,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::time::{Instant, Sleep, sleep};

use super::answer::header_fields;
use super::api::{Outcome, Shared, unexpected};
use super::error::HttpError;
use super::parameter::{self, Parameter};
use super::query::{Query, refused};
use super::records::{RecordBody, put_bytes, put_record};
use super::{kv, list};
use crate::shell::{WatchCall, stopping};

/// So long after the last bytes a comment follows, so that proxies let the connection live.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// So often a quiet watch is told how far it is, unless it asks for more: what it would come back with must not grow old.
const PROGRESS_MS: u32 = 60_000;

/// What may wait for one connection, bytes of keys and values.
const CREDIT_BYTES: u32 = 256 << 10;

/// Begins a watch, and answers with its stream.
pub(super) async fn watch(State(api): Shared, uri: Uri, headers: HeaderMap) -> Outcome {
    let request = parse(uri.query(), &headers, &api.limits)?;
    let mut call = api.door.watch(request, api.request_timeout)?;
    let first = call.next().await.ok_or_else(|| HttpError::from(stopping()))?;
    let fields = header_fields(&first.header);
    let part = match first.outcome {
        Ok(Answer::Watch(part)) => part,
        Ok(other) => return Err(unexpected(&other)),
        Err(failure) => return Err(HttpError::from(failure).given_by(first.header)),
    };
    let stream = Events {
        call,
        unsent: Some(part),
        owed_bytes: 0,
        keep_alive: Box::pin(sleep(KEEP_ALIVE)),
        is_over: false,
    };
    let plain = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((fields, plain, Body::new(stream)).into_response())
}

/// What `/v1/watch` takes.
pub(super) static WATCH: [&Parameter; 11] = [
    &parameter::KEY,
    &parameter::PREFIX,
    &parameter::FROM,
    &parameter::TO,
    &parameter::START_REVISION,
    &parameter::SNAPSHOT,
    &parameter::PREVIOUS,
    &parameter::FILTER,
    &parameter::WHEN_SLOW,
    &parameter::EPOCH,
    &parameter::PROGRESS_MS,
];

/// What is asked for in the query and with `Last-Event-ID`.
fn parse(text: Option<&str>, headers: &HeaderMap, limits: &Limits) -> Result<WatchRequest, HttpError> {
    let query = Query::parse(text, &WATCH)?;
    let progress_ms = query.whole(&parameter::PROGRESS_MS)?;
    let progress_ms = progress_ms.map_or(PROGRESS_MS, |every_ms| {
        u32::try_from(every_ms).unwrap_or(u32::MAX)
    });
    let request = WatchRequest {
        credit_bytes: CREDIT_BYTES,
        progress_ms: Some(progress_ms),
        previous: kv::previous(&query)?,
        filter: filter(&query)?,
        when_slow: when_slow(&query)?,
        epoch: query.whole(&parameter::EPOCH)?.map(HistoryEpoch),
        start: start(&query, headers)?,
        ..WatchRequest::new(span(&query, limits)?)
    };
    request.check(limits)?;
    Ok(request)
}

fn filter(query: &Query<'_>) -> Result<EventFilter, HttpError> {
    match query.get(&parameter::FILTER) {
        None => Ok(EventFilter::default()),
        Some(b"puts") => Ok(EventFilter::Puts),
        Some(b"deletes") => Ok(EventFilter::Deletes),
        Some(_) => Err(refused(&parameter::FILTER, "is puts or deletes")),
    }
}

fn when_slow(query: &Query<'_>) -> Result<WhenSlow, HttpError> {
    match query.get(&parameter::WHEN_SLOW) {
        None => Ok(WhenSlow::default()),
        Some(b"every") => Ok(WhenSlow::EveryEvent),
        Some(b"latest") => Ok(WhenSlow::LatestPerKey),
        Some(b"drop") => Ok(WhenSlow::Drop),
        Some(_) => Err(refused(&parameter::WHEN_SLOW, "is every, latest or drop")),
    }
}

/// A client that comes again goes on where it was, whatever it asked for the first time.
fn start(query: &Query<'_>, headers: &HeaderMap) -> Result<WatchStart, HttpError> {
    let from = query.whole(&parameter::START_REVISION)?;
    let is_snapshot = query.is_set(&parameter::SNAPSHOT)?;
    if let Some(last) = headers.get("last-event-id").filter(|last| !last.is_empty()) {
        let last = last
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        let last =
            last.ok_or_else(|| HttpError::bad_request("the header Last-Event-ID is not a whole number"))?;
        return Ok(WatchStart::Revision(Revision(last.saturating_add(1))));
    }
    match (from, is_snapshot) {
        (None, false) => Ok(WatchStart::default()),
        (None, true) => Ok(WatchStart::Snapshot),
        (Some(from), false) => Ok(WatchStart::Revision(Revision(from))),
        (Some(_), true) => Err(HttpError::bad_request(
            "start_revision and snapshot exclude each other: give one",
        )),
    }
}

fn span(query: &Query<'_>, limits: &Limits) -> Result<KeySpan, HttpError> {
    match (query.get(&parameter::KEY), list::span(query)?) {
        (Some(key), None) => {
            limits.check_key(key)?;
            Ok(KeySpan::one(key))
        }
        (None, Some(span)) => Ok(span),
        _ => Err(HttpError::bad_request(
            "say which keys: ?key=K, or ?prefix=P (empty: all), or ?from=A&to=B",
        )),
    }
}

/// The body of the answer: it takes a part when the one before has been written.
struct Events {
    call: WatchCall,
    unsent: Option<WatchPart>,
    /// Bytes of what was written and given no credit for yet.
    owed_bytes: u64,
    keep_alive: Pin<Box<Sleep>>,
    is_over: bool,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.give_credit();
        let mut text = String::new();
        if let Some(part) = self.unsent.take() {
            self.write(&mut text, &part);
        } else {
            match self.call.poll_next(context) {
                Poll::Ready(Some(response)) => match response.outcome {
                    Ok(Answer::Watch(part)) => self.write(&mut text, &part),
                    Ok(other) => self.write_end(&mut text, &unexpected(&other)),
                    Err(failure) => self.write_end(&mut text, &HttpError::from(failure)),
                },
                Poll::Ready(None) => self.write_end(&mut text, &HttpError::from(stopping())),
                Poll::Pending => {
                    std::task::ready!(self.keep_alive.as_mut().poll(context));
                    text.push_str(": alive\n\n");
                }
            }
        }
        self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

impl Events {
    /// What was handed out has been written, or is about to be: as much more may come.
    fn give_credit(&mut self) {
        if self.owed_bytes * 2 >= u64::from(CREDIT_BYTES) {
            let bytes = u32::try_from(std::mem::take(&mut self.owed_bytes)).unwrap_or(u32::MAX);
            self.call.give_credit(bytes);
        }
    }

    fn write(&mut self, text: &mut String, part: &WatchPart) {
        self.owed_bytes += part.credit_bytes();
        write_part(text, part);
    }

    fn write_end(&mut self, text: &mut String, error: &HttpError) {
        self.is_over = true;
        write_event(text, "error", None, &error.json());
    }
}

fn write_part(text: &mut String, part: &WatchPart) {
    let is_snapshot = matches!(part.kind, PartKind::Snapshot | PartKind::SnapshotEnd);
    if part.kind == PartKind::Conflated {
        write_event(text, "gap", None, "{}");
    }
    for (place, event) in part.events.iter().enumerate() {
        let next = part.events.get(place + 1).map(WatchEvent::revision);
        // Within a revision, or a snapshot, there is no place to go on from.
        let id = (next != Some(event.revision()) && !is_snapshot).then_some(event.revision());
        let name = match event {
            WatchEvent::Put { .. } => "put",
            WatchEvent::Delete { .. } => "delete",
        };
        let body = serde_json::to_string(&EventBody(event)).expect("plain data");
        write_event(text, name, id, &body);
    }
    let name = match part.kind {
        PartKind::SnapshotEnd => "snapshot_end",
        PartKind::Progress => "progress",
        PartKind::Snapshot | PartKind::Changes | PartKind::Conflated => return,
    };
    let body = format!("{{\"revision\":{}}}", part.through);
    write_event(text, name, Some(part.through), &body);
}

fn write_event(text: &mut String, name: &str, id: Option<Revision>, body: &str) {
    if let Some(id) = id {
        // Writing to a string never fails.
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "event: {name}\ndata: {body}\n\n");
}

struct EventBody<'a>(&'a WatchEvent);

impl Serialize for EventBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_bytes(&mut map, ["key", "key_base64"], self.0.key())?;
        let previous = match self.0 {
            WatchEvent::Put { kv, previous } => {
                put_record(&mut map, &kv.record, Shape::Records)?;
                previous
            }
            WatchEvent::Delete {
                revision, previous, ..
            } => {
                map.serialize_entry("mod_revision", &revision.0)?;
                previous
            }
        };
        if let Some(previous) = previous {
            map.serialize_entry("previous", &RecordBody(previous))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::{KeyValue, Record};

    use super::*;

    fn put(key: &'static [u8], revision: u64) -> WatchEvent {
        WatchEvent::Put {
            kv: KeyValue {
                key: Bytes::from_static(key),
                record: Record {
                    value: Bytes::from_static(b"a\nb"),
                    create_revision: Revision(2),
                    mod_revision: Revision(revision),
                    version: 1,
                    lease: None,
                },
            },
            previous: None,
        }
    }

    #[test]
    fn the_id_stands_on_the_last_event_of_a_revision_alone() {
        let part = WatchPart {
            kind: PartKind::Changes,
            through: Revision(9),
            events: vec![put(b"a", 5), put(b"\xff", 5), put(b"c", 7)],
        };
        let mut text = String::new();
        write_part(&mut text, &part);
        let expected = "event: put\ndata: {\"key\":\"a\",\"value\":\"a\\nb\",\"create_revision\":2,\"mod_revision\":5,\"version\":1}\n\n\
            id: 5\nevent: put\ndata: {\"key_base64\":\"/w==\",\"value\":\"a\\nb\",\"create_revision\":2,\"mod_revision\":5,\"version\":1}\n\n\
            id: 7\nevent: put\ndata: {\"key\":\"c\",\"value\":\"a\\nb\",\"create_revision\":2,\"mod_revision\":7,\"version\":1}\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_snapshot_has_an_id_at_its_end_only() {
        let part = WatchPart {
            kind: PartKind::SnapshotEnd,
            through: Revision(9),
            events: vec![put(b"a", 5)],
        };
        let mut text = String::new();
        write_part(&mut text, &part);
        assert!(text.ends_with("\n\nid: 9\nevent: snapshot_end\ndata: {\"revision\":9}\n\n"));
        assert!(text.starts_with("event: put\n"));
    }

    #[test]
    fn a_query_says_which_keys_and_from_when_on() {
        let limits = Limits::default();
        let none = HeaderMap::new();
        let request = |query| parse(Some(query), &none, &limits);
        assert_eq!(request("key=a").unwrap().span, KeySpan::one(b"a"));
        assert_eq!(request("prefix=").unwrap().span, KeySpan::all());
        let range = request("from=a&to=b&start_revision=7&when_slow=latest&filter=puts").unwrap();
        assert_eq!(range.start, WatchStart::Revision(Revision(7)));
        assert!(range.span.contains(b"a") && !range.span.contains(b"b"));
        for wrong in [
            "",
            "key=a&prefix=b",
            "key=",
            "key=a&start_revision=x",
            "key=a&filter=some",
            "keys=a",
            "key=a&snapshot=perhaps",
            "key=a&key=b",
            "key=a&snapshot&start_revision=7",
        ] {
            assert!(request(wrong).is_err(), "{wrong}");
        }
        let mut resumed = HeaderMap::new();
        resumed.insert("last-event-id", HeaderValue::from_static("41"));
        let request = parse(Some("prefix=a&snapshot=true"), &resumed, &limits).unwrap();
        assert_eq!(request.start, WatchStart::Revision(Revision(42)));
    }
}
