//! Reading many keys, page by page, at one fixed state.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, ErrorCode, Failure, HistoryEpoch, KeySpan, KeyValue, Limits, ReadBasis, Revision, Shape,
};

/// The most bytes of keys and values that one page holds, whatever was asked for.
pub const MAX_PAGE_BYTES: u32 = 1 << 20;

/// The most keys that one page counts or holds.
pub const MAX_PAGE_KEYS: u32 = 1 << 17;

/// A page of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// Which keys.
    pub span: KeySpan,
    /// In which order.
    pub order: Order,
    /// What of them.
    pub shape: Shape,
    /// As of when.
    pub at: At,
    /// At most so many keys in this page; `None`: as many as fit.
    pub limit: Option<u32>,
    /// At most so many bytes of keys and values in this page; never more than [`MAX_PAGE_BYTES`], and always one key.
    pub max_bytes: u32,
    /// What is promised of the state. Without meaning where `at` names a revision or a page is continued.
    pub consistency: Consistency,
    /// Goes on where an earlier page ended: the [`Cursor`] it gave. All else must be as it was then, but limits.
    pub cursor: Option<Bytes>,
}

impl RangeRequest {
    /// All of `span` at the latest state, as much as fits a page.
    #[must_use]
    pub fn new(span: KeySpan) -> RangeRequest {
        RangeRequest {
            span,
            order: Order::Ascending,
            shape: Shape::Records,
            at: At::Latest,
            limit: None,
            max_bytes: MAX_PAGE_BYTES,
            consistency: Consistency::Linearizable,
            cursor: None,
        }
    }

    /// Checks it against the limits.
    ///
    /// # Errors
    /// `too_large` for an over-long end, `bad_request` for a limit of nothing, revision 0, or a cursor that is none.
    pub fn check(&self, limits: &Limits) -> Result<(), Failure> {
        self.span.check(limits)?;
        if self.limit == Some(0) {
            return Err(Failure::new(
                ErrorCode::BadRequest,
                "the limit is 0; a page has at least one key",
            ));
        }
        let cursor = self.cursor()?;
        let at = cursor.map(|cursor| At::Revision(cursor.at));
        if [Some(self.at), at].contains(&Some(At::Revision(Revision(0)))) {
            return Err(Failure::new(
                ErrorCode::BadRequest,
                "there is no revision 0: an empty store has revision 1",
            ));
        }
        Ok(())
    }

    /// The cursor, read.
    ///
    /// # Errors
    /// `bad_request` if it is none.
    pub fn cursor(&self) -> Result<Option<Cursor>, Failure> {
        self.cursor
            .as_ref()
            .map(|cursor| Cursor::decode(cursor))
            .transpose()
    }
}

/// In which order keys come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Order {
    /// From the lowest key.
    #[default]
    Ascending,
    /// From the highest.
    Descending,
}

/// As of when a read is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum At {
    /// The latest state.
    #[default]
    Latest,
    /// Just after this revision. Waits for nothing: a revision that the node has not reached is confirmed first, or refused.
    Revision(Revision),
    /// As it was so long ago, in log time, milliseconds.
    Ago {
        /// Milliseconds.
        ago_ms: u64,
    },
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangePage {
    /// The state that it is of; further pages are of the same.
    pub at: Revision,
    /// In the order asked for; empty where only their number was.
    pub kvs: Vec<KeyValue>,
    /// How many keys this page passed; of all pages together: how many there are.
    pub count: u64,
    /// Where the next page begins; `None`: this was the last.
    pub cursor: Option<Bytes>,
    /// What the answer rests on, where that is not simply "linearizable".
    pub basis: Option<ReadBasis>,
}

/// Where the next page begins. Opaque to clients: its form may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The state that all pages are of.
    pub at: Revision,
    /// The history that the revision is of.
    pub epoch: HistoryEpoch,
    /// The last key of the page before.
    pub last: Bytes,
}

impl Cursor {
    const VERSION: u8 = 1;

    /// What clients get.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![Cursor::VERSION])
            .expect("plain data always encodes")
            .into()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// `bad_request` if it is none.
    pub fn decode(bytes: &[u8]) -> Result<Cursor, Failure> {
        let refused = || Failure::new(ErrorCode::BadRequest, "the cursor is none that a page ended with");
        let (version, rest) = bytes.split_first().ok_or_else(refused)?;
        if *version != Cursor::VERSION {
            return Err(refused());
        }
        match postcard::take_from_bytes(rest) {
            Ok((cursor, [])) => Ok(cursor),
            Ok(_) | Err(_) => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_as_of_revision_0_is_refused_however_it_is_named() {
        let all = || RangeRequest::new(KeySpan::prefix(b""));
        let at = |revision| RangeRequest {
            at: At::Revision(Revision(revision)),
            ..all()
        };
        let continued = |revision| {
            let cursor = Cursor {
                at: Revision(revision),
                epoch: HistoryEpoch(1),
                last: Bytes::from_static(b"k"),
            };
            RangeRequest {
                cursor: Some(cursor.encode()),
                ..all()
            }
        };
        let limits = Limits::default();
        for request in [at(0), continued(0)] {
            let failure = request.check(&limits).expect_err("there is no revision 0");
            assert_eq!(failure.code, ErrorCode::BadRequest, "{request:?}");
        }
        for request in [all(), at(1), continued(1)] {
            assert_eq!(request.check(&limits), Ok(()), "{request:?}");
        }
    }
}
