//! Create, append, sync, read, open.

use super::model::*;
use crate::disk::{Disk, DiskFile, SimulatedDisk};
use crate::log::{Log, LogError, Marked};

#[test]
fn an_empty_directory_has_no_log() {
    assert!(
        Log::open(SimulatedDisk::new(1), config(), NODE)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_new_log_is_durable_when_it_is_there() {
    let disk = SimulatedDisk::new(1);
    create(&disk);
    disk.power_lost();
    expect(&open(&disk), &Model::new());
}

#[test]
fn synced_writes_are_recovered_exactly() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    for round in 0..40 {
        let writes = [model.commands(2, 100), model.commands(1, round * 7)];
        log.append(&writes).unwrap();
        log.sync().unwrap();
    }
    disk.power_lost();
    let recovered = open(&disk);
    expect(&recovered, &model);
    assert_eq!(recovered.torn_tail, None);
}

#[test]
fn a_cut_tail_is_never_read_again() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    log.append(&[model.commands(9, 50)]).unwrap();
    log.append(&[model.conflict(5), model.commands(2, 10), model.conflict(6)])
        .unwrap();
    log.append(&[model.conflict(4), model.commands(7, 90)]).unwrap();
    log.sync().unwrap();
    assert_eq!(entries(&log), model.entries);
    drop(log);
    disk.power_lost();
    expect(&open(&disk), &model);
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_size() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    log.append(&[model.commands(3, 10_000)]).unwrap();
    log.append(&[model.commands(1, 10)]).unwrap();
    log.sync().unwrap();
    disk.power_lost();
    expect(&open(&disk), &model);
}

#[test]
fn reads_stop_after_the_entry_that_passes_the_limit() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    log.append(&[model.commands(5, 100)]).unwrap();
    let reader = log.reader();
    let count = |max_bytes| reader.read(index(2), index(6), max_bytes).unwrap().len();
    assert_eq!((count(0), count(1), count(165), count(10_000)), (1, 1, 2, 5));
    assert_eq!(
        reader.read(index(3), index(4), 10_000).unwrap(),
        model.entries[2..4]
    );
    let missing = reader.read(index(7), index(9), 100);
    assert!(matches!(missing, Err(LogError::NotInLog { .. })));
}

#[test]
fn a_mark_is_written_once_and_only_when_needed() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    assert_eq!(log.mark().unwrap(), Marked::NotNeeded);
    log.append(&[model.commands(1, 1)]).unwrap();
    log.sync().unwrap();
    assert_eq!(log.mark().unwrap(), Marked::Written);
    assert_eq!(log.mark().unwrap(), Marked::NotNeeded);
    disk.power_lost();
    expect(&open(&disk), &model);
}

#[test]
fn a_log_goes_on_after_each_recovery() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    for _ in 0..10 {
        log.append(&[model.commands(3, 40)]).unwrap();
        log.sync().unwrap();
        drop(log);
        disk.power_lost();
        let recovered = open(&disk);
        expect(&recovered, &model);
        log = recovered.log;
    }
}

#[test]
fn a_second_log_is_not_made_beside_the_first() {
    let disk = SimulatedDisk::new(1);
    create(&disk);
    let second = Log::create(disk, config(), OWNER, &founding(), hard_state(1, 1));
    assert!(matches!(second, Err(LogError::Io { .. })));
}

#[test]
fn segments_are_compacted_and_used_again() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    for _ in 0..60 {
        log.append(&[model.commands(2, 100)]).unwrap();
        log.sync().unwrap();
        let commit = model.last().index.get();
        let write = model.write(hard_state(1, commit), None, Vec::new());
        log.append(&[write]).unwrap();
        log.compact(index(commit - 4 * u64::from(commit > 5))).unwrap();
    }
    log.sync().unwrap();
    let base = log.base().index.get() as usize;
    assert!(base > 100, "the base is {base}");
    assert_eq!(entries(&log), model.entries[base..]);
    drop(log);
    disk.power_lost();
    let recovered = open(&disk);
    assert_eq!(recovered.base.index.get() as usize, base);
    assert_eq!(entries(&recovered.log), model.entries[base..]);
    assert!(disk.list().unwrap().len() < 8, "{:?}", disk.list());
}

#[test]
fn a_log_that_grows_and_is_cut_fills_no_segments_after_a_while() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    let pool = log.spare_pool();
    let mut filled = Vec::new();
    for _ in 0..100 {
        log.append(&[model.commands(2, 100)]).unwrap();
        let commit = model.last().index.get();
        log.append(&[model.write(hard_state(1, commit), None, Vec::new())])
            .unwrap();
        // As the thread does that is woken when a spare was taken: before the log is cut.
        filled.push(pool.prepare().unwrap());
        log.compact(index(commit)).unwrap();
    }
    let (early, late) = filled.split_at(50);
    assert!(early.iter().sum::<usize>() <= 2, "{filled:?}");
    assert_eq!(late.iter().sum::<usize>(), 0, "{filled:?}");
    assert!(log.segment_number() > 5, "segments were used up");
}

#[test]
fn a_restart_gives_back_the_room_that_its_segment_did_not_use() {
    let disk = SimulatedDisk::new(1);
    create(&disk);
    for _ in 0..20 {
        open(&disk);
        disk.process_crashed();
    }
    let length = |name: &String| disk.open(name).unwrap().len().unwrap();
    let bytes: u64 = disk.list().unwrap().iter().map(length).sum();
    assert!(bytes < 20 * 1024 + 3 * 4096, "{bytes}");
}

/// Beside a log that truncates, appends and compacts, a reader sees entries of one history each time, in order.
#[test]
fn readers_beside_the_log_see_whole_entries_in_order() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let mut log = create(&disk);
    let (reader, is_done) = (log.reader(), AtomicBool::new(false));
    let mut reads = 0_u32;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..600 {
                log.append(&[model.commands(3, 200)]).unwrap();
                let last = model.last().index.get();
                if round % 5 == 0 {
                    log.append(&[model.conflict(last - 1)]).unwrap();
                }
                if round % 50 == 0 {
                    let write = model.write(hard_state(model.hard_state.term.0, last - 2), None, Vec::new());
                    log.append(&[write]).unwrap();
                    log.compact(index(last - 2)).unwrap();
                }
            }
            is_done.store(true, Ordering::Release);
        });
        let mut from = 1;
        while reads <= 10 || !is_done.load(Ordering::Acquire) {
            match reader.read(index(from), index(from + 20), 4000) {
                Ok(entries) => {
                    reads += 1;
                    let in_order = entries.windows(2).all(|pair| {
                        pair[1].id.index == pair[0].id.index.next() && pair[0].id.term <= pair[1].id.term
                    });
                    assert!(entries[0].id.index == index(from) && in_order);
                    from = entries.last().unwrap().id.index.get();
                }
                Err(LogError::NotInLog { .. }) => from += 1,
                Err(error) => panic!("{error}"),
            }
            from %= 2000;
            from += u64::from(from == 0);
        }
    });
    assert!(reads > 10, "{reads}");
}

#[test]
fn the_real_disk_keeps_a_log_as_the_simulated_one_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    let disk = crate::disk::RealDisk::open(directory.path()).unwrap();
    let mut log = Log::create(disk.clone(), config(), OWNER, &founding(), hard_state(1, 1)).unwrap();
    for _ in 0..20 {
        log.append(&[model.commands(2, 300)]).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let recovered = Log::open(disk, config(), NODE).unwrap().unwrap();
    assert_eq!(
        (recovered.last, recovered.hard_state),
        (model.last(), model.hard_state)
    );
    let read = recovered
        .log
        .reader()
        .read(index(1), model.last().index, 1 << 20)
        .unwrap();
    assert_eq!(read, model.entries);
}
