//! What holds for the revisions that answers name, over all keys, in linear time.
//!
//! The store has one counter: each change has a revision of its own, and whoever has seen a revision (its own
//! write's, or that of what it read) knows that later changes are above it. A register per key can not see a change
//! on one key that takes, or runs behind, the revision of another.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use raftkv_protocol::Revision;

use super::Violation;
use super::history::{Action, Moment, Operation, Outcome};

/// A rule about the revision counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One revision is one change: of one key, with one value.
    OneChangeEach,
    /// A change that began after a revision was seen is above that revision.
    GrowsInRealTime,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::OneChangeEach => "two answers give one revision to different changes",
            Rule::GrowsInRealTime => {
                "a change that began after a revision was seen does not have a greater one"
            }
        })
    }
}

/// Checks both rules.
pub(super) fn check(operations: &[Operation]) -> Result<(), Violation> {
    one_change_each(operations)?;
    grows_in_real_time(operations)
}

fn contradiction(rule: Rule, first: &Operation, second: &Operation) -> Violation {
    Violation::RevisionsContradict {
        rule,
        first: Box::new(first.clone()),
        second: Box::new(second.clone()),
    }
}

/// What an answer tells about the change at a revision.
#[derive(Clone, Copy)]
struct Seen<'a> {
    by: &'a Operation,
    /// The value that the change left; `None` for a delete.
    value: Option<&'a Bytes>,
    made: bool,
}

fn one_change_each(operations: &[Operation]) -> Result<(), Violation> {
    let mut changes: BTreeMap<Revision, Seen<'_>> = BTreeMap::new();
    for operation in operations {
        let Some((revision, seen)) = change_seen(operation) else {
            continue;
        };
        let Some(other) = changes.get_mut(&revision) else {
            changes.insert(revision, seen);
            continue;
        };
        let is_same = other.by.key == operation.key && other.value == seen.value;
        if !is_same || (other.made && seen.made) {
            return Err(contradiction(Rule::OneChangeEach, other.by, operation));
        }
        if seen.made {
            *other = seen;
        }
    }
    Ok(())
}

fn change_seen(operation: &Operation) -> Option<(Revision, Seen<'_>)> {
    let (revision, value, made) = match (&operation.action, operation.outcome()?) {
        (Action::Put { value, .. }, Outcome::Put { revision }) => (*revision, Some(value), true),
        (
            _,
            Outcome::Deleted {
                existed: true,
                revision,
            },
        ) => (*revision, None, true),
        (_, Outcome::Found { value, mod_revision }) => (*mod_revision, Some(value), false),
        (
            _,
            Outcome::Put { .. }
            | Outcome::NotFound
            | Outcome::Deleted { existed: false, .. }
            | Outcome::ConditionFailed { .. },
        ) => return None,
    };
    let by = operation;
    Some((revision, Seen { by, value, made }))
}

fn grows_in_real_time(operations: &[Operation]) -> Result<(), Violation> {
    let mut evidence: Vec<(Moment, Revision, &Operation)> = operations
        .iter()
        .filter_map(|operation| Some((operation.returned()?, revision_seen(operation)?, operation)))
        .collect();
    evidence.sort_by_key(|&(at, revision, _)| (at, revision));
    let mut returned = evidence.into_iter().peekable();
    let mut highest: Option<(Revision, &Operation)> = None;
    // Operations are sorted by invocation, so what had returned before only grows.
    for operation in operations {
        while let Some((_, revision, by)) = returned.next_if(|(at, ..)| *at < operation.invoked) {
            if highest.is_none_or(|(highest, _)| highest < revision) {
                highest = Some((revision, by));
            }
        }
        if let (Some(change), Some((highest, by))) = (operation.change(), highest)
            && change <= highest
        {
            return Err(contradiction(Rule::GrowsInRealTime, by, operation));
        }
    }
    Ok(())
}

/// A revision that the store had reached when this answer was given.
fn revision_seen(operation: &Operation) -> Option<Revision> {
    match operation.outcome()? {
        Outcome::Put { revision } | Outcome::Deleted { revision, .. } => Some(*revision),
        Outcome::Found { mod_revision, .. } => Some(*mod_revision),
        Outcome::ConditionFailed { current } => *current,
        Outcome::NotFound => None,
    }
}
