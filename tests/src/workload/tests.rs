//! The clients against stores that are a map under a lock, right and wrong.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use raftkv_protocol::Condition;

use super::*;
use crate::harness::Deadline;
use crate::linearizability::Verdict;

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// Nothing.
    None,
    /// Now and then a read shows what the last write replaced.
    StaleReads,
    /// Now and then a write is acknowledged and forgotten.
    LostWrites,
    /// Now and then a write that was executed is told to have failed.
    FalseFailures,
}

#[derive(Default)]
struct Map {
    revision: u64,
    keys: HashMap<Bytes, (Bytes, u64)>,
    before: HashMap<Bytes, (Bytes, u64)>,
    requests: u64,
}

#[derive(Clone)]
struct MapDoor {
    map: Arc<Mutex<Map>>,
    defect: Defect,
}

impl MapDoor {
    fn new(defect: Defect) -> MapDoor {
        let map = Arc::new(Mutex::new(Map {
            revision: 1,
            ..Map::default()
        }));
        MapDoor { map, defect }
    }
}

impl Door for MapDoor {
    fn execute(&mut self, key: &Bytes, action: &Action) -> Ended {
        let mut map: MutexGuard<'_, Map> = self.map.lock().expect("no panic");
        map.requests += 1;
        let strikes = map.requests.is_multiple_of(50);
        let current = map.keys.get(key).cloned();
        match action {
            Action::Get => {
                let stale = map.before.get(key).cloned();
                let shown = if strikes && self.defect == Defect::StaleReads {
                    stale
                } else {
                    current
                };
                Ended::Answered(
                    shown.map_or(Outcome::NotFound, |(value, revision)| Outcome::Found {
                        value,
                        mod_revision: Revision(revision),
                    }),
                )
            }
            Action::Put { value, condition } => {
                let at = current.as_ref().map(|(_, revision)| Revision(*revision));
                let holds = match condition {
                    Condition::Always => true,
                    Condition::Absent => at.is_none(),
                    Condition::ModRevision(_) => at == seen(*condition),
                };
                if !holds {
                    return Ended::Answered(Outcome::ConditionFailed { current: at });
                }
                map.revision += 1;
                let revision = map.revision;
                if let Some(current) = current {
                    map.before.insert(key.clone(), current);
                }
                if !(strikes && self.defect == Defect::LostWrites) {
                    map.keys.insert(key.clone(), (value.clone(), revision));
                }
                match strikes && self.defect == Defect::FalseFailures {
                    true => Ended::Failed,
                    false => Ended::Answered(Outcome::Put {
                        revision: Revision(revision),
                    }),
                }
            }
            Action::Delete { .. } => {
                let existed = map.keys.remove(key).is_some();
                map.revision += u64::from(existed);
                let revision = Revision(map.revision);
                Ended::Answered(Outcome::Deleted { existed, revision })
            }
        }
    }
}

fn seen(condition: Condition) -> Option<Revision> {
    match condition {
        Condition::ModRevision(revision) => Some(revision),
        Condition::Always | Condition::Absent => None,
    }
}

fn history_of(defect: Defect) -> History {
    let plan = Plan {
        clients: 4,
        keys: Keys::Shared(3),
        mix: Mix::EVERYTHING,
        seed: 1,
    };
    let store = MapDoor::new(defect);
    let load = Workload::start(plan, |_| vec![Box::new(store.clone()) as Box<dyn Door>]);
    load.wait_for_answers(4_000, Deadline::seconds(60));
    load.finish().history()
}

#[test]
fn right_store_gives_linearizable_histories() {
    assert_linearizable(&history_of(Defect::None));
}

#[test]
fn wrong_stores_are_caught() {
    for defect in [Defect::StaleReads, Defect::LostWrites, Defect::FalseFailures] {
        let verdict = check(&history_of(defect), StepLimit::default());
        let Verdict::Violated(violation) = verdict else {
            panic!("{defect:?} was not caught: {verdict:?}");
        };
        println!("{defect:?}: {violation}");
    }
}

#[test]
fn keys_of_their_own_are_never_used_twice() {
    let plan = Plan {
        clients: 4,
        keys: Keys::OwnEach,
        mix: Mix::PUTS,
        seed: 1,
    };
    let store = MapDoor::new(Defect::None);
    let load = Workload::start(plan, |_| vec![Box::new(store.clone()) as Box<dyn Door>]);
    load.wait_for_answers(1_000, Deadline::seconds(60));
    let puts = acknowledged_puts(&load.finish().history());
    let keys: std::collections::HashSet<_> = puts.iter().map(|put| put.key.clone()).collect();
    assert_eq!(keys.len(), puts.len());
}
