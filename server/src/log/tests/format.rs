//! The bytes of format version 1 do not change, and what contradicts itself under right checksums is refused.

use raftkv_raft::EntryId;

use super::model::*;
use crate::disk::{DurableImage, SimulatedDisk};
use crate::log::batch::{BatchBuffer, body_bytes};
use crate::log::format::{BATCH_HEADER_BYTES, BatchHeader, Follows, Origin, SegmentHeader};
use crate::log::outline::Outline;
use crate::log::replay::Replay;

const GOLDEN: &[u8] = include_bytes!("version_1.raftlog");

/// A segment with each kind of record.
fn golden_log() -> (SimulatedDisk, Model) {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    log.append(&[model.commands(2, 70), model.conflict(3)]).unwrap();
    log.sync().unwrap();
    let next = configuration(id(2, 4));
    log.append(&[model.write(hard_state(2, 3), None, vec![next])])
        .unwrap();
    log.mark().unwrap();
    (disk, model)
}

#[test]
fn version_1_is_written_as_ever() {
    let (disk, _) = golden_log();
    let image = disk.durable_image();
    let written = &image.files["0000000000000001.raftlog"];
    let used = &written[..GOLDEN.len()];
    let differs = used.iter().zip(GOLDEN).position(|(now, then)| now != then);
    assert_eq!(differs, None, "first differing byte");
    assert!(written[GOLDEN.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn version_1_is_read_for_ever() {
    let mut bytes = GOLDEN.to_vec();
    bytes.resize(4096, 0);
    let files = [("0000000000000001.raftlog".to_owned(), bytes)].into();
    let disk = SimulatedDisk::with_image(1, DurableImage { files });
    expect(&open(&disk), &golden_log().1);
}

/// A log of one entry takes in a batch of one more entry under this hard state.
fn replayed(last: EntryId, entry: EntryId, term: u64, commit: u64) -> Result<(), String> {
    let segment = SegmentHeader {
        number: 1,
        owner: OWNER,
        origin: Origin::ZeroFilled,
        first_batch: 5,
        synced_through: 4,
        chain: 9,
        base: last,
        last_before: Some(last),
        hard_state: hard_state(last.term.0, last.index.get()),
        follows: Follows::Former,
    };
    let mut model = Model::new();
    let write = model.write(hard_state(term, commit), None, vec![command(entry, 8)]);
    let mut buffer = BatchBuffer::default();
    let before = EntryId {
        index: entry.index.previous().unwrap(),
        ..entry
    };
    buffer.fill(
        std::slice::from_ref(&write),
        &mut Outline::new(before, Some(before)),
    );
    let header = BatchHeader {
        generation: 1,
        number: 5,
        synced_through: 4,
        body_bytes: body_bytes(&[write]).unwrap(),
        records: 0,
        chain: 0,
        hard_state: hard_state(term, commit),
    };
    let (bytes, _) = buffer.seal(&header, segment.chain);
    let header = BatchHeader::decode(bytes).unwrap();
    assert!(header.is_intact(bytes, segment.chain) && !header.is_intact(bytes, 8));
    assert!(bytes.len() > BATCH_HEADER_BYTES);
    Replay::new(&segment).take(1, 512, &header, bytes)
}

#[test]
fn p04_a_log_that_contradicts_itself_is_refused() {
    replayed(id(3, 10), id(3, 11), 3, 10).unwrap();
    replayed(id(3, 10), id(5, 11), 6, 11).unwrap();
    let refusals = [
        (replayed(id(3, 10), id(3, 11), 3, 12), "beyond the last entry"),
        (replayed(id(3, 10), id(4, 11), 3, 10), "its record is missing"),
        (replayed(id(3, 10), id(3, 12), 3, 10), "follows entry"),
        (replayed(id(3, 10), id(2, 11), 3, 10), "follows entry"),
        (replayed(id(3, 10), id(3, 11), 2, 10), "the term falls"),
    ];
    for (refused, why) in refusals {
        let what = refused.unwrap_err();
        assert!(what.contains(why), "{what} should say {why}");
    }
}
