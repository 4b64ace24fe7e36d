//! History that is given up within a generation: what can not be read any more gets no before-image, all else is read as ever.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{Command, Condition, KeyValue, Revision, Shape};

use super::rig::{Applier, delete, put};
use crate::store::history::{Direction, KeyRange};
use crate::store::{PageAt, PageWanted, read_page};

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn give_up(applier: &mut Applier, oldest: Revision) {
    applier.apply(0, &Command::KeepHistoryFrom { oldest });
    applier
        .history()
        .trim(applier.store.oldest_kept())
        .expect("a trim");
}

fn records(applier: &Applier, at: Revision, direction: Direction) -> Vec<KeyValue> {
    let wanted = PageWanted {
        range: KeyRange::all(),
        direction,
        shape: Shape::Records,
        max_keys: 100,
        max_bytes: 100_000,
        at: PageAt::Revision(at),
    };
    let page = read_page(&applier.hold(), applier.history(), &wanted).expect("a kept revision");
    page.kvs
}

fn image_bytes(applier: &Applier) -> u64 {
    let generations = applier.history().statistics().generations;
    generations.iter().map(|generation| generation.image_bytes).sum()
}

#[test]
fn what_is_deleted_and_given_up_is_not_written_again() {
    for (oldest, images_at_most) in [(Revision(1), 60_000), (Revision(u64::MAX), 15_000)] {
        let mut applier = Applier::new();
        for key in KEYS {
            applier.apply(0, &put(key.as_bytes(), &[b'x'; 10_000], Condition::Always, None));
        }
        applier.freeze();
        applier.drain();
        let before = image_bytes(&applier);
        for key in KEYS {
            applier.apply(0, &delete(key.as_bytes(), Condition::Always));
        }
        assert_eq!(applier.store.deleted_bytes(), 50_000);
        give_up(&mut applier, oldest);
        let expected = [10_000, 50_000][usize::from(oldest == Revision(1))];
        assert_eq!(
            applier.store.deleted_bytes(),
            expected,
            "of the last change, or of all"
        );
        applier.freeze();
        applier.drain();
        let images = image_bytes(&applier) - before;
        assert_eq!(images > 50_000, oldest == Revision(1), "{images} bytes");
        assert!(images < images_at_most, "{images} bytes");
        applier.restart();
        assert_eq!(applier.keys(), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn each_revision_that_is_kept_reads_as_it_was() {
    for seed in 0..300 {
        live(seed);
    }
}

fn live(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut applier = Applier::with_overlay([600, 1 << 30][random.usize(..2)]);
    let mut states: BTreeMap<Revision, Vec<KeyValue>> = BTreeMap::new();
    for _ in 0..60 {
        let key = KEYS[random.usize(..KEYS.len())].as_bytes();
        match random.u8(..12) {
            0..5 => {
                let value = vec![b'v'; random.usize(..30)];
                applier.apply(0, &put(key, &value, Condition::Always, None));
            }
            5..8 => {
                applier.apply(0, &delete(key, Condition::Always));
            }
            8 => {
                let oldest = random.u64(applier.store.oldest_kept().0..=applier.store.revision().0 + 1);
                give_up(&mut applier, Revision(oldest));
            }
            9 => applier.freeze(),
            10 => applier.drain_with_images((random.u8(..3) == 0).then_some(0)),
            _ => applier.drain(),
        }
        let revision = applier.store.revision();
        states.entry(revision).or_insert_with(|| {
            let state = applier.hold();
            let record = |item: Result<(Bytes, crate::store::Stored), _>| {
                let (key, stored) = item.expect("a record");
                let record = stored.record().expect("resolved");
                KeyValue { key, record }
            };
            state.range(&[], None).map(record).collect()
        });
        let oldest_kept = applier.store.oldest_kept().max(applier.history().oldest_kept());
        for (at, expected) in states.range(oldest_kept..) {
            let told = records(&applier, *at, Direction::Ascending);
            assert_eq!(&told, expected, "seed {seed}: at {at} of {revision}");
            let mut back = records(&applier, *at, Direction::Descending);
            back.reverse();
            assert_eq!(&back, expected, "seed {seed}: backwards, at {at} of {revision}");
        }
    }
}
