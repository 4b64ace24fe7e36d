//! Right histories, made by executing operations on a real register; and the same made wrong on purpose.

use bytes::Bytes;
use proptest::prelude::*;
use raftkv_protocol::{Condition, Revision};
use std::collections::BTreeMap;

use super::*;

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) operations: usize,
    pub(super) keys: u64,
    pub(super) clients: u32,
    pub(super) unknown_percent: u64,
}

/// A register store that executes one operation at a time.
struct Reference {
    revision: u64,
    keys: BTreeMap<u64, (Bytes, u64)>,
}

impl Reference {
    fn execute(&mut self, key: u64, action: &Action) -> Outcome {
        let current = self.keys.get(&key).map(|(_, revision)| Revision(*revision));
        match action {
            Action::Get => match self.keys.get(&key) {
                Some((value, revision)) => Outcome::Found {
                    value: value.clone(),
                    mod_revision: Revision(*revision),
                },
                None => Outcome::NotFound,
            },
            Action::Put { condition, .. } | Action::Delete { condition } if !holds(*condition, current) => {
                Outcome::ConditionFailed { current }
            }
            Action::Put { value, .. } => {
                self.revision += 1;
                self.keys.insert(key, (value.clone(), self.revision));
                Outcome::Put {
                    revision: Revision(self.revision),
                }
            }
            Action::Delete { .. } => {
                let existed = self.keys.remove(&key).is_some();
                self.revision += u64::from(existed);
                Outcome::Deleted {
                    existed,
                    revision: Revision(self.revision),
                }
            }
        }
    }
}

fn holds(condition: Condition, current: Option<Revision>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => current.is_none(),
        Condition::ModRevision(revision) => current == Some(revision),
    }
}

fn draw_action(rng: &mut fastrand::Rng, value: usize, last_revision: u64) -> Action {
    let value = Bytes::from(format!("v{value}"));
    let near = Condition::ModRevision(Revision(last_revision.saturating_sub(rng.u64(0..2))));
    match rng.u32(0..10) {
        0..5 => Action::Get,
        5..7 => Action::Put {
            value,
            condition: Condition::Always,
        },
        7 => Action::Put {
            value,
            condition: near,
        },
        8 => Action::Put {
            value,
            condition: Condition::Absent,
        },
        _ => Action::Delete {
            condition: if rng.bool() { Condition::Always } else { near },
        },
    }
}

/// A history that is right: each operation takes effect at one moment between its invocation and its return, and an
/// unanswered one at some later moment or never.
pub(super) fn generate(plan: Plan, seed: u64) -> History {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut effects = BTreeMap::new();
    let mut free_at = vec![0; plan.clients as usize];
    let mut operations = Vec::new();
    for index in 0..plan.operations {
        let client = rng.usize(0..free_at.len());
        let (invoked, length) = (free_at[client] + rng.u64(1..50), rng.u64(2..100));
        free_at[client] = invoked + length;
        let unknown = rng.u64(0..100) < plan.unknown_percent;
        let effect = match unknown {
            false => Some(invoked + rng.u64(1..length)),
            true => rng.bool().then(|| invoked + rng.u64(1..1000)),
        };
        if let Some(effect) = effect {
            effects.insert((effect, index), rng.u64(0..plan.keys));
        }
        operations.push((client, invoked, (!unknown).then_some(free_at[client])));
    }
    let mut store = Reference {
        revision: 1,
        keys: BTreeMap::new(),
    };
    let mut done: Vec<Operation> = Vec::new();
    for ((_, index), key) in effects {
        let (client, invoked, returned) = operations[index];
        let last_revision = store.keys.get(&key).map_or(1, |(_, revision)| *revision);
        let action = draw_action(&mut rng, index, last_revision);
        let outcome = store.execute(key, &action);
        done.push(Operation {
            client: ClientId(u32::try_from(client).expect("few clients")),
            key: Bytes::from(format!("k{key}")),
            action,
            invoked: Moment(invoked),
            ending: match returned {
                Some(at) => Ending::Answered {
                    at: Moment(at),
                    outcome,
                },
                None => Ending::Unknown,
            },
        });
    }
    History::new(done)
}

fn violated(operations: Vec<Operation>) -> Option<Violation> {
    match check(&History::new(operations), StepLimit::default()) {
        Verdict::Violated(violation) => Some(violation),
        Verdict::Linearizable { .. } => None,
        Verdict::Undecided { key, steps } => panic!("undecided after {steps} steps on {key:?}"),
    }
}

fn plans() -> impl Strategy<Value = (Plan, u64)> {
    let sizes = (20_usize..300, 1_u64..6, 1_u32..8, 0_u64..40);
    (sizes, any::<u64>()).prop_map(|((operations, keys, clients, unknown_percent), seed)| {
        (
            Plan {
                operations,
                keys,
                clients,
                unknown_percent,
            },
            seed,
        )
    })
}

/// Indexes of reads that found something.
fn reads(operations: &[Operation]) -> Vec<usize> {
    let found = |&index: &usize| matches!(operations[index].outcome(), Some(Outcome::Found { .. }));
    (0..operations.len()).filter(found).collect()
}

proptest! {
    #[test]
    fn executed_histories_are_right((plan, seed) in plans()) {
        let history = generate(plan, seed);
        let verdict = check(&history, StepLimit::default());
        prop_assert!(matches!(verdict, Verdict::Linearizable { .. }), "{verdict:?}");
    }

    #[test]
    fn answers_of_two_reads_swapped_are_refused((plan, seed) in plans(), pick in any::<prop::sample::Index>()) {
        let mut operations = generate(plan, seed).operations().to_vec();
        let reads = reads(&operations);
        // Two reads of one key, one over before the other began, that saw different changes.
        let pairs: Vec<(usize, usize)> = reads.iter().flat_map(|&a| reads.iter().map(move |&b| (a, b)))
            .filter(|&(a, b)| operations[a].key == operations[b].key
                && operations[a].returned().is_some_and(|at| at < operations[b].invoked)
                && operations[a].outcome() != operations[b].outcome())
            .collect();
        prop_assume!(!pairs.is_empty());
        let (a, b) = pairs[pick.index(pairs.len())];
        let (ending_a, ending_b) = (operations[a].outcome().cloned(), operations[b].outcome().cloned());
        for (index, outcome) in [(a, ending_b), (b, ending_a)] {
            let (at, outcome) = (operations[index].returned(), outcome);
            operations[index].ending = Ending::Answered {
                at: at.expect("a read that was answered"),
                outcome: outcome.expect("a read that was answered"),
            };
        }
        prop_assert!(violated(operations).is_some());
    }

    #[test]
    fn dropped_write_that_was_read_is_refused((plan, seed) in plans(), pick in any::<prop::sample::Index>()) {
        let mut operations = generate(plan, seed).operations().to_vec();
        let reads = reads(&operations);
        prop_assume!(!reads.is_empty());
        let read = &operations[reads[pick.index(reads.len())]];
        let Some(Outcome::Found { value: seen, .. }) = read.outcome().cloned() else { unreachable!("a read that found") };
        operations.retain(|operation| !matches!(&operation.action, Action::Put { value, .. } if *value == seen));
        prop_assert!(violated(operations).is_some());
    }

    #[test]
    fn lost_acknowledged_write_is_refused((plan, seed) in plans(), pick in any::<prop::sample::Index>()) {
        let mut operations = generate(plan, seed).operations().to_vec();
        operations.retain(|operation| operation.returned().is_some());
        // After everything a read shows a state that an acknowledged, finished change has replaced.
        let key = operations[pick.index(operations.len())].key.clone();
        let changes = operations.iter().filter(|operation| operation.key == key && operation.change().is_some());
        let Some(lost) = changes.max_by_key(|operation| operation.change()).cloned() else {
            return Err(TestCaseError::reject("nothing was written"));
        };
        let end = operations.iter().filter_map(Operation::returned).max().expect("answered operations");
        let outcome = match &lost.action {
            Action::Put { .. } => Outcome::NotFound,
            Action::Delete { .. } | Action::Get => Outcome::Found {
                value: Bytes::from("before"),
                mod_revision: Revision(lost.change().map_or(0, |revision| revision.0 - 1)),
            },
        };
        operations.push(Operation {
            client: ClientId(99),
            key,
            action: Action::Get,
            invoked: Moment(end.0 + 1),
            ending: Ending::Answered { at: Moment(end.0 + 2), outcome },
        });
        prop_assert!(violated(operations).is_some());
    }

    #[test]
    // Without unanswered writes: one that was asked long ago may stretch the window back to where it was seen.
    fn window_is_small_and_itself_without_an_order((plan, seed) in plans(), pick in any::<prop::sample::Index>()) {
        let mut operations = generate(Plan { keys: 1, unknown_percent: 0, ..plan }, seed).operations().to_vec();
        let reads = reads(&operations);
        prop_assume!(!reads.is_empty());
        // A read that saw nothing where there was a value.
        let wrong = reads[pick.index(reads.len())];
        let at = operations[wrong].returned().expect("a read that was answered");
        operations[wrong].ending = Ending::Answered { at, outcome: Outcome::NotFound };
        if let Some(Violation::NotLinearizable { window, .. }) = violated(operations) {
            let answered = window.iter().filter(|operation| operation.returned().is_some()).count();
            prop_assert!(answered <= 2 * plan.clients as usize + 2, "{answered} of {}", plan.operations);
            let (found, _) = search::search(&window, Register::Anything, StepLimit::default());
            let (from_empty, _) = search::search(&window, Register::empty_store(), StepLimit::default());
            prop_assert!(found == Found::NoOrder || from_empty == Found::NoOrder);
        }
    }
}
