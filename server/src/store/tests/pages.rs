//! Pages against a plain map, over the twin and over the engine, with drains in between.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use raftkv_protocol::{Condition, Revision, Shape};

use super::rig::{Applier, delete, put};
use crate::store::base::{Base, BaseConfig, LsmBase, TwinBase};
use crate::store::history::{Direction, HistoryError, KeyRange};
use crate::store::{
    Keep, Page, PageAt, PageNumber, PageOutcome, PageReader, PageSource, PageWanted, read_page,
};

type Map = BTreeMap<Bytes, (Bytes, Revision)>;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Freeze,
    Drain,
    /// A listing begins; each step from then on reads a page of it.
    List(Listing),
}

#[derive(Clone, Debug)]
struct Listing {
    wanted: PageWanted,
    way: Way,
}

/// How further pages find their state.
#[derive(Clone, Copy, Debug)]
enum Way {
    Kept,
    History,
}

fn key(number: u8) -> Bytes {
    Bytes::from(format!("key{number:02}"))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bound = || proptest::option::of((0..14_u8).prop_map(key));
    let direction = prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)];
    let shape = prop_oneof![
        2 => Just(Shape::Records),
        1 => Just(Shape::KeysOnly),
        1 => Just(Shape::CountOnly)
    ];
    let way = prop_oneof![Just(Way::Kept), Just(Way::History)];
    let listing = (bound(), bound(), direction, shape, 1..5_u32, 0..400_u32, way);
    let listing = listing.prop_map(|(from, to, direction, shape, max_keys, max_bytes, way)| Listing {
        wanted: PageWanted {
            range: KeyRange {
                from: from.unwrap_or_default(),
                to,
            },
            direction,
            shape,
            max_keys,
            max_bytes,
            at: PageAt::Held,
        },
        way,
    });
    let step = prop_oneof![
        6 => (0..12_u8, 0..60_u8).prop_map(|(key, bytes)| Step::Put(key, bytes)),
        2 => (0..12_u8).prop_map(Step::Delete),
        1 => Just(Step::Freeze),
        2 => Just(Step::Drain),
        2 => listing.prop_map(Step::List),
    ];
    proptest::collection::vec(step, 0..60)
}

/// A listing under way, and what it has told so far.
struct Open {
    number: PageNumber,
    at: Revision,
    wanted: PageWanted,
    way: Way,
    told: Vec<(Bytes, Bytes, Revision)>,
    count: u64,
    is_over: bool,
}

impl Open {
    fn take(&mut self, page: Page) {
        assert_eq!(page.at, self.at, "all pages are of one state");
        let limit = u64::from(self.wanted.max_keys);
        assert!(
            page.count <= limit && (page.count > 0 || page.last.is_none()),
            "{page:?}"
        );
        self.count += page.count;
        let told = page.kvs.into_iter();
        self.told
            .extend(told.map(|kv| (kv.key, kv.record.value, kv.record.mod_revision)));
        match (page.last, self.wanted.direction) {
            (None, _) => self.is_over = true,
            (Some(last), Direction::Ascending) => {
                self.wanted.range.from = [&last[..], &[0]].concat().into();
            }
            (Some(last), Direction::Descending) => self.wanted.range.to = Some(last),
        }
    }

    fn expected(&self, whole: &KeyRange, state: &Map) -> Vec<(Bytes, Bytes, Revision)> {
        let inside = state.iter().filter(|(key, _)| whole.contains(key));
        let mut expected: Vec<_> = inside
            .map(|(key, (value, revision))| match self.wanted.shape {
                Shape::Records => (key.clone(), value.clone(), *revision),
                Shape::KeysOnly | Shape::CountOnly => (key.clone(), Bytes::new(), *revision),
            })
            .collect();
        if self.wanted.direction == Direction::Descending {
            expected.reverse();
        }
        expected
    }
}

/// A store with its listings.
struct World<B: Base> {
    applier: Applier<B>,
    reader: PageReader<B::View>,
    map: Map,
    /// The map at each revision.
    then: BTreeMap<Revision, Map>,
    open: Vec<(Open, KeyRange)>,
}

impl<B: Base> World<B> {
    fn new(base: B, overlay_bytes: u64) -> World<B> {
        World {
            applier: Applier::over(base, overlay_bytes),
            reader: PageReader::default(),
            map: Map::new(),
            then: BTreeMap::from([(Revision(1), Map::new())]),
            open: Vec::new(),
        }
    }

    fn run(&mut self, now_ms: u64, step: &Step) {
        match step {
            Step::Put(number, bytes) => {
                let (key, value) = (key(*number), vec![*number; usize::from(*bytes)]);
                self.applier
                    .apply(now_ms, &put(&key, &value, Condition::Always, None));
                self.map
                    .insert(key, (value.into(), self.applier.store.revision()));
            }
            Step::Delete(number) => {
                self.applier
                    .apply(now_ms, &delete(&key(*number), Condition::Always));
                self.map.remove(&key(*number));
            }
            Step::Freeze => self.applier.freeze(),
            Step::Drain => self.applier.drain(),
            Step::List(listing) => self.begin(listing),
        }
        self.then.insert(self.applier.store.revision(), self.map.clone());
    }

    fn begin(&mut self, listing: &Listing) {
        let mut open = Open {
            number: PageNumber(self.open.len() as u64),
            at: self.applier.store.revision(),
            wanted: listing.wanted.clone(),
            way: listing.way,
            told: Vec::new(),
            count: 0,
            is_over: false,
        };
        let pinned = PageSource::Memory(Box::new(self.applier.store.pin()));
        let page = self.read(pinned, &open, Keep::ForMore);
        open.take(page);
        self.open.push((open, listing.wanted.range.clone()));
    }

    fn read(&mut self, source: PageSource, open: &Open, keep: Keep) -> Page {
        let base = self.applier.base().clone();
        let state = self.reader.open(&base, source).expect("the base reads");
        let state = state.expect("nothing drains between the two");
        let history = self.applier.history();
        let page = (open.number, keep);
        match self.reader.read(history, state, page, &open.wanted) {
            Ok(PageOutcome::Read(page)) => page,
            other => panic!("{other:?}"),
        }
    }

    /// The next page of each listing.
    fn go_on(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        for (listing, _) in open.iter_mut().filter(|(listing, _)| !listing.is_over) {
            let source = match listing.way {
                Way::Kept => {
                    listing.wanted.at = PageAt::Held;
                    PageSource::Kept(listing.number)
                }
                Way::History => {
                    listing.wanted.at = PageAt::Revision(listing.at);
                    PageSource::Memory(Box::new(self.applier.store.pin()))
                }
            };
            let page = self.read(source, listing, Keep::Nothing);
            listing.take(page);
        }
        self.open = open;
    }

    fn finish(mut self) {
        while self.open.iter().any(|(listing, _)| !listing.is_over) {
            self.go_on();
        }
        for (listing, whole) in &self.open {
            let expected = listing.expected(whole, &self.then[&listing.at]);
            assert_eq!(listing.count, expected.len() as u64, "{:?}", listing.wanted);
            if listing.wanted.shape != Shape::CountOnly {
                assert_eq!(listing.told, expected, "{:?}", listing.wanted);
            }
        }
        let kept: Vec<_> = self.open.iter().map(|(listing, _)| listing.number).collect();
        kept.into_iter().for_each(|number| self.reader.release(number));
        assert_eq!(self.reader.kept(), 0);
    }
}

fn run_all<B: Base>(base: B, overlay_bytes: u64, steps: &[Step]) {
    let mut world = World::new(base, overlay_bytes);
    for (number, step) in steps.iter().enumerate() {
        world.go_on();
        world.run(number as u64, step);
    }
    world.finish();
}

proptest! {
    #[test]
    fn pages_over_the_twin_tell_one_state(steps in steps(), overlay_bytes in 0..3000u64) {
        run_all(TwinBase::new(), overlay_bytes, &steps);
    }

    #[test]
    fn what_was_at_a_log_time_is_the_state_of_the_last_batch_until_then(
        steps in steps(),
        overlay_bytes in 0..3000u64,
        ends in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let mut world = World::new(TwinBase::new(), overlay_bytes);
        let mut at_time = Vec::new();
        for (number, (step, ends_here)) in steps.iter().zip(ends).enumerate() {
            // Several steps may share a log time.
            let now_ms = number as u64 / 2;
            world.run(now_ms, step);
            if ends_here {
                // The process starts again, from what was drained and the log.
                world.applier.restart();
            }
            at_time.resize(now_ms as usize + 1, Revision(1));
            at_time[now_ms as usize] = world.applier.store.revision();
        }
        let view = world.applier.history().view();
        let current = world.applier.store.revision();
        for (now_ms, expected) in at_time.iter().enumerate() {
            let found = view.revision_at(now_ms as u64 * 1000 + 999, current).expect("all is kept");
            prop_assert_eq!(found, *expected, "at {} ms", now_ms);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pages_over_the_engine_tell_one_state(steps in steps(), overlay_bytes in 0..3000u64) {
        let directory = tempfile::tempdir().expect("a directory");
        let base = LsmBase::open(directory.path(), &BaseConfig::default()).expect("an empty base");
        run_all(base, overlay_bytes, &steps);
    }
}

#[test]
fn log_time_before_what_is_kept_is_refused() {
    let mut applier = Applier::with_overlay(0);
    for number in 0..30 {
        applier.put(number, "k", None);
        if number % 10 == 9 {
            applier.freeze();
            applier.drain();
        }
    }
    let wanted = |at| PageWanted {
        range: KeyRange::all(),
        direction: Direction::Ascending,
        shape: Shape::Records,
        max_keys: 1,
        max_bytes: 100,
        at,
    };
    let read = |applier: &Applier, at| read_page(&applier.hold(), applier.history(), &wanted(at));
    assert_eq!(
        read(&applier, PageAt::LogTime(5000)).expect("kept").at,
        Revision(7)
    );
    applier.history().trim(Revision(12)).expect("a trim");
    assert_eq!(
        read(&applier, PageAt::LogTime(10_000)).expect("kept").at,
        Revision(12)
    );
    for at in [PageAt::LogTime(9_999), PageAt::Revision(Revision(11))] {
        let refused = read(&applier, at);
        assert!(
            matches!(
                refused,
                Err(HistoryError::Compacted {
                    oldest_kept: Revision(12)
                })
            ),
            "{refused:?}"
        );
    }
}
