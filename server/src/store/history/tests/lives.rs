//! Random lives on a disk that crashes anywhere: every key at every kept revision is what it was.

use fastrand::Rng;

use super::world::World;
use crate::disk::UnsyncedSectors;
use crate::store::StoreError;

const POLICIES: [UnsyncedSectors; 4] = [
    UnsyncedSectors::Lost,
    UnsyncedSectors::Kept,
    UnsyncedSectors::Torn,
    UnsyncedSectors::Mixed,
];

/// Starts, crashing on the way as often as not, and checks what is found.
fn restart(world: &mut World) {
    world.disk.heal();
    world.crash();
    for _ in 0..world.rng.usize(..3) {
        world.disk.crash_after(world.rng.u64(..20));
        if let Err(error) = world.start() {
            assert!(matches!(error, StoreError::Io { .. }), "{error}");
        }
        world.disk.heal();
        world.crash();
    }
    world.start().unwrap();
    world.check_all().unwrap();
}

fn live_and_crash(seed: u64) {
    let mut world = World::new(seed);
    let policy = POLICIES[world.rng.usize(..4)];
    world.disk.set_unsynced(policy);
    world.start().unwrap();
    for _ in 0..5 {
        if world.rng.bool() {
            world.disk.crash_after(world.rng.u64(..300));
        }
        let steps = world.rng.usize(..60);
        match world.live(steps) {
            Ok(()) => {
                world.disk.heal();
                world.check_all().unwrap();
            }
            Err(error) => assert!(world.disk.has_crashed(), "seed {seed}: {error}"),
        }
        restart(&mut world);
    }
}

#[test]
fn every_key_at_every_kept_revision_is_what_it_was() {
    for seed in 0..150 {
        live_and_crash(seed);
    }
}

/// A crash at each operation of one long life, with each policy, and both kinds of crash.
#[test]
fn a_crash_at_any_operation_is_recoverable() {
    let life = |point: Option<u64>, policy, seed: u64| {
        let mut world = World::new(91);
        world.disk.set_unsynced(policy);
        if let Some(point) = point {
            world.disk.crash_after(point);
        }
        let lived = world.start().and_then(|()| world.live(80));
        assert_eq!(lived.is_err(), world.disk.has_crashed());
        let operations = world.disk.operations();
        world.rng = Rng::with_seed(seed);
        restart(&mut world);
        operations
    };
    let operations = life(None, UnsyncedSectors::Mixed, 0);
    assert!(operations > 150, "{operations}");
    for point in 0..operations {
        for (seed, policy) in POLICIES.into_iter().enumerate() {
            life(Some(point), policy, point * 8 + seed as u64);
        }
    }
}

/// A crash at each operation of a start that has files to remove.
#[test]
fn a_crash_at_any_operation_of_a_start_is_recoverable() {
    // Is this point behind the start's last operation?
    let start = |seed: u64, point: u64| {
        let mut world = World::new(seed);
        world.start().unwrap();
        world.live(80).unwrap();
        world.crash();
        world.disk.crash_after(point);
        let is_behind = world.start().is_ok();
        restart(&mut world);
        is_behind
    };
    for seed in 0..20 {
        let points = (0..).take_while(|point| !start(seed, *point)).count();
        assert!(points > 0);
    }
}

#[test]
#[ignore = "takes minutes"]
fn many_lives() {
    for seed in 1000..4000 {
        live_and_crash(seed);
    }
}

/// R37: after any failure to write, nothing is written any more, and what was drained is there.
#[test]
fn a_failing_disk_stops_history_and_loses_nothing_drained() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.start().unwrap();
        world.live(20).unwrap();
        let after = world.rng.u64(..6);
        match world.rng.u8(..3) {
            0 => world.disk.fail_write_after(after),
            1 => world.disk.fail_sync_after(after),
            _ => world.disk.limit_free_bytes(Some(world.rng.u64(..20_000))),
        }
        if world.live(100).is_err() {
            world.disk.heal();
            assert!(matches!(
                world.history().write_pending(),
                Err(StoreError::Stopped)
            ));
            assert!(matches!(
                world.history().trim(raftkv_protocol::Revision(u64::MAX)),
                Err(StoreError::Stopped)
            ));
            // A failed sync may take back what the page cache held.
            let seen = world.check_all();
            assert!(
                matches!(seen, Ok(()) | Err(StoreError::Damaged { .. })),
                "{seen:?}"
            );
        }
        restart(&mut world);
    }
}

/// Rot anywhere is refused at the start or when it is read; nothing wrong is ever answered.
fn rot_is_refused(seed: u64) -> bool {
    let mut world = World::new(seed);
    // What was given up is not read.
    world.lacks_room = false;
    world.start().unwrap();
    world.live(80).unwrap();
    for _ in 0..3 {
        world.drain().unwrap();
    }
    world.crash();
    let mut rng = Rng::with_seed(seed);
    let Some(place) = world.disk.flip_durable_bit(&mut rng) else {
        return false;
    };
    let refused = world.start().and_then(|()| world.check_all());
    match &refused {
        // The file of a generation that is replayed, or an image that nothing asks for.
        Ok(()) => {}
        Err(StoreError::Damaged { .. } | StoreError::NewerFormat { .. }) => {}
        Err(error) => panic!("{place}: {error}"),
    }
    refused.is_err()
}

#[test]
fn rot_is_refused_or_harmless() {
    let refused = (0..150).filter(|seed| rot_is_refused(*seed)).count();
    assert!(refused > 60, "{refused}");
}

/// The tests above see each planted bug.
#[cfg(feature = "simulation")]
#[test]
fn every_planted_bug_of_history_is_seen() {
    use raftkv_raft::simulation::set_mutant;
    let is_seen = |mutant: Option<&'static str>, seeds: u64| {
        let search = move || {
            set_mutant(mutant);
            (0..seeds).any(|seed| std::panic::catch_unwind(|| live_and_crash(seed)).is_err())
        };
        std::thread::spawn(search).join().unwrap()
    };
    assert!(!is_seen(None, 30), "there is something to be seen without any");
    for (mutant, what) in super::super::simulation::MUTANTS {
        assert!(is_seen(Some(mutant), 150), "{mutant} ({what}) survives");
    }
}
