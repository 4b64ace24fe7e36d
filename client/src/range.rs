//! Ranges of keys: a page at a time, or as a stream that pages by itself.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use raftkv_protocol::{
    Answer, At, Consistency, ErrorCode, Failure, KeySpan, KeyValue, Order, RangePage, RangeRequest, Request,
    Revision, Shape,
};

use crate::client::{Client, unexpected};
use crate::error::{Applied, Error};

/// A read of many keys; see [`Client::range`].
///
/// All of its pages are of one state, whatever is written meanwhile and whichever node answers: the latest when the first
/// page was read, or that of the revision which was asked for.
#[derive(Clone, Debug)]
#[must_use = "a range is read by one of `page`, `stream`, `count` and `collect_all`"]
pub struct Range<'a> {
    client: &'a Client,
    request: RangeRequest,
    limit: Option<u64>,
}

impl<'a> Range<'a> {
    pub(crate) fn new(client: &'a Client, span: KeySpan) -> Range<'a> {
        Range {
            client,
            request: RangeRequest::new(span),
            limit: None,
        }
    }

    /// In which order keys come; ascending, unless it is said.
    pub fn order(mut self, order: Order) -> Range<'a> {
        self.request.order = order;
        self
    }

    /// What of them: all, all but the values, or only how many there are.
    pub fn shape(mut self, shape: Shape) -> Range<'a> {
        self.request.shape = shape;
        self
    }

    /// At most so many keys in all.
    pub fn limit(mut self, keys: u64) -> Range<'a> {
        self.limit = Some(keys);
        self
    }

    /// As of when; the latest state, unless it is said.
    pub fn at(mut self, at: At) -> Range<'a> {
        self.request.at = at;
        self
    }

    /// The state just after this revision.
    pub fn at_revision(self, revision: Revision) -> Range<'a> {
        self.at(At::Revision(revision))
    }

    /// The state as it was so long ago, in the cluster's log time.
    pub fn ago(self, ago: Duration) -> Range<'a> {
        self.at(ago_of(ago))
    }

    /// What is promised of the state that the first page is of.
    pub fn consistency(mut self, consistency: Consistency) -> Range<'a> {
        self.request.consistency = consistency;
        self
    }

    /// At most so many bytes of keys and values in a page, but for a single key; the server has a limit of its own, 1 MiB.
    pub fn page_bytes(mut self, bytes: u32) -> Range<'a> {
        self.request.max_bytes = bytes;
        self
    }

    /// Goes on where an earlier page of the same range ended: [`RangePage::cursor`].
    pub fn cursor(mut self, cursor: impl Into<Bytes>) -> Range<'a> {
        self.request.cursor = Some(cursor.into());
        self
    }

    /// Reads one page. It tells where the next one begins, if there is one; any client may go on there.
    ///
    /// # Errors
    /// [`Error::Rejected`] with `compacted` when the state is not kept any more (the message names the oldest revision that
    /// is), with `future_revision` when it has not come yet. Else as any read.
    pub async fn page(self) -> Result<RangePage, Error> {
        let mut request = self.request;
        request.limit = self.limit.map(page_limit);
        ask(self.client, request).await
    }

    /// Reads all of it, page by page, as it is consumed. One page is fetched ahead, so memory holds two at most.
    #[must_use = "a stream reads nothing until it is polled"]
    pub fn stream(self) -> RangeStream {
        RangeStream {
            pages: Pages::new(self),
            current: VecDeque::new(),
            next: Next::Unasked,
            at: None,
        }
    }

    /// How many keys there are in it.
    ///
    /// # Errors
    /// As [`Range::page`].
    pub async fn count(mut self) -> Result<u64, Error> {
        self.request.shape = Shape::CountOnly;
        let mut pages = Pages::new(self);
        let mut count = 0;
        while let Some(request) = pages.next_request() {
            let page = ask(&pages.client, request).await?;
            count += page.count;
            pages.note(&page);
        }
        Ok(count)
    }

    /// All of it, if that is no more than `max` keys.
    ///
    /// # Errors
    /// [`Error::Rejected`] with `too_large` when there are more. Else as [`Range::page`].
    pub async fn collect_all(mut self, max: usize) -> Result<Vec<KeyValue>, Error> {
        let is_limited = self.limit.is_some_and(|limit| limit <= max as u64);
        if !is_limited {
            self.limit = Some((max as u64).saturating_add(1));
        }
        let mut pages = Pages::new(self);
        let mut all = Vec::new();
        while let Some(request) = pages.next_request() {
            let page = ask(&pages.client, request).await?;
            pages.note(&page);
            all.extend(page.kvs);
            if all.len() > max {
                let message =
                    format!("the range has more than {max} keys; read it as a stream, or allow for more");
                return Err(Error::Rejected(Failure::new(ErrorCode::TooLarge, message)));
            }
        }
        Ok(all)
    }
}

pub(crate) fn ago_of(ago: Duration) -> At {
    At::Ago {
        ago_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A page has fewer keys than this anyway.
fn page_limit(keys: u64) -> u32 {
    u32::try_from(keys).unwrap_or(u32::MAX)
}

pub(crate) async fn ask(client: &Client, request: RangeRequest) -> Result<RangePage, Error> {
    match client.execute(Request::Range(request)).await? {
        Answer::Range(page) => Ok(page),
        other => Err(unexpected("a page of a range", &other, Applied::No)),
    }
}

/// What the next page is to be asked for.
#[derive(Debug)]
struct Pages {
    client: Client,
    request: RangeRequest,
    left: Option<u64>,
    is_at_end: bool,
}

impl Pages {
    fn new(range: Range<'_>) -> Pages {
        Pages {
            client: range.client.clone(),
            request: range.request,
            left: range.limit,
            is_at_end: false,
        }
    }

    fn next_request(&self) -> Option<RangeRequest> {
        if self.is_at_end || self.left == Some(0) {
            return None;
        }
        let mut request = self.request.clone();
        request.limit = self.left.map(page_limit);
        Some(request)
    }

    fn note(&mut self, page: &RangePage) {
        self.left = self.left.map(|left| left.saturating_sub(page.count));
        self.is_at_end = page.cursor.is_none();
        self.request.cursor.clone_from(&page.cursor);
    }
}

type Fetching = Pin<Box<dyn Future<Output = Result<RangePage, Error>> + Send>>;

/// The page behind the current one.
enum Next {
    /// It was not asked for yet.
    Unasked,
    /// Asked for while there was something to give out: when it fails meanwhile, nobody has waited for it yet.
    Ahead(Fetching),
    /// The consumer waits for it.
    Awaited(Fetching),
    /// There is none.
    End,
}

/// The keys of a range, in order; see [`Range::stream`].
///
/// It goes on over failures of nodes, as any read is tried again: what is given out is of one state to the last key. After
/// an error it ends. It can be dropped at any point.
pub struct RangeStream {
    pages: Pages,
    current: VecDeque<KeyValue>,
    next: Next,
    at: Option<Revision>,
}

impl RangeStream {
    /// The revision whose state it tells; `None` before the first key.
    #[must_use]
    pub fn at(&self) -> Option<Revision> {
        self.at
    }

    /// The next key with its record, for callers that have no other use for streams.
    pub async fn next(&mut self) -> Option<Result<KeyValue, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn fetch(&self) -> Option<Fetching> {
        let request = self.pages.next_request()?;
        let client = self.pages.client.clone();
        Some(Box::pin(async move { ask(&client, request).await }))
    }

    fn take_page(&mut self, page: RangePage, context: &mut Context<'_>) {
        self.at = Some(page.at);
        self.pages.note(&page);
        self.current = page.kvs.into();
        self.next = match self.fetch() {
            None => Next::End,
            Some(mut fetching) => {
                // The first poll sends the request. It is looked at again when this page is used up.
                match fetching.as_mut().poll(context) {
                    Poll::Pending => Next::Ahead(fetching),
                    Poll::Ready(answer) => Next::Ahead(Box::pin(std::future::ready(answer))),
                }
            }
        };
    }
}

impl Stream for RangeStream {
    type Item = Result<KeyValue, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(kv) = this.current.pop_front() {
                return Poll::Ready(Some(Ok(kv)));
            }
            let answer = match &mut this.next {
                Next::End => return Poll::Ready(None),
                Next::Unasked => {
                    this.next = this.fetch().map_or(Next::End, Next::Awaited);
                    continue;
                }
                Next::Ahead(fetching) | Next::Awaited(fetching) => ready!(fetching.as_mut().poll(context)),
            };
            match (answer, &this.next) {
                (Ok(page), _) => this.take_page(page, context),
                // It may have failed long ago, while the consumer was busy with the page before.
                (Err(error), Next::Ahead(_)) if !matches!(error, Error::Rejected(_)) => {
                    this.next = Next::Unasked;
                }
                (Err(error), _) => {
                    this.next = Next::End;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl std::fmt::Debug for RangeStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeStream")
            .field("pages", &self.pages)
            .field("waiting", &self.current.len())
            .finish_non_exhaustive()
    }
}
