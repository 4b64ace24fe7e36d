//! Random lives of a log on a disk that crashes anywhere: what was synced is there, what was not is there as a prefix
//! of whole batches, and nothing else is.

use fastrand::Rng;
use raftkv_raft::Write;

use super::model::*;
use crate::disk::{SimulatedDisk, UnsyncedSectors};
use crate::log::{Log, LogError, Recovered};

const POLICIES: [UnsyncedSectors; 4] = [
    UnsyncedSectors::Lost,
    UnsyncedSectors::Kept,
    UnsyncedSectors::Torn,
    UnsyncedSectors::Mixed,
];

/// A log's life, and what a crash may leave of it.
pub(super) struct Story {
    pub(super) disk: SimulatedDisk,
    rng: Rng,
    log: Option<Log<SimulatedDisk>>,
    model: Model,
    /// What recovery may find: as of the last sync, and after each batch since. `None`: no log.
    allowed: Vec<Option<Model>>,
}

impl Story {
    pub(super) fn new(seed: u64) -> Story {
        let mut rng = Rng::with_seed(seed);
        let disk = SimulatedDisk::new(rng.u64(..));
        disk.set_unsynced(POLICIES[rng.usize(..POLICIES.len())]);
        Story {
            disk,
            rng,
            log: None,
            model: Model::new(),
            allowed: vec![None],
        }
    }

    fn create(&mut self) -> Result<(), LogError> {
        self.model = Model::new();
        self.allowed = vec![None, Some(self.model.clone())];
        let log = Log::create(self.disk.clone(), config(), OWNER, &founding(), hard_state(1, 1))?;
        self.allowed = vec![Some(self.model.clone())];
        self.log = Some(log);
        Ok(())
    }

    /// One life, up to `steps` calls or to the first error.
    pub(super) fn live(&mut self, steps: usize) -> Result<(), LogError> {
        if self.log.is_none() {
            self.create()?;
        }
        for _ in 0..steps {
            match self.rng.u8(..10) {
                0..=4 => self.append()?,
                5 | 6 => self.sync()?,
                7 => {
                    self.log().mark()?;
                    self.allowed = vec![Some(self.model.clone())];
                }
                8 => self.compact()?,
                _ => {
                    self.log().spare_pool().prepare()?;
                }
            }
        }
        Ok(())
    }

    fn log(&mut self) -> &mut Log<SimulatedDisk> {
        self.log.as_mut().unwrap()
    }

    fn append(&mut self) -> Result<(), LogError> {
        let writes: Vec<Write> = (0..self.rng.usize(1..4)).map(|_| self.random_write()).collect();
        self.allowed.push(Some(self.model.clone()));
        self.log().append(&writes)?;
        // Reading needs no sync.
        let log = self.log.as_ref().unwrap();
        assert!(is_suffix(&read_all(log)?, log.base(), &self.model));
        Ok(())
    }

    fn random_write(&mut self) -> Write {
        let (commit, last) = (self.model.hard_state.commit.get(), self.model.last().index.get());
        let payload_bytes = [0, 30, 300, 1500, 5000][self.rng.usize(..5)];
        match self.rng.u8(..8) {
            0 if last > commit => {
                let from = self.rng.u64(commit + 1..=last);
                self.model.conflict(from)
            }
            1 => {
                let term = self.model.hard_state.term.0 + 1;
                self.model.write(hard_state(term, commit), None, Vec::new())
            }
            2 => {
                let mut hard_state = self.model.hard_state;
                hard_state.commit = index(self.rng.u64(commit..=last));
                self.model.write(hard_state, None, Vec::new())
            }
            3 => {
                let term = self.model.hard_state.term.0;
                let entry = configuration(id(term, last + 1));
                self.model.write(self.model.hard_state, None, vec![entry])
            }
            _ => {
                let count = self.rng.u64(1..4);
                self.model.commands(count, payload_bytes)
            }
        }
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.log().sync()?;
        self.allowed = vec![Some(self.model.clone())];
        Ok(())
    }

    fn compact(&mut self) -> Result<(), LogError> {
        // What is cut must not come back: the caller syncs its snapshot, and what it stands on, first.
        self.sync()?;
        let commit = self.model.hard_state.commit.get();
        let keep_from = index(self.rng.u64(1..=commit));
        self.log().compact(keep_from)
    }

    /// The process is gone, in one way or the other; no handle of it lives.
    pub(super) fn crash(&mut self) {
        self.log = None;
        if self.rng.bool() {
            self.disk.process_crashed();
        } else {
            self.disk.power_lost();
        }
    }

    /// Recovers, crashing on the way as often as not, and checks what is found.
    pub(super) fn recover(&mut self) {
        for _ in 0..self.rng.usize(..3) {
            self.disk.crash_after(self.rng.u64(..40));
            let opened = Log::open(self.disk.clone(), config(), NODE);
            if let Err(error) = opened {
                assert!(matches!(error, LogError::Io { .. }), "{error}");
            }
            self.disk.heal();
            self.crash();
        }
        let found = Log::open(self.disk.clone(), config(), NODE).unwrap();
        self.check(found.as_ref());
        // P05: what recovery answers for is on the platter.
        let platter = SimulatedDisk::with_image(1, self.disk.durable_image());
        let again = Log::open(platter, config(), NODE).unwrap();
        self.check(again.as_ref());
        self.log = found.map(|recovered| recovered.log);
    }

    /// Leaves what was found as the only thing allowed.
    fn check(&mut self, found: Option<&Recovered<SimulatedDisk>>) {
        let fits = |allowed: &Option<Model>| match (allowed, found) {
            (None, None) => true,
            (Some(model), Some(found)) => is(found, model),
            (None, Some(_)) | (Some(_), None) => false,
        };
        let Some(state) = self.allowed.iter().rev().find(|allowed| fits(allowed)) else {
            panic!(
                "found {:?}, allowed are {:?}",
                found.map(|found| (found.last, found.hard_state, found.base)),
                self.allowed
                    .iter()
                    .map(|model| model.as_ref().map(|model| (model.last(), model.hard_state)))
                    .collect::<Vec<_>>()
            );
        };
        if let Some(model) = state {
            let next_write = self.model.next_write;
            self.model = Model {
                next_write,
                ..model.clone()
            };
        }
        self.allowed = vec![state.clone()];
    }
}

/// Is this what recovery found?
fn is(found: &Recovered<SimulatedDisk>, model: &Model) -> bool {
    if found.last != model.last() || found.hard_state != model.hard_state {
        return false;
    }
    let base = found.base.index.get() as usize;
    is_suffix(&entries(&found.log), found.base, model) && found.term_runs == term_runs(&model.entries[base..])
}

/// Lives, crashes and recoveries of one seed.
pub(super) fn live_and_crash(seed: u64) {
    let mut story = Story::new(seed);
    for _ in 0..6 {
        if story.rng.bool() {
            let point = story.rng.u64(..80);
            story.disk.crash_after(point);
        }
        let steps = story.rng.usize(..30);
        if let Err(error) = story.live(steps) {
            assert!(story.disk.has_crashed(), "seed {seed}: {error}");
        }
        story.disk.heal();
        story.crash();
        story.recover();
    }
}

#[test]
fn p01_p02_p05_d03_random_lives_keep_what_was_synced_and_nothing_else() {
    for seed in 0..2000 {
        live_and_crash(seed);
    }
}

/// P01: a crash at each operation of one long life, with each policy, and both kinds of crash.
#[test]
fn p01_a_crash_at_any_operation_is_recoverable() {
    let life = |point: Option<u64>, policy, seed: u64| {
        let mut story = Story::new(77);
        story.disk.set_unsynced(policy);
        if let Some(point) = point {
            story.disk.crash_after(point);
        }
        let lived = story.live(60);
        assert_eq!(lived.is_err(), story.disk.has_crashed());
        let operations = story.disk.operations();
        story.rng = Rng::with_seed(seed);
        story.disk.heal();
        story.crash();
        story.recover();
        operations
    };
    let operations = life(None, UnsyncedSectors::Mixed, 0);
    assert!(operations > 200, "{operations}");
    for point in 0..operations {
        for (seed, policy) in POLICIES.into_iter().enumerate() {
            life(Some(point), policy, point * 8 + seed as u64);
        }
    }
}

/// D01, D02, R37, R38: after any failure of the disk the log takes nothing more, and what was synced is there.
#[test]
fn d01_d02_a_failing_disk_stops_the_log_and_loses_nothing_synced() {
    for seed in 0..1000 {
        let mut story = Story::new(seed);
        story.live(10).unwrap();
        let after = story.rng.u64(..12);
        match story.rng.u8(..3) {
            0 => story.disk.fail_write_after(after),
            1 => story.disk.fail_sync_after(after),
            _ => story.disk.limit_free_bytes(Some(story.rng.u64(..20_000))),
        }
        if story.live(60).is_err() {
            // Space comes back, the disk works again: too late.
            story.disk.heal();
            story.disk.set_unsynced(POLICIES[story.rng.usize(..4)]);
            let log = story.log();
            let writable = log.sync().and_then(|()| log.mark().map(|_| ()));
            // A spare that could not be made is the only failure that the log survives.
            if writable.is_err() {
                assert!(matches!(log.append(&[]), Ok(())), "nothing is nothing");
                assert!(matches!(log.sync(), Err(LogError::Stopped)));
            } else {
                story.allowed = vec![Some(story.model.clone())];
            }
        }
        story.disk.heal();
        story.crash();
        story.recover();
    }
}

/// X10, X13, X21, X22: the tests above see each planted bug of the log.
#[cfg(feature = "simulation")]
#[test]
fn every_planted_bug_of_the_log_is_seen() {
    use raftkv_raft::simulation::set_mutant;
    let is_seen = |mutant: Option<&'static str>, seeds: u64| {
        let search = move || {
            set_mutant(mutant);
            (0..seeds).any(|seed| {
                let lives = || {
                    live_and_crash(seed);
                    super::damage::rot_is_refused(seed);
                    super::damage::a_failed_sync_is_final(seed);
                };
                std::panic::catch_unwind(lives).is_err()
            })
        };
        std::thread::spawn(search).join().unwrap()
    };
    assert!(!is_seen(None, 100), "there is something to be seen without any");
    for (mutant, what) in crate::log::simulation::MUTANTS {
        assert!(is_seen(Some(mutant), 400), "{mutant} ({what}) survives");
    }
}
