//! A range of keys on its way out, page by page: in memory there is one page, and the next one is asked for when the client
//! has taken this one. All pages are of one state. When the client goes away, the body is dropped, and with it the asking.
//!
//! ```text
//! JSON      {"kvs":[ record , record ... ],"count":N,"cursor":null,"revision":R}
//!           {"kvs":[ record , record ... ],"error":"...","code":"..."}       when it went wrong on the way: the list is not whole
//! NDJSON    one record a line; at last {"error":"...","code":"..."} when it went wrong on the way
//! ```

use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use hyper::body::Frame;
use raftkv_protocol::{Header, RangePage, RangeRequest, Shape};

use super::api::Api;
use super::error::HttpError;
use super::list::cursor_text;
use super::records::KvBody;

/// So many bytes of keys and values are in memory for each listing under way.
pub(super) const STREAMED_PAGE_BYTES: u32 = 128 << 10;

/// How a listing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One document.
    Json,
    /// One record a line.
    Ndjson,
}

const NDJSON: &str = "application/x-ndjson";

impl Format {
    /// What the client would rather have: lines if it names them, else a document.
    pub(super) fn of(headers: &HeaderMap) -> Format {
        let mut accepted = headers.get_all(header::ACCEPT).iter();
        let names_lines = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains(NDJSON));
        match accepted.any(names_lines) {
            true => Format::Ndjson,
            false => Format::Json,
        }
    }

    pub(super) fn fields(self) -> HeaderMap {
        let kind = match self {
            Format::Json => "application/json",
            Format::Ndjson => NDJSON,
        };
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))])
    }
}

/// Writes pages behind each other.
#[derive(Debug)]
pub(super) struct Encoder {
    format: Format,
    shape: Shape,
    state: Written,
    count: u64,
}

/// What stands there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    Head,
    Records,
}

impl Encoder {
    pub(super) fn new(format: Format, shape: Shape) -> Encoder {
        Encoder {
            format,
            shape,
            state: Written::Nothing,
            count: 0,
        }
    }

    /// Writes the records of a page.
    pub(super) fn page(&mut self, out: &mut Vec<u8>, page: &RangePage) {
        self.count += page.count;
        self.head(out);
        for kv in &page.kvs {
            if self.format == Format::Json && self.state == Written::Records {
                out.push(b',');
            }
            self.state = Written::Records;
            let record = KvBody {
                kv,
                shape: self.shape,
            };
            serde_json::to_writer(&mut *out, &record).expect("memory takes plain data");
            if self.format == Format::Ndjson {
                out.push(b'\n');
            }
        }
    }

    /// Ends it behind the last page.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, last: &RangePage) {
        self.head(out);
        let count = self.count;
        if self.format == Format::Json {
            let cursor = match &last.cursor {
                Some(cursor) => format!("\"{}\"", cursor_text(cursor)),
                None => "null".to_owned(),
            };
            let tail = format!(
                "],\"count\":{count},\"cursor\":{cursor},\"revision\":{}}}",
                last.at
            );
            out.extend_from_slice(tail.as_bytes());
        } else if self.shape == Shape::CountOnly {
            out.extend_from_slice(format!("{{\"count\":{count},\"revision\":{}}}\n", last.at).as_bytes());
        }
    }

    /// Ends it where it went wrong.
    fn fail(&mut self, out: &mut Vec<u8>, error: &HttpError) {
        self.head(out);
        let json = error.json();
        match self.format {
            Format::Json => {
                out.extend_from_slice(b"],");
                out.extend_from_slice(&json.as_bytes()[1..]);
            }
            Format::Ndjson => {
                out.extend_from_slice(json.as_bytes());
                out.push(b'\n');
            }
        }
    }

    fn head(&mut self, out: &mut Vec<u8>) {
        if self.format == Format::Json && self.state == Written::Nothing {
            out.extend_from_slice(b"{\"kvs\":[");
            self.state = Written::Head;
        }
    }
}

type Asked = Pin<Box<dyn Future<Output = Result<(Header, RangePage), HttpError>> + Send>>;

/// Where a listing is.
enum State {
    /// This page is to be written next.
    Page(RangePage),
    /// The next page was asked for.
    Asking(Asked),
    /// All is written.
    Over,
}

/// The body of an answer that lists a whole range.
pub(super) struct Listing {
    api: Arc<Api>,
    request: RangeRequest,
    encoder: Encoder,
    state: State,
}

impl Listing {
    /// Goes on behind `first`, which `request` was answered with.
    pub(super) fn new(api: Arc<Api>, request: RangeRequest, first: RangePage, format: Format) -> Listing {
        Listing {
            api,
            encoder: Encoder::new(format, request.shape),
            request,
            state: State::Page(first),
        }
    }

    /// Writes a page; what follows it depends on whether it was the last.
    fn write(&mut self, page: &RangePage) -> Vec<u8> {
        let mut out = Vec::with_capacity(STREAMED_PAGE_BYTES as usize / 4);
        self.encoder.page(&mut out, page);
        if page.cursor.is_some() {
            self.request.cursor.clone_from(&page.cursor);
            let (api, request) = (self.api.clone(), self.request.clone());
            self.state = State::Asking(Box::pin(async move { api.page(request).await }));
        } else {
            self.encoder.end(&mut out, page);
        }
        out
    }
}

impl HttpBody for Listing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let out = match mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(None),
                State::Page(page) => self.write(&page),
                State::Asking(mut asked) => {
                    let Poll::Ready(answer) = asked.as_mut().poll(context) else {
                        self.state = State::Asking(asked);
                        return Poll::Pending;
                    };
                    match answer {
                        Ok((_, page)) => self.write(&page),
                        Err(error) => {
                            let mut out = Vec::new();
                            self.encoder.fail(&mut out, &error);
                            out
                        }
                    }
                }
            };
            // A page may pass keys and hold none: the client waits for the next one.
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::{ErrorCode, Revision};

    use super::super::records::tests::kv;
    use super::*;

    fn page(keys: &[&'static [u8]], cursor: Option<&'static [u8]>) -> RangePage {
        RangePage {
            at: Revision(9),
            kvs: keys.iter().map(|key| kv(key, b"v")).collect(),
            count: keys.len() as u64,
            cursor: cursor.map(Bytes::from_static),
            basis: None,
        }
    }

    const RECORD: &str = r#"{"key":"a","value":"v","create_revision":2,"mod_revision":5,"version":3}"#;

    fn written(format: Format, pages: &[RangePage], error: Option<&HttpError>) -> String {
        let mut encoder = Encoder::new(format, Shape::Records);
        let mut out = Vec::new();
        for page in pages {
            encoder.page(&mut out, page);
        }
        match error {
            Some(error) => encoder.fail(&mut out, error),
            None => encoder.end(&mut out, pages.last().expect("a page")),
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn pages_are_one_document() {
        let pages = [
            page(&[b"a"], Some(b"\x01")),
            page(&[], Some(b"\x01")),
            page(&[b"a"], None),
        ];
        assert_eq!(
            written(Format::Json, &pages, None),
            format!(r#"{{"kvs":[{RECORD},{RECORD}],"count":2,"cursor":null,"revision":9}}"#)
        );
        assert_eq!(
            written(Format::Ndjson, &pages, None),
            format!("{RECORD}\n{RECORD}\n")
        );
        assert_eq!(
            written(Format::Json, &[page(&[], None)], None),
            r#"{"kvs":[],"count":0,"cursor":null,"revision":9}"#
        );
    }

    #[test]
    fn what_went_wrong_on_the_way_ends_the_document() {
        let error = HttpError::from_code(ErrorCode::Compacted, "gone");
        let pages = [page(&[b"a"], Some(b"\x01"))];
        assert_eq!(
            written(Format::Json, &pages, Some(&error)),
            format!(r#"{{"kvs":[{RECORD}],"error":"gone","code":"compacted"}}"#)
        );
        assert_eq!(
            written(Format::Ndjson, &pages, Some(&error)),
            format!("{RECORD}\n{{\"error\":\"gone\",\"code\":\"compacted\"}}\n")
        );
    }

    #[test]
    fn lines_are_written_to_who_names_them() {
        let format = |value: &'static str| {
            Format::of(&HeaderMap::from_iter([(
                header::ACCEPT,
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(format("application/x-ndjson, */*"), Format::Ndjson);
        assert_eq!(format("*/*"), Format::Json);
        assert_eq!(Format::of(&HeaderMap::new()), Format::Json);
    }
}
