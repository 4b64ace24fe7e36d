//! Figures on the real disk: `cargo test --release -p raftkv-server --lib history::tests::figures -- --ignored --nocapture`.

use std::time::Instant;

use raftkv_protocol::Revision;

use super::basics::open;
use crate::disk::RealDisk;
use crate::store::history::{EventBuffer, History, KeyRange};
use crate::store::{GenerationNumber, Lineage, SlotRef};

const EVENTS: u64 = 1_000_000;
const BATCH: u64 = 100;

fn key_of(revision: u64) -> [u8; 16] {
    let mut key = *b"key-0000-0000000";
    key[8..].copy_from_slice(&revision.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

struct Took {
    label: &'static str,
    nanoseconds: f64,
}

fn push_all(history: &History<RealDisk>, value_bytes: usize) -> [Took; 3] {
    let (mut buffer, value) = (EventBuffer::default(), vec![7; value_bytes]);
    let [mut pushing, mut handing, mut writing] = [0.0; 3];
    let mut revision = 1;
    while revision <= EVENTS {
        let begun = Instant::now();
        for _ in 0..BATCH {
            revision += 1;
            let lineage = Lineage::Over {
                first: Revision(revision),
                writes: 1,
            };
            let slot = SlotRef::Live {
                value: &value,
                mod_revision: Revision(revision),
                lineage,
                deadline_us: None,
                lease: None,
            };
            buffer.push(&key_of(revision), slot);
        }
        pushing += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        history.push(buffer.take(GenerationNumber(1), revision).unwrap());
        handing += begun.elapsed().as_secs_f64();
        if revision % 1000 == 1 {
            let begun = Instant::now();
            history.write_pending().unwrap();
            writing += begun.elapsed().as_secs_f64();
        }
    }
    [
        ("push", pushing),
        ("take and hand over", handing),
        ("write and index", writing),
    ]
    .map(|(label, seconds)| Took {
        label,
        nanoseconds: seconds * 1e9 / EVENTS as f64,
    })
}

fn drain(history: &History<RealDisk>) {
    let begun = Instant::now();
    history.seal(GenerationNumber(1)).unwrap();
    eprintln!("seal, synced: {:?}", begun.elapsed());
    let mut keys: Vec<_> = (2..=EVENTS + 1)
        .map(|revision| (key_of(revision), revision))
        .collect();
    keys.sort_unstable();
    let begun = Instant::now();
    let mut writer = history.image_writer(GenerationNumber(1), None).unwrap();
    for (key, revision) in &keys {
        writer.push(key, Revision(*revision), None).unwrap();
    }
    writer.finish().unwrap();
    eprintln!("images of absent keys, synced: {:?}", begun.elapsed());
}

fn read(history: &History<RealDisk>, label: &str) {
    let view = history.view();
    let begun = Instant::now();
    for number in 0..100_000 {
        let revision = 2 + number * 7919 % EVENTS;
        let found = view.newest_event(&key_of(revision), Revision(revision)).unwrap();
        assert_eq!(found.unwrap().mod_revision(), Revision(revision));
    }
    eprintln!("newest event of a key, {label}: {:?}", begun.elapsed() / 100_000);
    let begun = Instant::now();
    let events = view
        .events(Revision(1), Revision(EVENTS), KeyRange::all())
        .unwrap();
    let count = events.inspect(|event| assert!(event.is_ok())).count() as u32;
    eprintln!("each event in order, {label}: {:?}", begun.elapsed() / count);
}

#[test]
#[ignore = "figures"]
fn figures() {
    for value_bytes in [16, 256] {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let history = open(&disk, 0).unwrap();
        eprintln!("values of {value_bytes} bytes, {EVENTS} events");
        for took in push_all(&history, value_bytes) {
            eprintln!("{}: {:.0} ns an event", took.label, took.nanoseconds);
        }
        read(&history, "not sealed");
        drain(&history);
        let statistics = history.statistics();
        eprintln!("{} bytes an event in all", statistics.bytes / EVENTS);
        drop(history);
        let begun = Instant::now();
        let history = open(&disk, 1).unwrap();
        eprintln!("open: {:?}", begun.elapsed());
        read(&history, "sealed");
    }
}
