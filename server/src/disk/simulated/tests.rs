//! The simulated disk forgets exactly what it may forget.

use super::*;

const SYNCED: &[u8] = &[1; 2048];
const UNSYNCED: &[u8] = &[2; 2048];

/// A file whose first version is durable and whose second is only in the page cache.
fn half_synced(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    let file = disk.create("file").unwrap();
    file.write_all_at(SYNCED, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory().unwrap();
    file.write_all_at(UNSYNCED, 0).unwrap();
    disk
}

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_process_crash_keeps_the_page_cache() {
    let disk = half_synced(1);
    disk.process_crashed();
    assert_eq!(content(&disk, "file"), UNSYNCED);
    assert_eq!(disk.durable_image().files["file"], SYNCED);
}

#[test]
fn power_loss_takes_unsynced_sectors_as_the_policy_says() {
    let after = |policy| {
        let disk = half_synced(7);
        disk.set_unsynced(policy);
        disk.power_lost();
        content(&disk, "file")
    };
    assert_eq!(after(UnsyncedSectors::Lost), SYNCED);
    assert_eq!(after(UnsyncedSectors::Kept), UNSYNCED);
    for sector in after(UnsyncedSectors::Torn).chunks(512) {
        let torn_at = sector.iter().position(|byte| *byte == 1).unwrap();
        assert!(torn_at > 0 && sector[torn_at..].iter().all(|byte| *byte == 1));
    }
}

#[test]
fn mixed_power_loss_keeps_a_later_sector_without_an_earlier_one() {
    let out_of_order = (0..50).any(|seed| {
        let disk = half_synced(seed);
        disk.power_lost();
        let bytes = content(&disk, "file");
        bytes[..512] == SYNCED[..512] && bytes[512..1024] == UNSYNCED[..512]
    });
    assert!(out_of_order);
}

#[test]
fn synced_bytes_survive_whatever_the_policy() {
    for seed in 0..100 {
        let disk = half_synced(seed);
        disk.open("file").unwrap().sync_data().unwrap();
        disk.power_lost();
        assert_eq!(content(&disk, "file"), UNSYNCED);
    }
}

#[test]
fn unsynced_growth_is_lost_with_its_length() {
    let disk = half_synced(1);
    disk.open("file").unwrap().write_all_at(b"more", 4096).unwrap();
    disk.set_unsynced(UnsyncedSectors::Lost);
    disk.power_lost();
    assert_eq!(content(&disk, "file"), SYNCED);
}

#[test]
fn names_need_a_sync_of_the_directory() {
    let disk = half_synced(1);
    disk.rename("file", "renamed").unwrap();
    disk.create("created").unwrap().sync_data().unwrap();
    assert_eq!(disk.list().unwrap(), ["created", "renamed"]);
    disk.set_unsynced(UnsyncedSectors::Lost);
    disk.power_lost();
    assert_eq!(disk.list().unwrap(), ["file"]);
    disk.remove("file").unwrap();
    disk.sync_directory().unwrap();
    disk.power_lost();
    assert!(disk.list().unwrap().is_empty());
}

#[test]
fn a_crash_point_stops_every_later_operation_until_the_restart() {
    let disk = half_synced(3);
    let file = disk.open("file").unwrap();
    disk.crash_after(1);
    assert_eq!(file.len().unwrap(), 2048);
    let crash = file.write_all_at(&[3; 2048], 0).unwrap_err();
    assert!(crash.get_ref().unwrap().is::<SimulatedCrash>());
    assert!(disk.list().is_err() && disk.has_crashed());
    disk.process_crashed();
    assert!(file.len().is_err(), "a handle of the former process");
    let bytes = content(&disk, "file");
    let arrived = bytes.iter().take_while(|byte| **byte == 3).count();
    assert_eq!(bytes[arrived..], UNSYNCED[arrived..]);
}

#[test]
fn a_failed_sync_is_followed_by_one_that_lies() {
    let lost = (0..50).any(|seed| {
        let disk = half_synced(seed);
        let file = disk.open("file").unwrap();
        disk.fail_sync_after(0);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        disk.power_lost();
        content(&disk, "file") != UNSYNCED
    });
    assert!(lost);
}

#[test]
fn a_full_disk_takes_part_of_a_write_and_overwrites_go_on() {
    let disk = half_synced(1);
    let file = disk.open("file").unwrap();
    disk.limit_free_bytes(Some(100));
    assert_eq!(disk.free_bytes().unwrap(), 100);
    let full = file.write_all_at(&[9; 400], 2048).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 2148);
    file.write_all_at(SYNCED, 0).unwrap();
    disk.heal();
    file.write_all_at(&[9; 400], 2048).unwrap();
}

#[test]
fn reads_and_writes_fail_once_and_at_their_turn() {
    let disk = half_synced(1);
    let file = disk.open("file").unwrap();
    disk.fail_read_after(1);
    disk.fail_write_after(0);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    assert!(file.read_exact_at(&mut byte, 0).is_err());
    file.read_exact_at(&mut byte, 0).unwrap();
    assert!(file.write_all_at(SYNCED, 0).is_err());
    file.write_all_at(SYNCED, 0).unwrap();
}

#[test]
fn lost_and_misdirected_writes_report_success() {
    let disk = half_synced(1);
    let file = disk.open("file").unwrap();
    disk.create("other").unwrap();
    disk.spoil_write_after(0, WriteFault::Lost);
    file.write_all_at(b"x", 0).unwrap();
    let there = WriteFault::Misdirected {
        file: "other".into(),
        offset: 1,
    };
    disk.spoil_write_after(0, there);
    file.write_all_at(b"y", 0).unwrap();
    assert_eq!(content(&disk, "file"), UNSYNCED);
    assert_eq!(content(&disk, "other"), b"\0y");
}

#[test]
fn a_rotten_bit_is_on_the_platter_too() {
    let disk = half_synced(1);
    let said = disk.flip_durable_bit(&mut Rng::with_seed(5)).unwrap();
    let differing = disk.durable_image().files["file"]
        .iter()
        .zip(SYNCED)
        .map(|(now, then)| (now ^ then).count_ones())
        .sum::<u32>();
    assert_eq!(differing, 1, "{said}");
}

#[test]
fn the_same_seed_has_the_same_fate() {
    let run = || {
        let disk = half_synced(11);
        disk.power_lost();
        disk.durable_image()
    };
    assert_eq!(run(), run());
}

#[test]
fn an_image_makes_a_disk_of_its_own() {
    let disk = half_synced(1);
    let copy = SimulatedDisk::with_image(2, disk.durable_image());
    disk.wipe();
    assert_eq!(content(&copy, "file"), SYNCED);
    assert!(disk.list().unwrap().is_empty());
}

#[test]
fn a_file_whose_removal_is_lost_has_its_content_still() {
    let disk = SimulatedDisk::new(1);
    let file = disk.create("file").unwrap();
    file.write_all_at(SYNCED, 0).unwrap();
    file.sync_data().unwrap();
    disk.remove("file").unwrap();
    disk.process_crashed();
    for seed in 0.. {
        disk.state().rng = Rng::with_seed(seed);
        disk.power_lost();
        if disk.list().unwrap().is_empty() {
            break;
        }
        assert_eq!(content(&disk, "file"), SYNCED);
        disk.remove("file").unwrap();
    }
}
