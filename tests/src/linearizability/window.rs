//! Shrinks a history without an order to a smallest one that people can read.
//!
//! Each step only weakens what is claimed, so what remains without an order proves that the whole has none:
//! - the history up to a moment (what had not returned by then has an unknown outcome);
//! - the history from a moment on, starting from any state;
//! - the history without an answer that changed nothing;
//! - the history with the outcome of a write forgotten, and without a write of unknown outcome whose effect no
//!   remaining answer can have met.

use raftkv_protocol::Condition;

use super::StepLimit;
use super::history::{Action, Ending, Moment, Operation, Outcome};
use super::register::Register;
use super::search::{Found, search};

/// Above this many operations left, the slow last phase (one search per operation) is left out.
const OPERATIONS_TO_TRY_ONE_BY_ONE: usize = 300;

/// A smallest part of `operations` (of one key, by invocation, without an order) that has no order either; each as
/// it was recorded.
pub(super) fn smallest(operations: &[Operation], limit: StepLimit) -> Vec<Operation> {
    let fails = |window: &Window| window.fails(limit);
    let whole = Window {
        start: Register::empty_store(),
        operations: operations.to_vec(),
    };
    let mut window = shortest_prefix(whole, &fails);
    window = shortest_suffix(window, &fails);
    if window.operations.len() <= OPERATIONS_TO_TRY_ONE_BY_ONE {
        window = one_by_one(window, &fails);
    }
    as_recorded(&window.operations, operations)
}

#[derive(Clone)]
struct Window {
    start: Register,
    operations: Vec<Operation>,
}

impl Window {
    fn fails(&self, limit: StepLimit) -> bool {
        search(&self.operations, self.start, limit).0 == Found::NoOrder
    }

    fn until(&self, end: Moment) -> Window {
        let operations = self
            .operations
            .iter()
            .filter(|operation| operation.invoked <= end);
        let cut = operations.filter_map(|operation| match operation.returned() {
            Some(at) if at > end => forgotten(operation),
            Some(_) | None => Some(operation.clone()),
        });
        Window {
            start: self.start,
            operations: cut.collect(),
        }
    }

    fn from(&self, start: Moment) -> Window {
        let kept = self
            .operations
            .iter()
            .filter(|operation| operation.returned().is_none_or(|at| at >= start));
        Window {
            start: Register::Anything,
            operations: kept.cloned().collect(),
        }
    }

    fn returns(&self) -> Vec<Moment> {
        let mut returns: Vec<Moment> = self.operations.iter().filter_map(Operation::returned).collect();
        returns.sort_unstable();
        returns.dedup();
        returns
    }

    fn with(&self, index: usize, replacement: Option<Operation>) -> Window {
        let mut operations = self.operations.clone();
        match replacement {
            Some(operation) => operations[index] = operation,
            None => drop(operations.remove(index)),
        }
        Window {
            start: self.start,
            operations,
        }
    }
}

/// The operation with its outcome forgotten; a read without an outcome is nothing.
fn forgotten(operation: &Operation) -> Option<Operation> {
    (operation.action != Action::Get).then(|| Operation {
        ending: Ending::Unknown,
        ..operation.clone()
    })
}

fn shortest_prefix(whole: Window, fails: &impl Fn(&Window) -> bool) -> Window {
    let returns = whole.returns();
    let end = returns.partition_point(|&end| !fails(&whole.until(end)));
    match returns.get(end) {
        Some(&end) => whole.until(end),
        None => whole,
    }
}

fn shortest_suffix(whole: Window, fails: &impl Fn(&Window) -> bool) -> Window {
    let returns = whole.returns();
    let starts = returns.partition_point(|&start| fails(&whole.from(start)));
    match starts.checked_sub(1) {
        Some(last) => whole.from(returns[last]),
        None => whole,
    }
}

fn one_by_one(mut window: Window, fails: &impl Fn(&Window) -> bool) -> Window {
    loop {
        let before = window.operations.clone();
        for index in (0..window.operations.len()).rev() {
            if let Some(smaller) = weakened(&window, index)
                .into_iter()
                .find(|smaller| fails(smaller))
            {
                window = smaller;
            }
        }
        if window.operations == before {
            return window;
        }
    }
}

/// Windows that claim less about the operation at `index`, the smallest first.
fn weakened(window: &Window, index: usize) -> Vec<Window> {
    let operation = &window.operations[index];
    let without = window.with(index, None);
    let removable = match operation.change() {
        Some(_) => false,
        None if operation.returned().is_some() => true,
        None => !without
            .operations
            .iter()
            .any(|other| may_have_met(other, operation)),
    };
    let forget = operation.returned().and_then(|_| forgotten(operation));
    let forgetful = forget.map(|operation| window.with(index, Some(operation)));
    removable
        .then_some(without)
        .into_iter()
        .chain(forgetful)
        .collect()
}

/// Can `observer` have met the effect of `write`? If nobody can, an order with the write is one without it too.
fn may_have_met(observer: &Operation, write: &Operation) -> bool {
    let written = match &write.action {
        Action::Put { value, .. } => Some(value),
        Action::Delete { .. } | Action::Get => None,
    };
    let met_a_value = match observer.outcome() {
        Some(Outcome::Found { value, .. }) => return written == Some(value),
        Some(Outcome::NotFound | Outcome::Deleted { existed: false, .. }) => false,
        Some(Outcome::Deleted { existed: true, .. }) => true,
        Some(Outcome::ConditionFailed { current }) => current.is_some(),
        Some(Outcome::Put { .. }) | None => match condition(observer) {
            Condition::Always => return false,
            Condition::Absent => false,
            Condition::ModRevision(_) => true,
        },
    };
    met_a_value == written.is_some()
}

fn condition(operation: &Operation) -> Condition {
    match operation.action {
        Action::Put { condition, .. } | Action::Delete { condition } => condition,
        Action::Get => Condition::Always,
    }
}

/// The operations of the window with the endings that they had in the history.
fn as_recorded(window: &[Operation], history: &[Operation]) -> Vec<Operation> {
    let is_same =
        |a: &Operation, b: &Operation| (a.invoked, a.client, &a.action) == (b.invoked, b.client, &b.action);
    let mut kept = window.iter().peekable();
    history
        .iter()
        .filter(|operation| kept.next_if(|&next| is_same(next, operation)).is_some())
        .cloned()
        .collect()
}
