//! A page that is wanted: which part of a range, as of when, and how it is refused when that can not be told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftkv_protocol::{
    At, Cursor, ErrorCode, Failure, MAX_PAGE_BYTES, MAX_PAGE_KEYS, Order, RangeRequest, Revision, Shape,
};
use raftkv_raft::simulation::{mark, mutant};

use crate::store::history::{Direction, KeyRange};
use crate::store::{PageAt, PageWanted};

/// A page that is wanted.
#[derive(Debug)]
pub(super) struct PageRead {
    range: KeyRange,
    direction: Direction,
    shape: Shape,
    max_keys: u32,
    max_bytes: u32,
    pub(super) target: Target,
    /// Counts against the range reads that may wait while it lives.
    _place: Arc<()>,
}

/// As of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Latest,
    Revision(Revision),
    /// The state of a listing that was begun.
    Continued(Revision),
    Ago {
        ago_ms: u64,
    },
}

impl Target {
    pub(super) fn revision(self) -> Option<Revision> {
        match self {
            Target::Revision(at) | Target::Continued(at) => Some(at),
            Target::Latest | Target::Ago { .. } => None,
        }
    }
}

impl PageRead {
    pub(super) fn new(asked: RangeRequest, cursor: Option<Cursor>, place: Arc<()>) -> PageRead {
        let mut range = KeyRange {
            from: asked.span.from,
            to: asked.span.to,
        };
        let direction = match asked.order {
            Order::Ascending => Direction::Ascending,
            Order::Descending => Direction::Descending,
        };
        let target = match (&cursor, asked.at) {
            (Some(cursor), _) => Target::Continued(cursor.at),
            (None, At::Latest) => Target::Latest,
            (None, At::Revision(at)) => Target::Revision(at),
            (None, At::Ago { ago_ms }) => Target::Ago { ago_ms },
        };
        if let Some(cursor) = cursor {
            go_on_behind(&mut range, direction, cursor.last);
        }
        PageRead {
            range,
            direction,
            shape: asked.shape,
            max_keys: asked.limit.unwrap_or(MAX_PAGE_KEYS).min(MAX_PAGE_KEYS),
            max_bytes: asked.max_bytes.min(MAX_PAGE_BYTES),
            target,
            _place: place,
        }
    }

    /// Is it of one key alone?
    pub(super) fn is_of_one_key(&self) -> bool {
        self.range.only_key().is_some()
    }

    pub(super) fn is_continued(&self) -> bool {
        matches!(self.target, Target::Continued(_))
    }

    pub(super) fn wanted(&self, at: PageAt) -> PageWanted {
        PageWanted {
            range: self.range.clone(),
            direction: self.direction,
            shape: self.shape,
            max_keys: self.max_keys,
            max_bytes: self.max_bytes,
            at,
        }
    }
}

/// Takes out of the range what the pages before have passed.
fn go_on_behind(range: &mut KeyRange, direction: Direction, last: Bytes) {
    match direction {
        Direction::Ascending => {
            let behind = match mutant("last_key_of_a_page_read_again") {
                true => last,
                false => [&last[..], &[0]].concat().into(),
            };
            range.from = behind.max(std::mem::take(&mut range.from));
        }
        Direction::Descending => {
            let end = range.to.take();
            range.to = Some(end.map_or(last.clone(), |end| end.min(last)));
        }
    }
}

impl Target {
    pub(super) fn mark_compacted(self) {
        match self {
            Target::Continued(_) => mark("cursor compacted"),
            Target::Revision(_) | Target::Latest | Target::Ago { .. } => mark("page of the past compacted"),
        }
    }

    /// What it names is not kept any more.
    pub(super) fn compacted(self, oldest: Revision) -> Failure {
        let kept = format!("is not kept any more; the oldest that can be read is revision {oldest}");
        let message = match self {
            Target::Revision(at) => format!("revision {at} {kept}"),
            Target::Continued(at) => {
                format!("the listing is of revision {at}, which {kept}: begin the listing again")
            }
            Target::Ago { ago_ms } => {
                let ago = Duration::from_millis(ago_ms);
                format!("what was {ago:?} ago {kept}")
            }
            Target::Latest => unreachable!("the latest state is kept"),
        };
        Failure::new(ErrorCode::Compacted, message)
    }
}

/// The revision has not come yet.
pub(super) fn future(at: Revision, current: Revision) -> Failure {
    let message = format!("revision {at} has not come yet; the latest is revision {current}");
    Failure::new(ErrorCode::FutureRevision, message)
}
