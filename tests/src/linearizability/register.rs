//! The model: one key of the store as a register that knows the revisions.

use std::collections::HashMap;

use bytes::Bytes;
use raftkv_protocol::{Condition, Revision};

use super::history::{Action, Operation, Outcome};

/// A value, interned: the search compares and hashes it often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ValueId(u32);

/// What is known of the key at one point of an order.
///
/// A write without an answer makes a change of unknown revision: [`Register::Unseen`], until an answer shows it. An
/// order in which such a change is overwritten blindly before anybody saw it explains nothing that the same order
/// without it does not, so the model refuses it: with many unanswered writes this is what keeps the search short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Register {
    /// Nothing is known: the start of a window cut out of a longer history.
    Anything,
    /// The key does not exist, and the store's revision is at least `floor`.
    Absent { floor: u64 },
    /// The key exists.
    Present { value: ValueId, revision: u64 },
    /// An unanswered write changed the key at some revision above `above`; no answer has shown it yet.
    Unseen { value: Option<ValueId>, above: u64 },
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Attempt {
    Get,
    Put { value: ValueId, condition: Condition },
    Delete { condition: Condition },
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Report {
    Found { value: ValueId, revision: u64 },
    NotFound,
    Put { revision: u64 },
    Deleted { existed: bool, revision: u64 },
    ConditionFailed { current: Option<u64> },
}

/// An operation as the model executes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    attempt: Attempt,
    report: Option<Report>,
}

impl Step {
    /// The revision of the change that this step is known to make.
    pub(super) fn change(&self) -> Option<u64> {
        match self.report? {
            Report::Put { revision }
            | Report::Deleted {
                existed: true,
                revision,
            } => Some(revision),
            Report::Found { .. }
            | Report::NotFound
            | Report::Deleted { existed: false, .. }
            | Report::ConditionFailed { .. } => None,
        }
    }
}

/// Turns operations into steps.
///
/// Two things that answers tell of writes that had none themselves are settled here, once, and not by search:
/// - a value that one put alone wrote, and that a read found, gives that put its revision;
/// - values of unanswered puts that no read found need not be told apart.
pub(super) struct Interner<'a> {
    values: HashMap<&'a Bytes, ValueId>,
    /// Which revision a read found a value at.
    found: HashMap<&'a Bytes, u64>,
    /// How many puts wrote a value.
    writers: HashMap<&'a Bytes, u32>,
}

/// All values that no answered operation names.
const NEVER_SEEN: ValueId = ValueId(0);

impl<'a> Interner<'a> {
    pub(super) fn of(operations: &'a [Operation]) -> Interner<'a> {
        let mut interner = Interner {
            values: HashMap::new(),
            found: HashMap::new(),
            writers: HashMap::new(),
        };
        for operation in operations {
            if let Action::Put { value, .. } = &operation.action {
                *interner.writers.entry(value).or_default() += 1;
                if operation.outcome().is_some() {
                    interner.name(value);
                }
            }
            if let Some(Outcome::Found { value, mod_revision }) = operation.outcome() {
                interner.found.insert(value, mod_revision.0);
                interner.name(value);
            }
        }
        interner
    }

    fn name(&mut self, value: &'a Bytes) {
        let next = u32::try_from(self.values.len() + 1).expect("fewer distinct values than fit a u32");
        self.values.entry(value).or_insert(ValueId(next));
    }

    pub(super) fn step(&self, operation: &Operation) -> Step {
        let attempt = match &operation.action {
            Action::Get => Attempt::Get,
            Action::Put { value, condition } => Attempt::Put {
                value: self.value(value),
                condition: *condition,
            },
            Action::Delete { condition } => Attempt::Delete {
                condition: *condition,
            },
        };
        let report = match operation.outcome() {
            Some(outcome) => Some(self.report(outcome)),
            None => self.revealed(&operation.action),
        };
        Step { attempt, report }
    }

    /// What reads tell of an unanswered put whose value no other put wrote.
    fn revealed(&self, action: &Action) -> Option<Report> {
        let Action::Put { value, .. } = action else {
            return None;
        };
        let is_only_writer = self.writers.get(value) == Some(&1);
        let revision = self.found.get(value).copied()?;
        is_only_writer.then_some(Report::Put { revision })
    }

    fn report(&self, outcome: &Outcome) -> Report {
        match outcome {
            Outcome::Found { value, mod_revision } => Report::Found {
                value: self.value(value),
                revision: mod_revision.0,
            },
            Outcome::NotFound => Report::NotFound,
            Outcome::Put { revision } => Report::Put { revision: revision.0 },
            Outcome::Deleted { existed, revision } => Report::Deleted {
                existed: *existed,
                revision: revision.0,
            },
            Outcome::ConditionFailed { current } => Report::ConditionFailed {
                current: current.map(|revision| revision.0),
            },
        }
    }

    fn value(&self, value: &Bytes) -> ValueId {
        self.values.get(value).copied().unwrap_or(NEVER_SEEN)
    }
}

impl Register {
    /// The key of a new store: revision 1, nothing in it.
    pub(super) fn empty_store() -> Register {
        Register::Absent { floor: 1 }
    }

    /// The register after this step, or `None` when the step can not happen here (or need not, see the type).
    pub(super) fn after(self, step: &Step) -> Option<Register> {
        let Some(report) = step.report else {
            return self.after_unanswered(step.attempt);
        };
        match (step.attempt, report) {
            (Attempt::Get, Report::Found { value, revision }) => self.shown(Some(value), revision),
            (Attempt::Get, Report::NotFound) => self.shown_absent(),
            (Attempt::Put { value, condition }, Report::Put { revision }) => {
                let before = self.meeting(condition)?;
                (revision > before.floor()).then_some(Register::Present { value, revision })
            }
            (Attempt::Delete { condition }, Report::Deleted { existed, revision }) => {
                self.after_delete(condition, existed, revision)
            }
            (
                Attempt::Put { condition, .. } | Attempt::Delete { condition },
                Report::ConditionFailed { current },
            ) => self.failing(condition, current),
            // An answer of another kind than the question: no order explains it.
            (Attempt::Get | Attempt::Put { .. } | Attempt::Delete { .. }, _) => None,
        }
    }

    /// A lower bound of the store's revision: each later change has a greater one.
    fn floor(self) -> u64 {
        match self {
            Register::Anything => 0,
            Register::Absent { floor } => floor,
            Register::Present { revision, .. } => revision,
            Register::Unseen { above, .. } => above + 1,
        }
    }

    /// An answer showed the key present, last changed at `revision`, with this value if it told one.
    fn shown(self, seen: Option<ValueId>, revision: u64) -> Option<Register> {
        match self {
            // Without a value nothing more is known of the key than its revision, which `Unseen` can not hold.
            Register::Anything => Some(seen.map_or(self, |value| Register::Present { value, revision })),
            Register::Present {
                value,
                revision: last,
            } => (last == revision && seen.is_none_or(|seen| seen == value)).then_some(self),
            Register::Unseen { value, above } => {
                let value = value?;
                (revision > above && seen.is_none_or(|seen| seen == value))
                    .then_some(Register::Present { value, revision })
            }
            Register::Absent { .. } => None,
        }
    }

    /// An answer showed the key absent.
    fn shown_absent(self) -> Option<Register> {
        match self {
            Register::Anything => Some(Register::Absent { floor: 0 }),
            Register::Absent { .. } => Some(self),
            Register::Unseen { value: None, .. } => Some(Register::Absent { floor: self.floor() }),
            Register::Unseen { value: Some(_), .. } | Register::Present { .. } => None,
        }
    }

    /// The register, given that a write with this condition was answered as executed.
    fn meeting(self, condition: Condition) -> Option<Register> {
        match (condition, self) {
            // Blind, over a change that nobody saw: the order without that change explains as much.
            (Condition::Always, Register::Unseen { .. }) => None,
            (Condition::Always, _) => Some(self),
            (Condition::Absent, _) => self.shown_absent(),
            // The next state keeps the order of revisions: a change over `Anything` is above the revision it met.
            (Condition::ModRevision(Revision(revision)), Register::Anything) => {
                Some(Register::Absent { floor: revision })
            }
            (Condition::ModRevision(Revision(revision)), _) => self.shown(None, revision),
        }
    }

    fn after_delete(self, condition: Condition, existed: bool, revision: u64) -> Option<Register> {
        if !existed {
            let absent = match condition {
                Condition::Always | Condition::Absent => self.shown_absent()?,
                Condition::ModRevision(_) => return None,
            };
            return (revision >= absent.floor()).then_some(Register::Absent { floor: revision });
        }
        let before = match (condition, self) {
            // Unlike a blind put, this answer tells that the key was there.
            (Condition::Always, Register::Unseen { value: Some(_), .. } | Register::Anything) => self,
            (Condition::Always, Register::Present { .. }) => self,
            (Condition::Always, Register::Absent { .. } | Register::Unseen { value: None, .. })
            | (Condition::Absent, _) => return None,
            (Condition::ModRevision(_), _) => self.meeting(condition)?,
        };
        (revision > before.floor()).then_some(Register::Absent { floor: revision })
    }

    /// The condition did not hold, because the key was as `current` tells.
    fn failing(self, condition: Condition, current: Option<u64>) -> Option<Register> {
        match (condition, current) {
            (Condition::Always, _) | (Condition::Absent, None) => None,
            (Condition::Absent, Some(revision)) => self.shown(None, revision),
            (Condition::ModRevision(_), None) => self.shown_absent(),
            (Condition::ModRevision(wanted), Some(revision)) => {
                if wanted.0 == revision {
                    return None;
                }
                self.shown(None, revision)
            }
        }
    }

    /// The write took effect, and nobody was told. An attempt that would have had no effect need not happen at all.
    fn after_unanswered(self, attempt: Attempt) -> Option<Register> {
        let (value, condition) = match attempt {
            Attempt::Get => return None,
            Attempt::Put { value, condition } => (Some(value), condition),
            Attempt::Delete { condition } => (None, condition),
        };
        let is_absent = matches!(
            self,
            Register::Absent { .. } | Register::Unseen { value: None, .. }
        );
        if value.is_none() && (is_absent || condition == Condition::Absent) {
            return None;
        }
        let before = self.meeting(condition)?;
        Some(Register::Unseen {
            value,
            above: before.floor(),
        })
    }
}
