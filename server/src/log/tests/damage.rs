//! Damage is refused, whatever it is; only what was never acknowledged is cut.

use std::ops::ControlFlow;

use raftkv_protocol::NodeId;

use super::model::*;
use crate::disk::{Disk, DiskFile, DurableImage, SimulatedDisk, UnsyncedSectors, WriteFault};
use crate::log::{Log, LogError, LogOwner};

/// A log over several segments, everything synced and proven.
fn proven_log(seed: u64) -> (SimulatedDisk, Model) {
    let disk = SimulatedDisk::new(seed);
    let mut model = Model::new();
    let mut log = create(&disk);
    for round in 0..9 {
        log.append(&[model.commands(2, 40 * round)]).unwrap();
        log.sync().unwrap();
    }
    log.append(&[model.conflict(14), model.commands(1, 700)]).unwrap();
    log.mark().unwrap();
    (disk, model)
}

fn segments(image: &DurableImage) -> Vec<String> {
    image
        .files
        .keys()
        .filter(|name| name.ends_with(".raftlog"))
        .cloned()
        .collect()
}

fn opened(image: &DurableImage) -> Result<(), LogError> {
    Log::open(SimulatedDisk::with_image(1, image.clone()), config(), NODE).map(|_| ())
}

/// Opens an image in which something rotted: refused, or harmless.
fn expect_no_other_log(image: DurableImage, model: &Model, what: &str) {
    let disk = SimulatedDisk::with_image(1, image);
    match Log::open(disk, config(), NODE) {
        Ok(Some(recovered)) => expect(&recovered, model),
        Ok(None) => panic!("{what}: no log"),
        Err(LogError::Damaged { .. } | LogError::Foreign { .. } | LogError::NewerFormat { .. }) => {}
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn d04_a_flipped_bit_anywhere_is_detected_or_harmless() {
    let (disk, model) = proven_log(1);
    let image = disk.durable_image();
    let segments = segments(&image);
    assert!(segments.len() > 1);
    let mut refused = 0;
    for name in segments {
        for at in 0..image.files[&name].len() {
            let mut rotten = image.clone();
            rotten.files.get_mut(&name).unwrap()[at] ^= 1 << (at % 8);
            refused += usize::from(opened(&rotten).is_err());
            expect_no_other_log(rotten, &model, &format!("{name} byte {at}"));
        }
    }
    assert!(refused > 3000, "{refused}");
}

#[test]
fn r47_a_look_at_all_entries_finds_what_rotted_since_the_start() {
    let (disk, _) = proven_log(2);
    let log = open(&disk).log;
    let check = || {
        let mut bytes = 0;
        let outcome = log.reader().check(&mut |more| {
            bytes += more;
            ControlFlow::Continue(())
        });
        (outcome, bytes)
    };
    let (sound, bytes) = check();
    assert!(sound.is_ok() && bytes > 2000, "{sound:?}, {bytes} bytes");
    let oldest = segments(&disk.durable_image()).remove(0);
    disk.flip_bit(&oldest, 512 + 100, 3).unwrap();
    let (rotten, _) = check();
    assert!(
        matches!(&rotten, Err(LogError::Damaged { file, .. }) if *file == oldest),
        "{rotten:?} of {oldest}"
    );
}

/// A rotten bit in a proven batch of the newest segment: damage, never a torn tail.
pub(super) fn rot_is_refused(seed: u64) {
    let (disk, _) = proven_log(seed);
    let image = disk.durable_image();
    let newest = segments(&image).pop().unwrap();
    disk.flip_bit(&newest, 512 + 100, 3).unwrap();
    let refused = Log::open(disk, config(), NODE).map(|_| ());
    assert!(matches!(refused, Err(LogError::Damaged { .. })), "{refused:?}");
}

#[test]
fn r41_rot_below_the_proven_point_is_refused_with_what_to_do() {
    rot_is_refused(1);
    let (disk, _) = proven_log(1);
    let newest = segments(&disk.durable_image()).pop().unwrap();
    disk.flip_bit(&newest, 512, 0).unwrap();
    let refused = Log::open(disk, config(), NODE)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains(&newest) && refused.contains("byte 512"),
        "{refused}"
    );
    assert!(refused.contains("kvctl member replace"), "{refused}");
}

/// D01: the log believes no sync after one that failed.
pub(super) fn a_failed_sync_is_final(seed: u64) {
    let disk = SimulatedDisk::new(seed);
    let mut model = Model::new();
    let mut log = create(&disk);
    log.append(&[model.commands(3, 500)]).unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(log.sync(), Err(LogError::Io { .. })));
    assert!(matches!(log.sync(), Err(LogError::Stopped)));
    assert!(matches!(
        log.append(&[model.commands(1, 1)]),
        Err(LogError::Stopped)
    ));
    assert!(matches!(log.mark(), Err(LogError::Stopped)));
}

#[test]
fn d01_a_failed_sync_poisons_the_log() {
    a_failed_sync_is_final(1);
}

#[test]
fn d03_a_torn_tail_is_cut_and_said_and_never_comes_back() {
    let mut cut = 0;
    for seed in 0..200 {
        let disk = SimulatedDisk::new(seed);
        let mut model = Model::new();
        let mut log = create(&disk);
        log.append(&[model.commands(1, 100)]).unwrap();
        log.sync().unwrap();
        let synced = model.clone();
        for _ in 0..3 {
            log.append(&[model.commands(1, 300)]).unwrap();
        }
        drop(log);
        disk.power_lost();
        let recovered = open(&disk);
        assert!(recovered.last >= synced.last());
        let Some(tail) = recovered.torn_tail.clone() else {
            continue;
        };
        cut += 1;
        assert!(tail.file.ends_with(".raftlog") && tail.offset % 512 == 0);
        // Another batch under the same number, and a second recovery: the old one is not taken for it.
        let mut model = Model {
            entries: model.entries[..recovered.last.index.get() as usize].to_vec(),
            ..model
        };
        let mut log = recovered.log;
        log.append(&[model.commands(1, 200)]).unwrap();
        log.sync().unwrap();
        drop(log);
        disk.power_lost();
        let again = open(&disk);
        expect(&again, &model);
        assert_eq!(again.torn_tail, None);
    }
    assert!(cut > 50, "{cut}");
}

#[test]
fn a_recycled_segments_former_batches_never_pass() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    for _ in 0..80 {
        // All batches are alike, so former ones stand exactly where new ones are expected.
        log.append(&[model.commands(1, 300)]).unwrap();
        let commit = model.last().index.get();
        log.append(&[model.write(hard_state(1, commit), None, Vec::new())])
            .unwrap();
        log.sync().unwrap();
        log.compact(index(commit)).unwrap();
        let image = disk.durable_image();
        let recovered = open(&SimulatedDisk::with_image(1, image));
        assert_eq!((recovered.last, recovered.torn_tail), (model.last(), None));
    }
}

#[test]
fn d08_foreign_swapped_and_missing_segments_are_refused() {
    let (disk, _) = proven_log(1);
    let image = disk.durable_image();
    let names = segments(&image);
    assert!(names.len() >= 3);
    let other = Log::open(disk, config(), NodeId(0x99)).map(|_| ());
    assert!(matches!(other, Err(LogError::Foreign { .. })), "{other:?}");

    let mut swapped = image.clone();
    let (one, two) = (image.files[&names[0]].clone(), image.files[&names[1]].clone());
    swapped.files.insert(names[0].clone(), two);
    swapped.files.insert(names[1].clone(), one);
    assert!(matches!(opened(&swapped), Err(LogError::Damaged { .. })));

    let mut missing = image.clone();
    missing.files.remove(&names[1]);
    let refused = opened(&missing).unwrap_err().to_string();
    assert!(
        refused.contains(&names[1]) && refused.contains("missing"),
        "{refused}"
    );

    let mut mixed = image;
    mixed
        .files
        .insert(names[1].clone(), of_another_cluster().files[&names[1]].clone());
    assert!(matches!(opened(&mixed), Err(LogError::Foreign { .. })));
}

fn of_another_cluster() -> DurableImage {
    let disk = SimulatedDisk::new(1);
    let owner = LogOwner {
        cluster: raftkv_protocol::ClusterId(0xbad),
        ..OWNER
    };
    drop(Log::create(disk.clone(), config(), owner, &founding(), hard_state(1, 1)).unwrap());
    open(&disk);
    disk.durable_image()
}

#[test]
fn d08_lost_and_misdirected_writes_are_found() {
    let spoil = |fault: WriteFault| {
        let disk = SimulatedDisk::new(1);
        let mut model = Model::new();
        let mut log = create(&disk);
        log.append(&[model.commands(1, 10)]).unwrap();
        log.sync().unwrap();
        disk.spoil_write_after(0, fault);
        log.append(&[model.commands(1, 10)]).unwrap();
        log.sync().unwrap();
        log.append(&[model.commands(1, 10)]).unwrap();
        log.mark().unwrap();
        drop(log);
        disk.power_lost();
        Log::open(disk, config(), NODE).map(|_| ())
    };
    let lost = spoil(WriteFault::Lost);
    assert!(matches!(lost, Err(LogError::Damaged { .. })), "{lost:?}");
    for offset in [0, 512, 1024, 3072] {
        let fault = WriteFault::Misdirected {
            file: "0000000000000001.raftlog".to_owned(),
            offset,
        };
        let misdirected = spoil(fault);
        assert!(
            matches!(misdirected, Err(LogError::Damaged { .. })),
            "{offset}: {misdirected:?}"
        );
    }
}

#[test]
fn r44_a_log_whose_segments_are_gone_is_not_a_new_node() {
    let (disk, _) = proven_log(1);
    let mut image = disk.durable_image();
    image.files.retain(|name, _| !name.ends_with(".raftlog"));
    let refused = opened(&image);
    assert!(matches!(refused, Err(LogError::Lost { .. })), "{refused:?}");
}

#[test]
fn r44_a_crash_before_the_log_was_noted_is_made_good_at_the_next_start() {
    let (disk, _) = proven_log(1);
    let mut image = disk.durable_image();
    image.files.remove("log.made");
    let disk = SimulatedDisk::with_image(1, image);
    open(&disk);
    disk.power_lost();
    let mut image = disk.durable_image();
    image.files.retain(|name, _| !name.ends_with(".raftlog"));
    assert!(matches!(opened(&image), Err(LogError::Lost { .. })));
}

#[test]
fn a_newer_format_is_not_read() {
    let (disk, _) = proven_log(1);
    let file = disk.open("0000000000000001.raftlog").unwrap();
    let mut header = [0; 512];
    file.read_exact_at(&mut header, 0).unwrap();
    header[8] = 2;
    header[12..16].fill(0);
    let checksum = crc32c::crc32c(&header);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
    let refused = Log::open(disk, config(), NODE).map(|_| ());
    assert!(
        matches!(
            refused,
            Err(LogError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn r25_a_rotten_entry_is_never_read_as_another() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    log.append(&[model.commands(1, 900)]).unwrap();
    log.sync().unwrap();
    disk.flip_bit("0000000000000001.raftlog", 1024 + 400, 1).unwrap();
    let read = log.reader().read(index(2), index(2), 1);
    assert!(matches!(read, Err(LogError::Damaged { .. })), "{read:?}");
    disk.fail_read_after(0);
    assert!(matches!(
        log.reader().read(index(1), index(1), 1),
        Err(LogError::Io { .. })
    ));
}

#[test]
fn d02_a_disk_full_inside_a_segment_leaves_the_log_whole() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    disk.limit_free_bytes(Some(1000));
    let mut synced = model.clone();
    let full = loop {
        if let Err(error) = log.append(&[model.commands(1, 300)]).and_then(|()| log.sync()) {
            break error;
        }
        synced = model.clone();
    };
    assert!(full.to_string().contains("must stop"), "{full}");
    disk.limit_free_bytes(None);
    assert!(matches!(
        log.append(&[model.commands(1, 1)]),
        Err(LogError::Stopped)
    ));
    drop(log);
    disk.set_unsynced(UnsyncedSectors::Mixed);
    disk.power_lost();
    expect(&open(&disk), &synced);
}
