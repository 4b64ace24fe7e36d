//! The engine and its twin against a plain map: the same operations, and all views that are held looked at after each.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Base, BaseConfig, BaseView, CompactionStep, LsmBase, Row, RowIter, TwinBase};
use crate::store::error::StoreError;

pub(super) type Map = BTreeMap<Bytes, Bytes>;

/// Levels of a few small tables each, so that all there is to go wrong goes wrong with little data.
pub(super) fn tiny() -> BaseConfig {
    BaseConfig {
        block_cache_bytes: 1 << 20,
        block_size_bytes: 256,
        level_zero_tables: 2,
        table_size_bytes: 2048,
        level_ratio: 2,
        compaction_reserve_bytes: 0,
    }
}

/// Ascends with the number. Some are prefixes of their neighbours.
pub(super) fn key(number: u16) -> Bytes {
    match number % 7 {
        6 => format!("key{:05}+", number - 1).into(),
        _ => format!("key{number:05}").into(),
    }
}

pub(super) fn changes(base: &impl Base, rows: &BTreeMap<Bytes, Option<Bytes>>) -> Result<(), StoreError> {
    base.ingest(&mut rows.iter().map(|(key, value)| {
        Ok(Row {
            key: key.clone(),
            value: value.clone(),
        })
    }))
}

#[derive(Clone, Debug)]
enum Step {
    /// Puts (with the length of the value) and deletes.
    Ingest(BTreeMap<u16, Option<u8>>),
    /// An ingest whose rows end in an error after so many.
    GiveUp(BTreeMap<u16, Option<u8>>),
    Hold,
    LetGo(usize),
    Compact,
    CompactAll,
    Reopen,
    Look(Question),
}

#[derive(Clone, Debug)]
struct Question {
    from: u16,
    to: Option<u16>,
    /// Which end to take from, in turn.
    ends: Vec<bool>,
    /// Every so many keys.
    stride: u16,
}

fn rows() -> impl Strategy<Value = BTreeMap<u16, Option<u8>>> {
    let value = prop_oneof![4 => any::<u8>().prop_map(Some), 1 => Just(None)];
    prop::collection::btree_map(0..400_u16, value, 0..120)
}

fn question() -> impl Strategy<Value = Question> {
    let ends = prop::collection::vec(any::<bool>(), 1..9);
    (0..400_u16, prop::option::of(0..400_u16), ends, 1..40_u16).prop_map(|(from, to, ends, stride)| {
        Question {
            from,
            to,
            ends,
            stride,
        }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => rows().prop_map(Step::Ingest),
        1 => rows().prop_map(Step::GiveUp),
        2 => Just(Step::Hold),
        1 => any::<usize>().prop_map(Step::LetGo),
        4 => Just(Step::Compact),
        1 => Just(Step::CompactAll),
        1 => Just(Step::Reopen),
        4 => question().prop_map(Step::Look),
    ];
    prop::collection::vec(step, 1..40)
}

/// A base, and what only some bases have.
trait Subject {
    type Base: Base;
    fn base(&self) -> &Self::Base;
    fn reopen(&mut self);
    fn compact(&self);
    fn compact_all(&self);
}

struct Real {
    base: Option<LsmBase>,
    directory: tempfile::TempDir,
}

impl Real {
    fn new() -> Real {
        let directory = tempfile::tempdir().unwrap();
        let base = Some(LsmBase::open(directory.path(), &tiny()).unwrap());
        Real { base, directory }
    }
}

impl Subject for Real {
    type Base = LsmBase;
    fn base(&self) -> &LsmBase {
        self.base.as_ref().unwrap()
    }
    fn reopen(&mut self) {
        self.base = None;
        self.base = Some(LsmBase::open(self.directory.path(), &tiny()).unwrap());
    }
    fn compact(&self) {
        // Each step moves rows down, so they come to an end.
        let steps = (0..1000).take_while(|_| self.base().compact_step().unwrap() == CompactionStep::Done);
        assert!(steps.count() < 1000);
        assert!(!self.base().needs_compaction());
    }
    fn compact_all(&self) {
        self.base().compact_all().unwrap();
    }
}

impl Subject for TwinBase {
    type Base = TwinBase;
    fn base(&self) -> &TwinBase {
        self
    }
    fn reopen(&mut self) {}
    fn compact(&self) {}
    fn compact_all(&self) {}
}

fn changes_of(numbered: &BTreeMap<u16, Option<u8>>, stamp: usize) -> BTreeMap<Bytes, Option<Bytes>> {
    let row = |(number, length): (&u16, &Option<u8>)| {
        let value = length.map(|length| format!("{stamp}-{}", "v".repeat(usize::from(length))).into());
        (key(*number), value)
    };
    numbered.iter().map(row).collect()
}

fn run<S: Subject>(subject: &mut S, steps: &[Step]) {
    let mut model = Map::new();
    let mut held: Vec<(<S::Base as Base>::View, Map)> = Vec::new();
    for (stamp, step) in steps.iter().enumerate() {
        match step {
            Step::Ingest(rows) => {
                let rows = changes_of(rows, stamp);
                changes(subject.base(), &rows).unwrap();
                for (key, value) in rows {
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
            }
            Step::GiveUp(rows) => {
                let rows = changes_of(rows, stamp);
                let rows = rows.into_iter().map(|(key, value)| Ok(Row { key, value }));
                let given_up = subject.base().ingest(&mut rows.chain([Err(StoreError::Stopped)]));
                assert!(matches!(given_up, Err(StoreError::Stopped)), "{given_up:?}");
            }
            Step::Hold => held.push((subject.base().view().unwrap(), model.clone())),
            Step::LetGo(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
            Step::LetGo(_) => {}
            Step::Compact => subject.compact(),
            Step::CompactAll => subject.compact_all(),
            Step::Reopen => {
                held.clear();
                subject.reopen();
            }
            Step::Look(question) => {
                for (view, then) in &held {
                    look(view, then, question);
                }
                look(&subject.base().view().unwrap(), &model, question);
            }
        }
    }
    held.push((subject.base().view().unwrap(), model));
    for (view, then) in &held {
        assert_same(view.range(b"", None), then.iter());
    }
}

fn look(view: &impl BaseView, model: &Map, question: &Question) {
    let (from, to) = (key(question.from), question.to.map(key));
    let expected: Vec<(&Bytes, &Bytes)> = match &to {
        Some(to) if *to <= from => Vec::new(),
        Some(to) => model.range(from.clone()..to.clone()).collect(),
        None => model.range(from.clone()..).collect(),
    };
    assert_same(view.range(&from, to.as_deref()), expected.iter().copied());
    assert_same(
        Box::new(view.range(&from, to.as_deref()).rev()),
        expected.iter().rev().copied(),
    );
    let mut expected = expected.into_iter();
    let mut rows = view.range(&from, to.as_deref());
    for front in question.ends.iter().cycle() {
        let (found, wanted) = match front {
            true => (rows.next(), expected.next()),
            false => (rows.next_back(), expected.next_back()),
        };
        let found = found.transpose().unwrap();
        assert_eq!(found.as_ref().map(|(key, value)| (key, value)), wanted);
        if wanted.is_none() {
            break;
        }
    }
    let asked = || {
        (question.from..500)
            .step_by(usize::from(question.stride))
            .map(key)
    };
    for key in asked() {
        assert_eq!(view.get(&key).unwrap().as_ref(), model.get(&key));
    }
    let mut told = Vec::new();
    let mut found = |key, value| {
        told.push((key, value));
        Ok(())
    };
    view.get_ascending(&mut asked(), &mut found).unwrap();
    let wanted: Vec<_> = asked()
        .map(|key| (key.clone(), model.get(&key).cloned()))
        .collect();
    assert_eq!(told, wanted);
}

fn assert_same<'a>(rows: RowIter, wanted: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) {
    let found: Vec<_> = rows.map(Result::unwrap).collect();
    let wanted: Vec<_> = wanted.map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(found, wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_engine_is_a_map(steps in steps()) {
        run(&mut Real::new(), &steps);
    }

    #[test]
    fn the_twin_is_a_map(steps in steps()) {
        run(&mut TwinBase::new(), &steps);
    }
}

#[test]
fn a_failed_ingest_of_the_twin_changes_nothing() {
    let twin = TwinBase::new();
    let one = BTreeMap::from([(key(1), Some(Bytes::from_static(b"one")))]);
    for after_rows in [0, 1, 2] {
        twin.fail_next_ingest(after_rows);
        assert!(matches!(changes(&twin, &one), Err(StoreError::Engine { .. })));
        assert_eq!(twin.view().unwrap().range(b"", None).count(), 0);
    }
    let same = twin.clone();
    changes(&same, &one).unwrap();
    assert_eq!(twin.view().unwrap().get(&key(1)).unwrap().unwrap(), "one");
    assert_eq!(twin.ingests(), 1);
}

#[test]
fn the_twin_knows_bounds_that_enclose_nothing() {
    let twin = TwinBase::new();
    let empty = (Bound::Included(key(2)), Bound::Excluded(key(1)));
    let (Bound::Included(from), Bound::Excluded(to)) = &empty else {
        unreachable!("just built so");
    };
    assert_eq!(twin.view().unwrap().range(from, Some(to)).count(), 0);
    assert_eq!(twin.view().unwrap().range(from, Some(from)).count(), 0);
}
