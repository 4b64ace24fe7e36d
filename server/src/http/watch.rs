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
    Answer, EventFilter, HistoryEpoch, KeySpan, Limits, PartKind, Previous, Record, Revision, WatchEvent,
    WatchPart, WatchRequest, WatchStart, WhenSlow,
};
use serde_json::{Map, Value};
use tokio::time::{Instant, Sleep, sleep};

use super::answer::{Text, header_fields};
use super::error::HttpError;
use super::handlers::{Outcome, Shared, unexpected};
use super::query::{decode, parameters};
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

/// What is asked for in the query and with `Last-Event-ID`.
fn parse(query: Option<&str>, headers: &HeaderMap, limits: &Limits) -> Result<WatchRequest, HttpError> {
    let mut asked = Asked::default();
    for (name, value) in parameters(query) {
        let name = String::from_utf8_lossy(&decode(name)?).into_owned();
        asked.take(&name, &decode(value)?)?;
    }
    let mut request = WatchRequest {
        credit_bytes: CREDIT_BYTES,
        progress_ms: Some(asked.progress_ms.unwrap_or(PROGRESS_MS)),
        previous: asked.previous,
        filter: asked.filter,
        when_slow: asked.when_slow,
        epoch: asked.epoch,
        start: asked.start.unwrap_or_default(),
        ..WatchRequest::new(asked.span(limits)?)
    };
    if let Some(last) = headers.get("last-event-id").filter(|last| !last.is_empty()) {
        let last = number(last.as_bytes(), "the header Last-Event-ID")?;
        request.start = WatchStart::Revision(Revision(last.saturating_add(1)));
    }
    request.check(limits)?;
    Ok(request)
}

#[derive(Default)]
struct Asked {
    key: Option<Bytes>,
    prefix: Option<Bytes>,
    from: Option<Bytes>,
    to: Option<Bytes>,
    start: Option<WatchStart>,
    epoch: Option<HistoryEpoch>,
    previous: Previous,
    filter: EventFilter,
    when_slow: WhenSlow,
    progress_ms: Option<u32>,
}

impl Asked {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), HttpError> {
        let bytes = || Some(Bytes::copy_from_slice(value));
        match (name, value) {
            ("key", _) => self.key = bytes(),
            ("prefix", _) => self.prefix = bytes(),
            ("from", _) => self.from = bytes(),
            ("to", _) => self.to = bytes(),
            ("start_revision", _) => {
                self.start = Some(WatchStart::Revision(Revision(number(value, "start_revision")?)));
            }
            ("snapshot", b"true") => self.start = Some(WatchStart::Snapshot),
            ("previous", b"true") => self.previous = Previous::Wanted,
            ("snapshot" | "previous", b"false") => {}
            ("filter", b"puts") => self.filter = EventFilter::Puts,
            ("filter", b"deletes") => self.filter = EventFilter::Deletes,
            ("when_slow", b"every") => self.when_slow = WhenSlow::EveryEvent,
            ("when_slow", b"latest") => self.when_slow = WhenSlow::LatestPerKey,
            ("when_slow", b"drop") => self.when_slow = WhenSlow::Drop,
            ("epoch", _) => self.epoch = Some(HistoryEpoch(number(value, "epoch")?)),
            ("progress_ms", _) => {
                let every_ms = u32::try_from(number(value, "progress_ms")?);
                self.progress_ms = Some(every_ms.unwrap_or(u32::MAX));
            }
            ("snapshot" | "previous", _) => {
                return Err(HttpError::bad_request(format!("{name} is true or false")));
            }
            ("filter", _) => return Err(HttpError::bad_request("filter is puts or deletes")),
            ("when_slow", _) => return Err(HttpError::bad_request("when_slow is every, latest or drop")),
            _ => {
                return Err(HttpError::bad_request(format!(
                    "the query parameter {name:?} is not known here; known: key, prefix, from, to, start_revision, snapshot, \
                     previous, filter, when_slow, epoch, progress_ms"
                )));
            }
        }
        Ok(())
    }

    fn span(&self, limits: &Limits) -> Result<KeySpan, HttpError> {
        let is_range = self.from.is_some() || self.to.is_some();
        match (&self.key, &self.prefix) {
            (Some(key), None) if !is_range => {
                limits.check_key(key)?;
                Ok(KeySpan::one(key))
            }
            (None, Some(prefix)) if !is_range => Ok(KeySpan::prefix(prefix)),
            (None, None) if is_range => Ok(KeySpan {
                from: self.from.clone().unwrap_or_default(),
                to: self.to.clone(),
            }),
            _ => Err(HttpError::bad_request(
                "say which keys: ?key=K, or ?prefix=P (empty: all), or ?from=A&to=B",
            )),
        }
    }
}

fn number(text: &[u8], what: &str) -> Result<u64, HttpError> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| HttpError::bad_request(format!("{what} is not a whole number")))
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
        let (name, body) = body_of(event);
        write_event(text, name, id, &body.to_string());
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

fn body_of(event: &WatchEvent) -> (&'static str, Value) {
    let mut body = Map::new();
    put_bytes(&mut body, "key", event.key());
    let (name, previous) = match event {
        WatchEvent::Put { kv, previous } => {
            put_record(&mut body, &kv.record);
            ("put", previous)
        }
        WatchEvent::Delete {
            revision, previous, ..
        } => {
            body.insert("mod_revision".to_owned(), revision.0.into());
            ("delete", previous)
        }
    };
    if let Some(previous) = previous {
        let mut before = Map::new();
        put_record(&mut before, previous);
        body.insert("previous".to_owned(), before.into());
    }
    (name, body.into())
}

fn put_record(body: &mut Map<String, Value>, record: &Record) {
    put_bytes(body, "value", &record.value);
    let numbers = [
        ("create_revision", record.create_revision.0),
        ("mod_revision", record.mod_revision.0),
        ("version", record.version),
    ];
    for (name, number) in numbers {
        body.insert(name.to_owned(), number.into());
    }
    if let Some(lease) = record.lease {
        body.insert("lease".to_owned(), lease.to_string().into());
    }
}

fn put_bytes(body: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let text = Text(bytes);
    if let Some(plain) = text.plain() {
        body.insert(name.to_owned(), plain.into());
    }
    if let Some(base64) = text.base64() {
        body.insert(format!("{name}_base64"), base64.into());
    }
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::KeyValue;

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
        let expected = "event: put\ndata: {\"create_revision\":2,\"key\":\"a\",\"mod_revision\":5,\"value\":\"a\\nb\",\"version\":1}\n\n\
            id: 5\nevent: put\ndata: {\"create_revision\":2,\"key_base64\":\"/w==\",\"mod_revision\":5,\"value\":\"a\\nb\",\"version\":1}\n\n\
            id: 7\nevent: put\ndata: {\"create_revision\":2,\"key\":\"c\",\"mod_revision\":7,\"value\":\"a\\nb\",\"version\":1}\n\n";
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
        ] {
            assert!(request(wrong).is_err(), "{wrong}");
        }
        let mut resumed = HeaderMap::new();
        resumed.insert("last-event-id", HeaderValue::from_static("41"));
        let request = parse(Some("prefix=a&snapshot=true"), &resumed, &limits).unwrap();
        assert_eq!(request.start, WatchStart::Revision(Revision(42)));
    }
}
