//! What only the real engine can get wrong: files, process death, scans that outlive their tables.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::{BaseConfig, CompactionStep, LsmBase};
use crate::store::base::tests::{changes, key, tiny};
use crate::store::base::{Base, BaseView, Row};
use crate::store::error::StoreError;

/// Number of keys of the child that gets killed.
const KEYS: u64 = 3000;
const CHILD_DIRECTORY: &str = "RAFTKV_TEST_BASE_CHILD";
const ROUNDS: &str = "RAFTKV_TEST_BASE_KILLS";

fn table_files(directory: &Path) -> usize {
    fs::read_dir(directory.join("tables")).unwrap().count()
}

/// Ingest number `round` changes a third of the keys, deletes some of those, and names itself in the companion row.
fn ingest_round(base: &LsmBase, round: u64) -> Result<(), StoreError> {
    base.ingest(&mut rows_of(round).map(Ok))
}

fn is_changed(number: u64, round: u64) -> bool {
    (number * 7 + round).is_multiple_of(3)
}

fn rows_of(round: u64) -> impl Iterator<Item = Row> {
    let rows = (0..KEYS)
        .filter(move |number| is_changed(*number, round))
        .map(move |number| Row {
            key: format!("\u{1}{number:08}").into(),
            value: (!(number + round).is_multiple_of(10))
                .then(|| format!("{round:08}{}", "x".repeat(100)).into()),
        });
    rows.chain([Row {
        key: Bytes::from_static(&[3]),
        value: Some(round.to_string().into()),
    }])
}

/// What `rounds` whole ingests make.
fn state_after(rounds: u64) -> BTreeMap<Bytes, Bytes> {
    let mut state = BTreeMap::new();
    // Each key was changed last in one of the last three rounds.
    for round in rounds.saturating_sub(2).max(1)..=rounds {
        for Row { key, value } in rows_of(round) {
            match value {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
        }
    }
    state
}

fn state_of(base: &LsmBase) -> BTreeMap<Bytes, Bytes> {
    base.view()
        .unwrap()
        .range(b"", None)
        .map(Result::unwrap)
        .collect()
}

fn last_round(base: &LsmBase) -> u64 {
    let companion = base.view().unwrap().get(&[3]).unwrap();
    companion.map_or(0, |round| str::from_utf8(&round).unwrap().parse().unwrap())
}

#[test]
fn a_scan_goes_on_over_ingests_and_compactions() {
    let directory = tempfile::tempdir().unwrap();
    let base = LsmBase::open(directory.path(), &tiny()).unwrap();
    for round in 1..=5 {
        ingest_round(&base, round).unwrap();
        while base.compact_step().unwrap() == CompactionStep::Done {}
    }
    let wanted = state_after(5);
    let mut forward = base.view().unwrap().range(b"", None);
    let mut backward = base.view().unwrap().range(b"", None).rev();
    let view = base.view().unwrap();
    let mut found = Vec::new();
    let mut found_backward = Vec::new();
    for round in 6..=20 {
        found.extend(forward.by_ref().take(100).map(Result::unwrap));
        found_backward.extend(backward.by_ref().take(100).map(Result::unwrap));
        ingest_round(&base, round).unwrap();
        if round % 3 == 0 {
            base.compact_all().unwrap();
        } else {
            while base.compact_step().unwrap() == CompactionStep::Done {}
        }
    }
    found.extend(forward.map(Result::unwrap));
    found_backward.extend(backward.map(Result::unwrap));
    found_backward.reverse();
    assert_eq!(found, wanted.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(found, found_backward);
    for key in state_after(20).keys() {
        assert_eq!(view.get(key).unwrap().as_ref(), wanted.get(key));
    }
    assert_eq!(state_of(&base), state_after(20));
    drop(view);
    base.compact_all().unwrap();
    let named: usize = base.waiting_tables() + base.table_count();
    assert_eq!(
        table_files(directory.path()),
        named,
        "old tables go when nobody reads them"
    );
}

#[test]
fn a_walk_is_for_many_keys_or_for_the_next_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let base = LsmBase::open(directory.path(), &tiny()).unwrap();
    ingest_round(&base, 1).unwrap();
    let (view, state) = (base.view().unwrap(), state_after(1));
    let look_up = |keys: &[Bytes]| {
        let mut told = 0;
        let mut found = |key, value: Option<Bytes>| {
            assert_eq!(value.as_ref(), state.get(&key));
            told += 1;
            Ok(())
        };
        view.get_ascending(&mut keys.iter().cloned(), &mut found).unwrap();
        assert_eq!(told, keys.len());
    };
    let keys: Vec<Bytes> = rows_of(1).map(|row| row.key).collect();
    look_up(&keys[..2]);
    assert!(!view.walks(), "a walk for two keys takes apart whole indexes");
    look_up(&keys[..500]);
    assert!(view.walks());
    look_up(&keys[500..502]);
    assert!(view.walks(), "it goes on where it is");
    look_up(&keys[..2]);
    look_up(&keys[600..602]);
    assert!(view.walks(), "who looks back does not end it");
}

#[test]
fn deletes_leave_nothing_behind_at_the_bottom() {
    let directory = tempfile::tempdir().unwrap();
    let base = LsmBase::open(directory.path(), &tiny()).unwrap();
    let put = (0..500).map(|number| (key(number), Some(Bytes::from_static(b"value"))));
    changes(&base, &put.collect()).unwrap();
    changes(&base, &(0..500).map(|number| (key(number), None)).collect()).unwrap();
    base.compact_all().unwrap();
    base.compact_all().unwrap();
    assert_eq!(base.size_bytes(), 0);
    assert_eq!(table_files(directory.path()), 0);
}

#[test]
fn what_an_abandoned_ingest_wrote_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let base = LsmBase::open(directory.path(), &tiny()).unwrap();
    ingest_round(&base, 1).unwrap();
    let files = table_files(directory.path());
    let view = base.view().unwrap();
    let rows = rows_of(2).map(Ok).chain([Err(StoreError::Stopped)]);
    let given_up = base.ingest(&mut rows.into_iter());
    assert!(matches!(given_up, Err(StoreError::Stopped)));
    assert_eq!(table_files(directory.path()), files);
    assert_eq!(state_of(&base), state_after(1));
    assert_eq!(view.range(b"", None).count(), state_after(1).len());
    // As if the process had died before it could remove them.
    fs::write(directory.path().join("tables/999"), b"half a table").unwrap();
    fs::write(directory.path().join(".tmpAbCdEf"), b"half a pointer").unwrap();
    drop((view, base));
    let base = LsmBase::open(directory.path(), &tiny()).unwrap();
    assert_eq!(table_files(directory.path()), files);
    assert!(!directory.path().join(".tmpAbCdEf").exists());
    assert_eq!(state_of(&base), state_after(1));
    ingest_round(&base, 2).unwrap();
    assert_eq!(state_of(&base), state_after(2));
}

#[test]
fn an_ingest_of_no_rows_writes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let base = LsmBase::open(directory.path(), &BaseConfig::default()).unwrap();
    base.ingest(&mut std::iter::empty()).unwrap();
    assert_eq!(table_files(directory.path()), 0);
    assert_eq!(base.compact_step().unwrap(), CompactionStep::Nothing);
}

#[test]
fn a_reader_never_removes_files() {
    let directory = tempfile::tempdir().unwrap();
    let base = LsmBase::open(directory.path(), &tiny()).unwrap();
    ingest_round(&base, 1).unwrap();
    let view = base.view().unwrap();
    ingest_round(&base, 2).unwrap();
    base.compact_all().unwrap();
    let files = table_files(directory.path());
    drop(view);
    assert_eq!(table_files(directory.path()), files);
    assert_eq!(base.compact_step().unwrap(), CompactionStep::Nothing);
    assert!(table_files(directory.path()) < files);
}

/// This test program again, running one test alone.
fn child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            &format!("store::base::lsm::tests::{test}"),
            "--exact",
            "--nocapture",
        ])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The engine can not open a base again whose level 0 has 256 runs or more.
#[test]
fn ingestions_that_nobody_compacts_behind_can_be_read_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("base");
    let base = LsmBase::open(&directory, &small_tables()).unwrap();
    let last = 260;
    for round in 1..=last {
        ingest_round(&base, round).unwrap();
    }
    drop(base);
    let base = LsmBase::open(&directory, &small_tables()).unwrap();
    assert!(state_of(&base) == state_after(last));
}

/// Does nothing but in a child of [`kill_at_any_moment_leaves_whole_ingests`].
#[test]
fn child_that_ingests_until_killed() {
    let Some(directory) = env::var_os(CHILD_DIRECTORY) else {
        return;
    };
    let base = LsmBase::open(Path::new(&directory), &small_tables()).unwrap();
    let compacting = base.clone();
    thread::spawn(move || {
        loop {
            compacting.compact_step().unwrap();
        }
    });
    for round in last_round(&base) + 1.. {
        ingest_round(&base, round).unwrap();
        fs::write(
            Path::new(&directory).with_extension("returned"),
            round.to_string(),
        )
        .unwrap();
    }
}

fn small_tables() -> BaseConfig {
    BaseConfig {
        table_size_bytes: 64 << 10,
        ..tiny()
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn kill_at_any_moment_leaves_whole_ingests() {
    let rounds = env::var(ROUNDS).map_or(10, |rounds| rounds.parse().expect("a number of rounds"));
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("base");
    let mut chance = fastrand::Rng::new();
    let mut last = 0;
    for round in 0..rounds {
        let running = child("child_that_ingests_until_killed", &directory)
            .spawn()
            .unwrap();
        let life_ms = chance.u64(20..300);
        thread::sleep(Duration::from_millis(life_ms));
        kill(running);
        let base = LsmBase::open(&directory, &small_tables()).unwrap();
        let reached = last_round(&base);
        let returned = fs::read_to_string(directory.with_extension("returned")).unwrap_or_default();
        let returned: u64 = returned.parse().unwrap_or(last);
        assert!(
            reached >= returned.max(last),
            "kill {round}: ingest {returned} returned, {reached} is there"
        );
        assert!(
            state_of(&base) == state_after(reached),
            "kill {round} after {life_ms} ms, ingest {reached}"
        );
        last = reached;
    }
    assert!(last > 0, "no child lived long enough to ingest once");
}

#[test]
fn a_compaction_without_room_leaves_everything_as_it_was() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("base");
    let without_room = BaseConfig {
        compaction_reserve_bytes: u64::MAX,
        ..small_tables()
    };
    let base = LsmBase::open(&directory, &without_room).unwrap();
    for round in 0..6_u8 {
        let rows = (0..200).map(|number| (key(number), Some(Bytes::from(vec![round; 100]))));
        changes(&base, &rows.collect()).unwrap();
    }
    let (state, files) = (state_of(&base), table_files(&directory));
    let step = base.compact_step();
    assert!(matches!(step, Err(StoreError::BaseFull { .. })), "{step:?}");
    assert_eq!(table_files(&directory), files, "nothing half done takes the room");
    assert!(state_of(&base) == state);
    drop(base);
    let base = LsmBase::open(&directory, &small_tables()).unwrap();
    while base.compact_step().unwrap() == CompactionStep::Done {}
    assert!(table_files(&directory) < files);
    assert!(state_of(&base) == state);
}

/// Does nothing but in a child of [`an_ingest_too_large_for_its_file_changes_nothing`].
#[test]
fn child_with_a_limit_on_files() {
    let Some(directory) = env::var_os(CHILD_DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    let base = LsmBase::open(directory, &small_tables()).unwrap();
    let large = (0..4000).map(|number| (key(number), Some(Bytes::from(vec![b'x'; 1000]))));
    let files = table_files(directory);
    let failed = changes(&base, &large.collect());
    assert!(matches!(failed, Err(StoreError::Engine { .. })), "{failed:?}");
    assert_eq!(
        table_files(directory),
        files,
        "what it wrote is removed, there is little space"
    );
    assert_eq!(state_of(&base), state_after(1));
    let small = (0..40).map(|number| (key(number), Some(Bytes::from_static(b"x"))));
    changes(&base, &small.collect()).unwrap();
    assert_eq!(state_of(&base).len(), state_after(1).len() + 40);
    fs::write(directory.with_extension("done"), "").unwrap();
}

#[test]
fn an_ingest_too_large_for_its_file_changes_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("base");
    ingest_round(&LsmBase::open(&directory, &small_tables()).unwrap(), 1).unwrap();
    let limited = child("child_with_a_limit_on_files", &directory);
    // Half a megabyte per file, in the shell's unit (512 or 1024 bytes). The signal is ignored, so that writing fails.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""])
        .arg(limited.get_program())
        .args(limited.get_args())
        .env(CHILD_DIRECTORY, &directory)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(
        directory.with_extension("done").exists(),
        "the child ran its test"
    );
}
