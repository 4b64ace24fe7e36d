//! Deleting all keys of a range at once.

use std::future::IntoFuture;

use raftkv_protocol::{
    Answer, Command, KeySpan, KeyValue, Keys, Op, OpResult, Previous, Revision, Txn, TxnResult,
};

use crate::client::{Client, unexpected};
use crate::error::{Applied, Error};
use crate::request::{Sending, write};

/// A delete of a range; see [`Client::delete_range`].
#[derive(Clone, Debug)]
#[must_use = "a delete begins when it is awaited"]
pub struct DeleteRange<'a> {
    client: &'a Client,
    span: KeySpan,
    previous: Previous,
}

/// What a delete of a range did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedRange {
    /// How many keys there were.
    pub count: u64,
    /// The store's revision after it: of all of them, if there were any; else unchanged.
    pub revision: Revision,
    /// Their records before, in key order, if [`DeleteRange::with_previous`] asked for them.
    pub previous: Vec<KeyValue>,
}

impl<'a> DeleteRange<'a> {
    pub(crate) fn new(client: &'a Client, span: KeySpan) -> DeleteRange<'a> {
        DeleteRange {
            client,
            span,
            previous: Previous::Unwanted,
        }
    }

    /// Tells what was there before.
    pub fn with_previous(mut self) -> DeleteRange<'a> {
        self.previous = Previous::Wanted;
        self
    }

    async fn run(self) -> Result<DeletedRange, Error> {
        let delete = Op::Delete {
            keys: Keys::Range {
                from: &self.span.from,
                to: self.span.to.as_deref(),
            },
            previous: self.previous,
        };
        let txn = Txn {
            then: vec![delete],
            ..Txn::default()
        };
        match write(self.client, &Command::Txn(txn)).await? {
            Answer::Txn(result) => deleted(result),
            other => Err(unexpected(
                "the result of a delete of a range",
                &other,
                Applied::Unknown,
            )),
        }
    }
}

fn deleted(result: TxnResult) -> Result<DeletedRange, Error> {
    match result.results.into_iter().next() {
        Some(OpResult::Deleted { count, previous }) => Ok(DeletedRange {
            count,
            revision: result.revision,
            previous,
        }),
        Some(_) | None => Err(Error::UnexpectedAnswer {
            expected: "a number of deleted keys",
            got: "another result",
            applied: Applied::Unknown,
        }),
    }
}

impl<'a> IntoFuture for DeleteRange<'a> {
    type Output = Result<DeletedRange, Error>;
    type IntoFuture = Sending<'a, DeletedRange>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
