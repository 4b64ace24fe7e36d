//! Is a recorded history of clients linearizable?
//!
//! The search is Wing and Gong's, with Lowe's improvements: a linked list of invocations and returns, and a cache of
//! the configurations (set of linearized operations, state) that were already tried. Linearizability is local
//! (Herlihy and Wing, theorem 1), so each key is checked alone, as a register with conditional writes; what spans
//! keys is the revision counter, whose rules ([`RevisionRule`]) are checked in linear time.
//!
//! The model takes the store at its word: a put names the revision it made, a read the revision of what it saw, a
//! failed condition the revision that made it fail. So most orders are ruled out at once, and a write that was lost,
//! doubled or reordered shows even where a later value covers it.
//!
//! What it promises:
//! - a write whose outcome is unknown may take effect at any time after its invocation, or never;
//! - a failed operation is absent: the caller promises that it never had an effect, and a trace of it is a violation;
//! - a search that reaches its [`StepLimit`] is [`Verdict::Undecided`], which counts as a failed run;
//! - a violation carries a smallest sub-history that still has no explanation.
//!
//! What it leaves out: `create_revision` and `version` of a record, keys with a TTL, stale reads. A history starts on
//! a store in which none of its keys exists.

#[cfg(test)]
mod brute_force;
#[cfg(test)]
mod generated;
mod history;
mod register;
mod report;
mod revisions;
mod search;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

pub use history::{
    Action, ClientId, Ending, History, Moment, Operation, OperationId, Outcome, Recorder, SharedRecorder,
};

pub use revisions::Rule as RevisionRule;

use register::Register;
use search::Found;

/// How many linearization steps the search may try for one key before it gives up as undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLimit(pub u64);

impl Default for StepLimit {
    /// Far above what a correct history needs (about one step per operation); bounds memory and time on a wrong one.
    fn default() -> Self {
        StepLimit(2_000_000)
    }
}

/// The answer of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable {
        /// Linearization steps tried, over all keys.
        steps: u64,
    },
    /// There is none.
    Violated(Violation),
    /// The step limit was reached first. Counts as a failed run.
    Undecided {
        /// On this key.
        key: Bytes,
        /// After so many steps.
        steps: u64,
    },
}

/// Why a history is wrong. `Display` prints the operations, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// No order of these operations on one key explains their answers.
    #[error("{}", report::not_linearizable(key, window))]
    NotLinearizable {
        /// The key.
        key: Bytes,
        /// A smallest sub-history without an explanation, by invocation.
        window: Vec<Operation>,
    },
    /// Two answers contradict each other about the store's revision counter, which all keys share.
    #[error("{}", report::revisions_contradict(*rule, first, second))]
    RevisionsContradict {
        /// What does not hold.
        rule: RevisionRule,
        /// The earlier operation.
        first: Box<Operation>,
        /// The later one.
        second: Box<Operation>,
    },
}

/// A history that is not shown to be linearizable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// It is not.
    #[error(transparent)]
    Violated(#[from] Violation),
    /// The search was cut off.
    #[error(
        "undecided after {steps} steps on key {key:?}: raise the step limit, or spread the load over more keys"
    )]
    Undecided {
        /// On this key.
        key: Bytes,
        /// After so many steps.
        steps: u64,
    },
}

impl Verdict {
    /// The verdict as a result: undecided is an error too.
    ///
    /// # Errors
    /// Whenever the history was not shown to be linearizable.
    pub fn into_result(self) -> Result<(), CheckError> {
        match self {
            Verdict::Linearizable { .. } => Ok(()),
            Verdict::Violated(violation) => Err(violation.into()),
            Verdict::Undecided { key, steps } => Err(CheckError::Undecided { key, steps }),
        }
    }
}

/// Checks a history: the revision counter over all keys, then each key by itself, in the order of the keys.
#[must_use]
pub fn check(history: &History, limit: StepLimit) -> Verdict {
    if let Err(violation) = revisions::check(history.operations()) {
        return Verdict::Violated(violation);
    }
    let mut total = 0;
    for (key, operations) in by_key(history) {
        let (found, steps) = search::search(&operations, Register::empty_store(), limit);
        total += steps;
        match found {
            Found::Order => {}
            Found::NoOrder => {
                let window = window::smallest(&operations, limit);
                return Verdict::Violated(Violation::NotLinearizable { key, window });
            }
            Found::LimitReached => return Verdict::Undecided { key, steps },
        }
    }
    Verdict::Linearizable { steps: total }
}

fn by_key(history: &History) -> BTreeMap<Bytes, Vec<Operation>> {
    let mut keys: BTreeMap<Bytes, Vec<Operation>> = BTreeMap::new();
    for operation in history.operations() {
        keys.entry(operation.key.clone())
            .or_default()
            .push(operation.clone());
    }
    keys
}
