//! The checker against a judge that shares nothing with it: all orders, all choices, on small histories.

use bytes::Bytes;
use proptest::prelude::*;
use raftkv_protocol::{Condition, Revision};

use super::*;

/// Revisions that an unanswered write may have made.
const REVISIONS: std::ops::RangeInclusive<u64> = 2..=9;

/// The key as the judge sees it: every revision is a number, guessed where no answer tells it.
#[derive(Clone)]
struct Judge {
    revision: u64,
    key: Option<(Bytes, u64)>,
}

impl Judge {
    fn holds(&self, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Absent => self.key.is_none(),
            Condition::ModRevision(wanted) => self.key.as_ref().is_some_and(|(_, at)| *at == wanted.0),
        }
    }

    /// Executes the action with the change, if there is one, at `revision`; what would be answered.
    fn execute(&mut self, action: &Action, revision: u64) -> Outcome {
        let (condition, value) = match action {
            Action::Get => {
                return self
                    .key
                    .clone()
                    .map_or(Outcome::NotFound, |(value, at)| Outcome::Found {
                        value,
                        mod_revision: Revision(at),
                    });
            }
            Action::Put { value, condition } => (*condition, Some(value)),
            Action::Delete { condition } => (*condition, None),
        };
        if !self.holds(condition) {
            return Outcome::ConditionFailed {
                current: self.key.as_ref().map(|(_, at)| Revision(*at)),
            };
        }
        let existed = self.key.is_some();
        self.key = value.map(|value| (value.clone(), revision));
        self.revision = revision;
        match value {
            Some(_) => Outcome::Put {
                revision: Revision(revision),
            },
            None => Outcome::Deleted {
                existed,
                revision: Revision(revision),
            },
        }
    }

    /// Is there an order of `left` from here?
    fn has_order(&self, left: &[&Operation]) -> bool {
        if left.iter().all(|operation| operation.returned().is_none()) {
            return true;
        }
        let first_return = left.iter().filter_map(|operation| operation.returned()).min();
        (0..left.len()).any(|index| {
            let operation = left[index];
            if first_return.is_some_and(|at| at < operation.invoked) {
                return false;
            }
            let mut rest = left.to_vec();
            rest.remove(index);
            self.nexts(operation).iter().any(|next| next.has_order(&rest))
        })
    }

    /// All states after `operation`, whose answer must be the one given.
    fn nexts(&self, operation: &Operation) -> Vec<Judge> {
        let revisions = match operation.outcome() {
            // Other keys may have moved the counter, but never back.
            Some(Outcome::Deleted {
                existed: false,
                revision,
            }) => revision.0..=revision.0,
            Some(_) if operation.change().is_none() => self.revision..=self.revision,
            Some(_) | None => *REVISIONS.start()..=*REVISIONS.end(),
        };
        let is_nothing = matches!(operation.outcome(), Some(Outcome::Deleted { existed: false, .. }))
            || (operation.outcome().is_some() && operation.change().is_none());
        let lowest = if is_nothing {
            self.revision
        } else {
            self.revision + 1
        };
        let nexts = revisions
            .filter(|&revision| revision >= lowest)
            .filter_map(|revision| {
                let mut next = self.clone();
                let answer = next.execute(&operation.action, revision);
                operation
                    .outcome()
                    .is_none_or(|given| *given == answer)
                    .then_some(next)
            });
        nexts.collect()
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => Just(Condition::Always),
        1 => Just(Condition::Absent),
        2 => (2_u64..6).prop_map(|revision| Condition::ModRevision(Revision(revision))),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::from_static(b"a")), Just(Bytes::from_static(b"b"))]
}

fn action_and_outcome() -> impl Strategy<Value = (Action, Outcome)> {
    let revision = || (2_u64..7).prop_map(Revision);
    let put = (value(), condition()).prop_map(|(value, condition)| Action::Put { value, condition });
    let delete = condition().prop_map(|condition| Action::Delete { condition });
    let refused = (condition(), prop::option::of(revision()), value());
    prop_oneof![
        3 => (value(), revision()).prop_map(|(value, mod_revision)| {
            (Action::Get, Outcome::Found { value, mod_revision })
        }),
        1 => Just((Action::Get, Outcome::NotFound)),
        4 => (put, revision()).prop_map(|(put, revision)| (put, Outcome::Put { revision })),
        2 => (delete, any::<bool>(), revision())
            .prop_map(|(delete, existed, revision)| (delete, Outcome::Deleted { existed, revision })),
        1 => refused.prop_map(|(condition, current, value)| {
            (Action::Put { value, condition }, Outcome::ConditionFailed { current })
        }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    (action_and_outcome(), 0_u64..12, 1_u64..8, 0_u32..4).prop_map(
        |((action, outcome), invoked, length, unanswered)| Operation {
            client: ClientId(0),
            key: Bytes::from_static(b"k"),
            action,
            invoked: Moment(invoked),
            ending: match unanswered {
                0 => Ending::Unknown,
                _ => Ending::Answered {
                    at: Moment(invoked + length),
                    outcome,
                },
            },
        },
    )
}

/// An arbitrary history is nearly always wrong; one whose answers were taken from an execution, with a little
/// noise, is about as often right as wrong.
fn executed(operations: &mut [Operation], order: &[usize], noise: usize) {
    let mut judge = Judge {
        revision: 1,
        key: None,
    };
    let length = operations.len();
    for (place, index) in order.iter().map(|&index| index % length).enumerate() {
        let operation = &mut operations[index];
        let outcome = judge.execute(&operation.action, judge.revision + 1);
        if let Ending::Answered { outcome: given, .. } = &mut operation.ending
            && place != noise
        {
            *given = match outcome {
                Outcome::Deleted { existed: false, .. } => {
                    judge.revision -= 1;
                    Outcome::Deleted {
                        existed: false,
                        revision: Revision(judge.revision),
                    }
                }
                outcome => outcome,
            };
        }
    }
}

#[test]
fn agrees_with_all_orders_on_small_histories() {
    let histories = (
        prop::collection::vec(operation(), 1..7),
        Just(()),
        0_usize..8,
        any::<bool>(),
    );
    let config = ProptestConfig {
        cases: 20_000,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let counts = std::cell::Cell::new((0, 0));
    let outcome = runner.run(&histories, |(mut operations, (), noise, is_executed)| {
        if is_executed {
            let mut order: Vec<usize> = (0..operations.len()).collect();
            order.sort_by_key(|&index| operations[index].invoked);
            executed(&mut operations, &order, noise);
        }
        let history = History::new(operations);
        let all: Vec<&Operation> = history.operations().iter().collect();
        let expected = Judge {
            revision: 1,
            key: None,
        }
        .has_order(&all);
        let (found, _) = search::search(
            history.operations(),
            Register::empty_store(),
            StepLimit::default(),
        );
        let (right, wrong) = counts.get();
        counts.set(if expected {
            (right + 1, wrong)
        } else {
            (right, wrong + 1)
        });
        prop_assert_eq!(found == Found::Order, expected, "{:?} says the search", found);
        Ok(())
    });
    outcome.expect("the search and the judge agree");
    let (right, wrong) = counts.get();
    println!("{right} right, {wrong} wrong");
    assert!(
        right > 1000 && wrong > 1000,
        "the histories must be of both kinds: {right} right, {wrong} wrong"
    );
}
