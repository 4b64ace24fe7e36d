//! What listings are told: each page is of exactly one state, behind the page before (I16).

use raftkv_protocol::{
    At, Consistency, Cursor, ErrorCode, Failure, KeyValue, Order, RangePage, RangeRequest, Record, Shape,
};

use super::{Invocation, Observer};

/// A listing under way.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// The next page, as it is asked for.
    pub(crate) request: RangeRequest,
    /// The revision that the first page was of.
    pub(crate) of: Option<u64>,
}

impl Listing {
    /// The revision that must be told, if that is known.
    fn at(&self) -> Option<u64> {
        match (self.of, self.request.at) {
            (Some(of), _) => Some(of),
            (None, At::Revision(at)) => Some(at.0),
            (None, At::Latest | At::Ago { .. }) => None,
        }
    }

    /// Must what was acknowledged before it began be in it?
    fn is_latest(&self) -> bool {
        let is_now = matches!(self.request.at, At::Latest | At::Ago { ago_ms: 0 });
        is_now && self.of.is_none() && self.request.consistency != Consistency::Stale
    }
}

impl Observer {
    /// A page came; the revision that it shows to whoever comes later.
    pub(super) fn page(&mut self, slot: usize, invocation: &Invocation, page: &RangePage) -> Option<u64> {
        let Some(listing) = &invocation.listing else {
            self.violate("I16", Some(slot), format!("{invocation:?} got a page"));
            return None;
        };
        let at = page.at.0;
        if at > self.model.revision() {
            let what = format!("a page is of revision {at}, decided is {}", self.model.revision());
            self.violate("I12", Some(slot), what);
            return None;
        }
        if listing.at().is_some_and(|expected| expected != at) {
            let what = format!("{invocation:?} got a page of revision {at}");
            self.violate("I16", Some(slot), what);
        }
        if listing.is_latest() && at < invocation.floor {
            let what = format!("{invocation:?} got a page of revision {at}, older than what it must see");
            self.violate("I16", Some(slot), what);
        }
        if let Err(what) = self.check_page(&listing.request, page) {
            let what = format!("{invocation:?} got {page:?}: {what}");
            self.violate("I16", Some(slot), what);
        }
        (listing.request.consistency != Consistency::Stale).then_some(at)
    }

    fn check_page(&self, request: &RangeRequest, page: &RangePage) -> Result<(), String> {
        let cursor = request.cursor.as_ref();
        let cursor = cursor.map(|cursor| Cursor::decode(cursor).expect("a node made it"));
        let is_behind = |key: &[u8]| match (&cursor, request.order) {
            (None, _) => true,
            (Some(cursor), Order::Ascending) => *key > cursor.last[..],
            (Some(cursor), Order::Descending) => *key < cursor.last[..],
        };
        let state = self.model.state_at(page.at.0);
        let mut expected: Vec<KeyValue> = state
            .filter(|(key, ..)| request.span.contains(key) && is_behind(key))
            .map(|(key, record, _)| KeyValue {
                key: key.clone(),
                record: shaped(record, request.shape),
            })
            .collect();
        if request.order == Order::Descending {
            expected.reverse();
        }
        let count = usize::try_from(page.count).expect("few keys");
        if count > expected.len() || request.limit.is_some_and(|limit| count > limit as usize) {
            return Err(format!("it passed {count} keys of {}", expected.len()));
        }
        let has_more = count < expected.len();
        let last = has_more.then(|| expected[count.saturating_sub(1)].key.clone());
        if has_more && count == 0 {
            return Err("it is empty, and not the last".to_owned());
        }
        expected.truncate(count);
        if request.shape == Shape::CountOnly {
            expected.clear();
        }
        if page.kvs != expected {
            return Err(format!("the log says {expected:?}"));
        }
        let told = page.cursor.as_ref().map(|cursor| Cursor::decode(cursor));
        match (told, last) {
            (None, None) => Ok(()),
            (Some(Ok(told)), Some(last)) if told.at == page.at && told.last == last => Ok(()),
            (told, last) => Err(format!("it ends with {told:?}, the next begins behind {last:?}")),
        }
    }

    /// A page was refused for good.
    pub(crate) fn page_refused(&mut self, slot: usize, invocation: &Invocation, failure: &Failure) {
        let at = invocation.listing.as_ref().and_then(Listing::at);
        let oldest_kept = self.oldest_kept_anywhere();
        let is_right = match failure.code {
            ErrorCode::Compacted => at.map_or(oldest_kept > 1, |at| at < oldest_kept),
            ErrorCode::FutureRevision => at.is_some_and(|at| at > invocation.floor),
            _ => false,
        };
        if !is_right {
            let what = format!(
                "{invocation:?} was refused as {failure:?}; kept is {oldest_kept} to {}",
                self.model.revision()
            );
            self.violate("I16", Some(slot), what);
        }
    }
}

fn shaped(record: &Record, shape: Shape) -> Record {
    match shape {
        Shape::Records | Shape::CountOnly => record.clone(),
        Shape::KeysOnly => Record {
            value: bytes::Bytes::new(),
            ..record.clone()
        },
    }
}
