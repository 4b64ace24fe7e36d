//! Single situations: much of one key, large events, limits, files that are missing.

use bytes::Bytes;
use raftkv_protocol::Revision;

use crate::disk::{Disk, SimulatedDisk};
use crate::store::history::{EventBuffer, History, HistoryError, HistoryLimits, KeyRange, store_of};
use crate::store::{GenerationNumber, Lineage, Slot, StoreError, StoreNumber, Stored};

pub(super) const STORE: StoreNumber = StoreNumber(1);

pub(super) fn open<D: Disk>(disk: &D, through: u64) -> Result<History<D>, StoreError> {
    let through = (through > 0).then_some(GenerationNumber(through));
    History::open(disk.clone(), STORE, through, Revision(1))
}

pub(super) fn live(value: &[u8], revision: u64) -> Slot {
    Slot::Live(Stored {
        value: Bytes::copy_from_slice(value),
        mod_revision: Revision(revision),
        lineage: Lineage::Known {
            create_revision: Revision(revision),
            version: 1,
        },
        deadline_us: None,
        lease: None,
    })
}

/// One batch: `events` in a row, the first at `revision`; log time is the last revision in milliseconds.
pub(super) fn push<D: Disk>(
    history: &History<D>,
    generation: u64,
    revision: u64,
    events: &[(&[u8], &[u8])],
) -> u64 {
    let mut buffer = EventBuffer::default();
    let mut next = revision;
    for (key, value) in events {
        buffer.push(key, live(value, next).borrowed());
        next += 1;
    }
    assert_eq!(buffer.len(), events.len());
    let block = buffer
        .take(GenerationNumber(generation), (next - 1) * 1000)
        .unwrap();
    assert!(buffer.is_empty());
    history.push(block);
    next
}

/// Seals the generation and writes images that say that none of these keys was there.
pub(super) fn drain<D: Disk>(history: &History<D>, generation: u64, changed: &[(&[u8], u64)]) {
    let generation = GenerationNumber(generation);
    history.seal(generation).unwrap();
    let mut writer = history.image_writer(generation, None).unwrap();
    for (key, first) in changed {
        writer.push(key, Revision(*first), None).unwrap();
    }
    writer.finish().unwrap();
}

fn value_at<D: Disk>(history: &History<D>, key: &[u8], at: u64) -> Option<Bytes> {
    let slot = history.view().newest_event(key, Revision(at)).unwrap()?;
    Some(slot.live().unwrap().value.clone())
}

#[test]
fn a_key_that_fills_many_index_pages_is_found_at_each_revision() {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    let mut revision = 2u64;
    while revision < 4000 {
        let value = revision.to_le_bytes();
        revision = push(&history, 1, revision, &[(b"hot", &value), (b"cold", b"")]);
        if revision.is_multiple_of(64) {
            history.write_pending().unwrap();
        }
    }
    let check = |history: &History<SimulatedDisk>| {
        for at in (2..revision).step_by(37) {
            let expected = (at / 2 * 2).to_le_bytes();
            assert_eq!(value_at(history, b"hot", at).unwrap(), expected[..]);
        }
        assert_eq!(value_at(history, b"hot", 1), None);
        assert_eq!(value_at(history, b"none", 4000), None);
    };
    check(&history);
    drain(&history, 1, &[(b"cold", 3), (b"hot", 2)]);
    check(&history);
    check(&open(&disk, 1).unwrap());
}

/// As a recovery leaves it: those in between belong to nobody.
#[test]
fn revisions_leap_over_a_generation_without_events() {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    push(&history, 1, 2, &[(b"a", b"old"), (b"b", b"old")]);
    drain(&history, 1, &[(b"a", 2), (b"b", 3)]);
    history.leap(GenerationNumber(2), Revision(1003)).unwrap();
    let now = history.view().revision_at(u64::MAX, Revision(1003)).unwrap();
    assert_eq!(now, Revision(1003));
    push(&history, 3, 1004, &[(b"a", b"new")]);
    let check = |history: &History<SimulatedDisk>| {
        for at in [3, 4, 500, 1003] {
            assert_eq!(value_at(history, b"a", at).unwrap(), "old", "at {at}");
        }
        assert_eq!(value_at(history, b"a", 1004).unwrap(), "new");
        let leapt = [2, 3, 4, 500, 1003, 1004, 1005].map(|at| history.view().leapt(Revision(at)).0);
        assert_eq!(leapt, [2, 3, 1003, 1003, 1003, 1004, 1005]);
        for (from, expected) in [(2, &[2, 3, 1004][..]), (4, &[1004]), (600, &[1004])] {
            let events = history
                .view()
                .events(Revision(from), Revision(2000), KeyRange::all());
            let found: Vec<u64> = events.unwrap().map(|event| event.unwrap().revision.0).collect();
            assert_eq!(found, expected, "from {from}");
        }
    };
    check(&history);
    drain(&history, 3, &[(b"a", 1004)]);
    check(&history);
    check(&open(&disk, 3).unwrap());
    // A crash before the base said that the leap is part of it: then it never was.
    let history = open(&disk, 1).unwrap();
    push(&history, 2, 4, &[(b"a", b"next")]);
    assert_eq!(value_at(&history, b"a", 4).unwrap(), "next");
}

#[test]
fn r47_a_look_at_each_file_finds_what_rotted_since_it_was_finished() {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    push(&history, 1, 2, &[(b"a", &[7; 3000]), (b"b", b"x")]);
    drain(&history, 1, &[(b"a", 2), (b"b", 3)]);
    push(&history, 2, 4, &[(b"a", b"y")]);
    let check = || {
        let files = history.view().files(GenerationNumber(u64::MAX));
        let damaged = files.iter().filter(|file| file.verify().is_err());
        (files.len(), damaged.map(|file| file.name()).collect::<Vec<_>>())
    };
    assert_eq!(check(), (2, Vec::new()), "events and images of what was drained");
    let events = history.view().files(GenerationNumber(1))[0].name();
    disk.flip_bit(&events, 2000, 3).unwrap();
    assert_eq!(check(), (2, vec![events]));
}

#[test]
fn large_and_small_events_come_in_order_from_any_revision() {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    let large = vec![7; 200_000];
    let mut revision = 2;
    for _ in 0..30 {
        revision = push(
            &history,
            1,
            revision,
            &[(b"a", b"x"), (b"b", &large), (b"c", b"")],
        );
        if revision == 50 {
            history.write_pending().unwrap();
        }
    }
    let check = |history: &History<SimulatedDisk>| {
        for from in 2..revision {
            let events = history
                .view()
                .events(Revision(from), Revision(70), KeyRange::all());
            let found: Vec<u64> = events.unwrap().map(|event| event.unwrap().revision.0).collect();
            assert_eq!(found, (from..=70).collect::<Vec<_>>());
        }
        let mut of_one = history
            .view()
            .events(Revision(1), Revision(1000), KeyRange::prefix(b"b"))
            .unwrap();
        assert!(of_one.all(|event| event.unwrap().slot.live().unwrap().value == large));
    };
    check(&history);
    history.write_pending().unwrap();
    assert_eq!(history.pending_bytes(), 0);
    check(&history);
    drain(&history, 1, &[(b"a", 2), (b"b", 3), (b"c", 4)]);
    check(&open(&disk, 1).unwrap());
}

/// Three drained generations of ten events each, revisions 2 to 31, and a fourth that is not.
fn four_generations(disk: &SimulatedDisk) -> History<SimulatedDisk> {
    let history = open(disk, 0).unwrap();
    for generation in 1..=4u64 {
        let first = generation * 10 - 8;
        push(&history, generation, first, &[(&b"key"[..], &b"value"[..]); 10]);
        if generation < 4 {
            drain(&history, generation, &[(b"key", first)]);
        }
    }
    history
}

#[test]
fn limits_tell_what_could_go() {
    let disk = SimulatedDisk::new(1);
    let history = four_generations(&disk);
    let endless = HistoryLimits {
        max_age_us: u64::MAX,
        max_events: u64::MAX,
        max_bytes: u64::MAX,
    };
    let oldest = |limits, now| history.oldest_to_keep(limits, now).map(|revision| revision.0);
    assert_eq!(oldest(endless, 41_000), None);
    let of_events = |max_events| HistoryLimits {
        max_events,
        ..endless
    };
    assert_eq!(oldest(of_events(40), 41_000), None);
    assert_eq!(oldest(of_events(39), 41_000), Some(12));
    assert_eq!(
        oldest(of_events(0), 41_000),
        Some(22),
        "the newest drained one stays"
    );
    let of_age = |max_age_us| HistoryLimits {
        max_age_us,
        ..endless
    };
    assert_eq!(oldest(of_age(10_000), 21_000), None);
    assert_eq!(oldest(of_age(10_000), 21_001), Some(12));
    let bytes = history.statistics().bytes;
    let of_bytes = |max_bytes| HistoryLimits { max_bytes, ..endless };
    assert_eq!(oldest(of_bytes(bytes), 41_000), None);
    assert_eq!(oldest(of_bytes(bytes - 1), 41_000), Some(12));
}

#[test]
fn a_trim_drops_whole_generations_and_readers_go_on() {
    let disk = SimulatedDisk::new(1);
    let history = four_generations(&disk);
    let bytes = history.statistics().bytes;
    let reader = history.view();
    history.trim(Revision(12)).unwrap();
    let files = disk.list().unwrap();
    assert!(!files.iter().any(|name| name.contains("0001.")), "{files:?}");
    let statistics = history.statistics();
    assert_eq!((statistics.oldest_kept.0, statistics.generations.len()), (12, 3));
    assert!(statistics.bytes < bytes && statistics.events == 30);
    assert_eq!(
        statistics.generations[0].revisions,
        Some((Revision(12), Revision(21)))
    );
    let refused = history.view().events(Revision(11), Revision(41), KeyRange::all());
    assert!(matches!(refused.err(), Some(HistoryError::Compacted { oldest_kept }) if oldest_kept.0 == 12));
    let mut held = reader.events(Revision(2), Revision(41), KeyRange::all()).unwrap();
    assert!(held.all(|event| event.is_ok()), "a reader goes on");
    history.trim(Revision(1000)).unwrap();
    assert_eq!(history.statistics().generations.len(), 2);
    assert!(history.trim(Revision(1)).is_ok() && history.oldest_kept().0 == 1000);
}

#[test]
fn missing_files_are_refused_but_for_what_a_trim_left() {
    let disk = SimulatedDisk::new(1);
    let history = four_generations(&disk);
    drop(history);
    let without = |names: &[&str]| {
        let mut image = disk.durable_image();
        for name in names {
            assert!(
                image
                    .files
                    .remove(&format!("0001-000000000000000{name}"))
                    .is_some()
            );
        }
        let disk = SimulatedDisk::with_image(1, image);
        open(&disk, 3).map(|history| (history.oldest_kept().0, disk.list().unwrap().len()))
    };
    assert_eq!(without(&[]).unwrap(), (1, 6));
    assert_eq!(
        without(&["1.events"]).unwrap(),
        (11, 4),
        "an interrupted trim is ended"
    );
    assert_eq!(without(&["1.events", "1.images"]).unwrap(), (11, 4));
    for names in [
        &["1.images"][..],
        &["2.events"],
        &["2.images"],
        &["2.events", "2.images"],
        &["3.events"],
        &["3.images"],
        &["3.events", "3.images"],
    ] {
        let error = without(names).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{names:?}: {error}");
        assert!(error.to_string().contains("is missing"), "{names:?}: {error}");
    }
}

#[test]
fn generations_behind_the_base_are_deleted_and_other_stores_left_alone() {
    let disk = SimulatedDisk::new(1);
    drop(four_generations(&disk));
    disk.create("0002-0000000000000001.events").unwrap();
    disk.create("0000000000000001.raftlog").unwrap();
    let history = open(&disk, 2).unwrap();
    let files = disk.list().unwrap();
    assert_eq!(
        files.iter().filter(|name| store_of(name) == Some(STORE)).count(),
        4
    );
    assert_eq!(files.len(), 6);
    push(&history, 3, 22, &[(b"key", b"again")]);
    drain(&history, 3, &[(b"key", 22)]);
    assert_eq!(value_at(&history, b"key", 22).unwrap(), "again");
    assert_eq!(open(&disk, 3).unwrap().statistics().events, 21);
}

#[test]
fn a_generation_without_changes_is_a_generation() {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    drain(&history, 1, &[]);
    push(&history, 3, 2, &[(b"key", b"value")]);
    drain(&history, 2, &[]);
    drain(&history, 3, &[(b"key", 2)]);
    let history = open(&disk, 3).unwrap();
    let statistics = history.statistics();
    assert_eq!(statistics.generations[1].revisions, None);
    assert_eq!(
        statistics.generations[2].revisions,
        Some((Revision(2), Revision(2)))
    );
    history.trim(Revision(2)).unwrap();
    assert_eq!(history.statistics().generations.len(), 1);
    assert_eq!(open(&disk, 3).unwrap().oldest_kept(), Revision(1));
}

#[test]
#[should_panic(expected = "is not the next to drain")]
fn images_before_the_events_are_sealed_are_refused() {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    push(&history, 1, 2, &[(b"key", b"value")]);
    let _ = history.image_writer(GenerationNumber(1), None);
}

#[test]
#[should_panic(expected = "a batch of events from")]
fn a_gap_between_revisions_is_refused() {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    push(&history, 1, 2, &[(b"key", b"value")]);
    push(&history, 1, 4, &[(b"key", b"value")]);
}

/// Readers beside everything that writes, on the real disk: what was pushed before a revision was told is there.
#[test]
fn readers_go_on_beside_writes_seals_drains_and_trims() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let directory = tempfile::tempdir().unwrap();
    let disk = crate::disk::RealDisk::open(directory.path()).unwrap();
    let history = open(&disk, 0).unwrap();
    let (current, is_over) = (AtomicU64::new(1), AtomicBool::new(false));
    let read = || {
        let mut rounds = 0;
        while !is_over.load(Ordering::Acquire) || rounds == 0 {
            let to = current.load(Ordering::Acquire);
            let view = history.view();
            let from = view.oldest_kept().0 + 1;
            let events = view
                .events(Revision(from), Revision(to), KeyRange::all())
                .unwrap();
            let found: Vec<u64> = events.map(|event| event.unwrap().revision.0).collect();
            assert_eq!(found, (from..=to).collect::<Vec<_>>());
            for at in from..=to {
                let newest = view.newest_event(b"key", Revision(at)).unwrap().unwrap();
                assert_eq!(newest.mod_revision(), Revision(at));
            }
            rounds += 1;
        }
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        for generation in 1..=30u64 {
            let first = current.load(Ordering::Acquire) + 1;
            for batch in 0..10 {
                let next = push(
                    &history,
                    generation,
                    first + batch * 5,
                    &[(&b"key"[..], &b"value"[..]); 5],
                );
                current.store(next - 1, Ordering::Release);
                if batch % 3 == 0 {
                    history.write_pending().unwrap();
                }
            }
            drain(&history, generation, &[(b"key", first)]);
            history.trim(Revision(first.saturating_sub(100).max(1))).unwrap();
        }
        is_over.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert!(history.statistics().generations.len() < 5);
}
