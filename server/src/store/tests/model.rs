//! The store, over a base that it drains into, against a model that shares no code with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use raftkv_protocol::{Answer, Command, Condition, Revision};

use super::rig::{Applier, delete, put};
use crate::store::base::TwinView;
use crate::store::history::{Direction, KeyRange, Layers, Past};
use crate::store::{Looked, Slot, State, StoreError, Stored};

/// What the store should be, told as simply as possible.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, ModelRecord>,
    changes: u64,
    now_ms: u64,
}

struct ModelRecord {
    value: Vec<u8>,
    created: u64,
    changed: u64,
    version: u64,
    expires_ms: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<u8>, ModelCondition, Option<u64>),
    Delete(u8, ModelCondition),
    Tick,
    /// The generation ends.
    Freeze,
    /// The oldest frozen generation goes into the base, and memory may let go of it.
    Drain,
    /// A reader asks the base for this key.
    Lookup(u8),
    /// A scan begins, and is read when all is over.
    Hold,
    /// The process dies: what was not drained is applied again.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum ModelCondition {
    Always,
    Absent,
    /// The revision that last changed the key, plus this.
    Current(u64),
}

impl Model {
    fn advance(&mut self, log_time_ms: u64) {
        self.now_ms = self.now_ms.max(log_time_ms);
        let before = self.keys.len();
        let now_ms = self.now_ms;
        self.keys
            .retain(|_, record| record.expires_ms.is_none_or(|at| at > now_ms));
        self.changes += (before - self.keys.len()) as u64;
    }

    fn condition(&self, key: u8, condition: ModelCondition) -> Condition {
        match condition {
            ModelCondition::Always => Condition::Always,
            ModelCondition::Absent => Condition::Absent,
            ModelCondition::Current(offset) => {
                let changed = self.keys.get(&vec![key]).map_or(1, |record| record.changed);
                Condition::ModRevision(Revision(changed + offset))
            }
        }
    }

    fn holds(&self, key: u8, condition: Condition) -> bool {
        match (condition, self.keys.get(&vec![key])) {
            (Condition::Always, _) | (Condition::Absent, None) => true,
            (Condition::ModRevision(Revision(wanted)), Some(record)) => wanted == record.changed,
            (Condition::Absent, Some(_)) | (Condition::ModRevision(_), None) => false,
        }
    }

    fn put(&mut self, key: u8, value: &[u8], ttl_ms: Option<u64>) {
        self.changes += 1;
        let changed = self.changes + 1;
        let old = self.keys.remove(&vec![key]);
        let record = ModelRecord {
            value: value.to_vec(),
            created: old.as_ref().map_or(changed, |old| old.created),
            changed,
            version: old.map_or(0, |old| old.version) + 1,
            expires_ms: ttl_ms.map(|ttl_ms| self.now_ms + ttl_ms),
        };
        self.keys.insert(vec![key], record);
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let condition = prop_oneof![
        3 => Just(ModelCondition::Always),
        1 => Just(ModelCondition::Absent),
        1 => (0..2u64).prop_map(ModelCondition::Current),
    ];
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        4 => (0..6u8, value, condition.clone(), proptest::option::of(1..50u64))
            .prop_map(|(key, value, condition, ttl_ms)| Step::Put(key, value, condition, ttl_ms)),
        2 => (0..6u8, condition).prop_map(|(key, condition)| Step::Delete(key, condition)),
        1 => Just(Step::Tick),
        2 => Just(Step::Freeze),
        2 => Just(Step::Drain),
        2 => (0..6u8).prop_map(Step::Lookup),
        1 => Just(Step::Hold),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec((0..200u64, step), 0..120)
}

type Listed = Vec<(Vec<u8>, Vec<u8>, u64, u64, u64)>;

fn listed(model: &Model) -> Listed {
    let records = model.keys.iter();
    records
        .map(|(key, r)| (key.clone(), r.value.clone(), r.created, r.changed, r.version))
        .collect()
}

fn listed_by(state: &State<TwinView>) -> Listed {
    let record = |item: Result<(Bytes, Stored), StoreError>| {
        let (key, stored) = item.expect("the twin reads");
        let r = stored.record().expect("a scan resolves lineages");
        (
            key.to_vec(),
            r.value.to_vec(),
            r.create_revision.0,
            r.mod_revision.0,
            r.version,
        )
    };
    let forwards: Listed = state.range(&[], None).map(record).collect();
    let mut backwards: Listed = state.range(&[], None).rev().map(record).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards, "both directions");
    // From both ends at once, and a part of it.
    let mut both = state.range(&[1], Some(&[5]));
    let (mut front, mut back) = (Vec::new(), Vec::new());
    while let Some(item) = both.next() {
        front.push(record(item));
        back.extend(both.next_back().map(record));
    }
    front.extend(back.into_iter().rev());
    let part: Listed = forwards
        .iter()
        .filter(|r| (1..5).contains(&r.0[0]))
        .cloned()
        .collect();
    assert_eq!(front, part, "from both ends");
    for (key, value, ..) in &forwards {
        let found = state.get(key).expect("the twin reads").expect("listed");
        assert_eq!(found.value[..], value[..]);
    }
    forwards
}

/// Slots are the records, and the keys between them that some layer knows as deleted; each as a look at it alone says.
fn check_slots(state: &State<TwinView>) {
    let all = |direction| -> Vec<(Bytes, Slot)> {
        let slots = state.slots(&KeyRange::all(), direction);
        slots.map(|item| item.expect("the twin reads")).collect()
    };
    let forwards = all(Direction::Ascending);
    let mut backwards = all(Direction::Descending);
    backwards.reverse();
    assert_eq!(forwards, backwards, "both directions");
    for key in 0..6_u8 {
        let listed = forwards.iter().find(|(at, _)| at[..] == [key]);
        let newest = state.newest(&[key]).expect("the twin reads");
        assert_eq!(listed.map(|(_, slot)| slot), newest.as_ref(), "key {key}");
        let live = state.get(&[key]).expect("the twin reads");
        assert_eq!(newest.as_ref().and_then(Slot::live), live.as_ref(), "key {key}");
    }
}

fn check_against(model: &Model, a: &Applier) {
    assert_eq!(a.store.revision(), Revision(model.changes + 1), "revision");
    assert_eq!(listed_by(&a.hold()), listed(model));
    let next_ms = model.keys.values().filter_map(|record| record.expires_ms).min();
    if let Some(next_ms) = next_ms {
        let hinted = a.store.next_deadline_us().expect("each deadline has its hint");
        assert!(
            hinted <= next_ms * 1000,
            "the first hint is not later than the first deadline"
        );
    }
    for key in 0..6_u8 {
        let expected = model
            .keys
            .get(&vec![key])
            .map(|r| (r.value.clone(), r.created, r.changed, r.version));
        match a.store.look(&[key]) {
            Looked::Found(r) => {
                let found = (r.value.to_vec(), r.create_revision.0, r.mod_revision.0, r.version);
                assert_eq!(Some(found), expected, "key {key}");
            }
            Looked::Absent => assert_eq!(None, expected, "key {key}"),
            Looked::Unknown => {}
        }
    }
}

/// One step on both; the answers must agree in whether it happened.
fn run_step(a: &mut Applier, model: &mut Model, log_time_ms: u64, step: &Step) {
    if matches!(step, Step::Put(..) | Step::Delete(..) | Step::Tick) {
        model.advance(log_time_ms);
    }
    match step {
        Step::Put(key, value, condition, ttl_ms) => {
            let condition = model.condition(*key, *condition);
            let happens = model.holds(*key, condition);
            if happens {
                model.put(*key, value, *ttl_ms);
            }
            let answer = a.apply(log_time_ms, &put(&[*key], value, condition, *ttl_ms));
            assert_eq!(matches!(answer, Some(Answer::Put { .. })), happens);
        }
        Step::Delete(key, condition) => {
            let condition = model.condition(*key, *condition);
            let happens = model.holds(*key, condition);
            let existed = happens && model.keys.remove(&vec![*key]).is_some();
            model.changes += u64::from(existed);
            match a.apply(log_time_ms, &delete(&[*key], condition)) {
                Some(Answer::Deleted { existed: told, .. }) => assert!(happens && told == existed),
                other => assert!(!happens, "{other:?}"),
            }
        }
        Step::Tick => assert_eq!(a.apply(log_time_ms, &Command::Tick), None),
        Step::Freeze => a.freeze(),
        Step::Drain => a.drain(),
        Step::Lookup(key) => a.look_up(&[*key]),
        Step::Restart => a.restart(),
        Step::Hold => {}
    }
}

proptest! {
    #[test]
    fn store_over_a_base_equals_the_model_and_so_does_every_scan_held_open(steps in steps(), overlay_bytes in 0..3000u64) {
        let (mut a, mut model) = (Applier::with_overlay(overlay_bytes), Model::default());
        let mut held = Vec::new();
        for (log_time_ms, step) in &steps {
            run_step(&mut a, &mut model, *log_time_ms, step);
            check_against(&model, &a);
            if matches!(step, Step::Hold) {
                held.push((a.hold(), listed(&model)));
            }
        }
        for (state, expected) in &held {
            assert_eq!(&listed_by(state), expected, "a scan sees the state it began with");
        }
    }

    #[test]
    fn a_held_state_and_history_tell_what_was_at_every_revision(steps in steps(), overlay_bytes in 0..3000u64) {
        let (mut a, mut model) = (Applier::with_overlay(overlay_bytes), Model::default());
        // An entry that expires several keys leaves revisions that no model stood at.
        let mut then = BTreeMap::from([(1, listed(&model))]);
        for (log_time_ms, step) in &steps {
            run_step(&mut a, &mut model, *log_time_ms, step);
            then.insert(model.changes + 1, listed(&model));
        }
        check_slots(&a.hold());
        let past = Past::new(a.history(), a.hold(), a.store.revision());
        for (at, expected) in &then {
            for direction in [Direction::Ascending, Direction::Descending] {
                let range = past.range_at(&KeyRange::all(), Revision(*at), direction).expect("it is kept");
                let mut found: Listed = range.map(|item| {
                    let (key, r) = item.expect("the twin reads");
                    (key.to_vec(), r.value.to_vec(), r.create_revision.0, r.mod_revision.0, r.version)
                }).collect();
                if direction == Direction::Descending {
                    found.reverse();
                }
                prop_assert_eq!(&found, expected, "at {}, {:?}", at, direction);
            }
            for key in 0..6_u8 {
                let found = past.record_at(&[key], Revision(*at)).expect("it is kept");
                let wanted = expected.iter().find(|record| record.0 == [key]);
                prop_assert_eq!(found.map(|r| r.mod_revision.0), wanted.map(|record| record.3));
            }
        }
    }

    #[test]
    fn replay_gives_the_same_hash_whatever_was_drained_between(steps in steps()) {
        let (mut layered, mut plain) = (Applier::with_overlay(500), Applier::new());
        let (mut model, mut again) = (Model::default(), Model::default());
        for (log_time_ms, step) in &steps {
            run_step(&mut layered, &mut model, *log_time_ms, step);
            if matches!(step, Step::Put(..) | Step::Delete(..) | Step::Tick) {
                run_step(&mut plain, &mut again, *log_time_ms, step);
            }
        }
        prop_assert_eq!(layered.store.state_hash(), plain.store.state_hash());
    }
}
