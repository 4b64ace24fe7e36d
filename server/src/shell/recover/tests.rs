//! A crash anywhere in a recovery leaves the old member, or a recovery to go on with, or the new cluster: never a mix.
//!
//! Swept here and not in the simulator, which recovers too, because the marks stand on the real disk and the real engine. A crash is one of the
//! process: the page cache stays. What it finds between two calls to the disk, ingests included, is what the next call finds.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use raftkv_protocol::{Address, CheckedCommand, Command, Condition, Limits, Member};
use raftkv_raft::{Entry, EntryId, EntryKind, HardState, Index, Stamp, Term, Write, WriteNumber};

use super::*;
use crate::disk::{DataDirectoryError, crash, quarantine};
use crate::log::{Log, LogOwner};
use crate::recovery::{LEAP, configuration_at};
use crate::replica::{Finding, Hashes, Quarantine};

const OLD_CLUSTER: ClusterId = ClusterId(7);
const OLD_IDENTITY: NodeId = NodeId(11);
const KEYS: u64 = 12;
/// Small segments: each point of a sweep makes several.
const LOG: LogConfig = LogConfig {
    segment_size_bytes: 16 << 10,
    spare_segments: 0,
};

fn config(directory: &Path) -> Config {
    let mut config = Config::local("n1", directory.to_owned());
    config.log = LOG;
    config
}

fn old_membership() -> Membership {
    let member = |number: u64| Member {
        name: NodeName::from(format!("n{number}").as_str()),
        identity: NodeId(OLD_IDENTITY.0 + number - 1),
        address: Address::from(format!("10.0.0.{number}:7000").as_str()),
        http: None,
        voter: true,
    };
    Membership::of(OLD_CLUSTER, (1..=3).map(member).collect())
}

fn put(number: u64) -> Entry {
    let key = format!("k{number}");
    let command = Command::Put {
        key: key.as_bytes(),
        value: b"v",
        condition: Condition::Always,
        ttl_ms: None,
    };
    let checked = CheckedCommand::new(&command, &Limits::default()).expect("a good command");
    Entry {
        id: place(number + 1),
        kind: EntryKind::Command,
        stamp: Stamp::default(),
        payload: checked.encoded().clone(),
        configuration: None,
    }
}

/// A place in the old log.
fn place(index: u64) -> EntryId {
    EntryId {
        term: Term(1),
        index: Index::new(index).expect("counted from 1"),
    }
}

fn committed(index: u64) -> HardState {
    HardState {
        term: Term(1),
        vote: None,
        commit: place(index).index,
    }
}

fn append(log: &mut Log<RealDisk>, entry: Entry) -> Result<(), ServerError> {
    let write = Write {
        number: WriteNumber::default(),
        hard_state: committed(entry.id.index.get()),
        truncate_from: None,
        entries: vec![entry],
    };
    log.append(&[write])?;
    log.sync()?;
    log.mark()?;
    Ok(())
}

/// The directory of one of three members: half of its keys are in the base, all in the log.
fn survivor(directory: &Path) {
    let config = config(directory);
    let disk = RealDisk::open(directory).expect("a disk");
    let name = NodeName::from("n1");
    identity::load_or_create(&disk, &name, OLD_IDENTITY).expect("an identity");
    let owner = LogOwner {
        cluster: OLD_CLUSTER,
        node: OLD_IDENTITY,
    };
    let founding = configuration_at(place(1), &old_membership());
    let log = Log::create(disk.clone(), config.log, owner, &founding, committed(1));
    let mut log = log.expect("a log");
    for number in 1..=KEYS / 2 {
        append(&mut log, put(number)).expect("room");
    }
    drop(log);
    let storage = storage::open_on(&config, disk.clone(), OLD_IDENTITY).expect("opens");
    fold(&config, storage).expect("drains");
    let recovered = Log::open(disk, config.log, OLD_IDENTITY).expect("opens");
    let mut log = recovered.expect("a log").log;
    for number in KEYS / 2 + 1..=KEYS {
        append(&mut log, put(number)).expect("room");
    }
}

/// Opens what a server would. Another test's child process holds a copy of each open file, locks included, between its fork
/// and its exec: such a lock goes by itself.
fn open(directory: &Path) -> Result<Storage, ServerError> {
    retried(|| storage::open(&config(directory)))
}

fn retried<T>(act: impl Fn() -> Result<T, ServerError>) -> Result<T, ServerError> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match act() {
            Err(ServerError::DataDirectory(DataDirectoryError::Locked { .. }))
                if Instant::now() < deadline =>
            {
                std::thread::yield_now();
            }
            ended => return ended,
        }
    }
}

/// One member under a new identity, nobody of the old ones, and all that was durable.
fn assert_recovered(directory: &Path) {
    let storage = open(directory).expect("a server can start");
    let membership = storage.membership.expect("members");
    assert_ne!(membership.cluster, OLD_CLUSTER);
    assert_eq!(membership.members.len(), 1, "{membership:?}");
    assert_eq!(membership.members[0].identity, storage.identity);
    for old in old_membership().everyone() {
        assert!(membership.was_removed(old.identity), "{membership:?}");
    }
    let state = storage.restored.expect("a state").state.expect("in the base");
    // Revision 1 is the empty store's. A crash at the very end leaves a new cluster, which is then recovered once more.
    let Revision(revision) = state.companions.revision;
    assert_eq!(revision % LEAP, KEYS + 1, "an acknowledged write is lost");
    assert!(revision > LEAP, "revisions that may be lost are given again");
    assert!(state.companions.names_from >= LEAP, "and so are names");
    assert_eq!(
        storage.store.history.oldest_kept(),
        Revision(1),
        "history is kept"
    );
}

/// What a server finds that starts on what a crash left.
fn assert_old_or_new(directory: &Path) {
    match open(directory) {
        Err(ServerError::RecoveryUnfinished { .. }) => {}
        Err(error) => panic!("neither the old nor the new: {error}"),
        Ok(storage) => {
            let membership = storage.membership.as_ref().expect("members");
            if membership.cluster == OLD_CLUSTER {
                assert_eq!(*membership, old_membership());
                assert_eq!(storage.identity, OLD_IDENTITY);
                let restored = storage.restored.expect("a log");
                assert_eq!(restored.log.last, place(KEYS + 1), "the old log is whole");
            } else {
                drop(storage);
                assert_recovered(directory);
            }
        }
    }
}

#[test]
fn a_directory_in_quarantine_is_not_recovered_from_unless_the_operator_takes_that_away() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    survivor(directory.path());
    let quarantine = Quarantine {
        found_at: Index::FIRST,
        finding: Finding::Effects {
            agreed: None,
            hashes: Hashes { own: 1, majority: 2 },
        },
    };
    let disk = RealDisk::open(directory.path()).expect("a disk");
    quarantine::store(&disk, &quarantine).expect("it is kept");
    drop(disk);
    let refused = recover(directory.path(), LOG).expect_err("it is refused");
    assert!(
        matches!(refused, ServerError::RecoveryFromQuarantine { .. }),
        "{refused}"
    );
    std::fs::remove_file(directory.path().join("quarantine")).expect("taken away");
    recover(directory.path(), LOG).expect("recovered");
}

#[test]
fn p01_a_crash_at_any_call_to_the_disk_leaves_the_old_member_or_the_new_cluster() {
    let whole = tempfile::tempdir().expect("a directory");
    survivor(whole.path());
    crash::after(u64::MAX);
    let recovered = retried(|| recover(whole.path(), LOG));
    let calls = crash::never();
    recovered.expect("nothing crashes");
    assert_recovered(whole.path());
    assert!(calls > 20, "only {calls} calls change the disk");
    for call in 0..calls {
        let directory = tempfile::tempdir().expect("a directory");
        survivor(directory.path());
        let ended = retried(|| {
            crash::after(call);
            recover(directory.path(), LOG)
        });
        crash::never();
        assert!(ended.is_err(), "crashed at call {call}");
        assert_old_or_new(directory.path());
        retried(|| recover(directory.path(), LOG))
            .unwrap_or_else(|error| panic!("after a crash at call {call}: {error}"));
        assert_recovered(directory.path());
    }
}

/// As a member leaves it that was killed when it had just been founded.
#[test]
fn a_directory_with_nothing_but_the_founding_is_refused_and_left_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path());
    let disk = RealDisk::open(directory.path()).expect("a disk");
    identity::load_or_create(&disk, &NodeName::from("n1"), OLD_IDENTITY).expect("an identity");
    let owner = LogOwner {
        cluster: OLD_CLUSTER,
        node: OLD_IDENTITY,
    };
    let founding = configuration_at(place(1), &old_membership());
    drop(Log::create(disk, config.log, owner, &founding, committed(1)).expect("a log"));
    let refused = retried(|| recover(directory.path(), LOG));
    assert!(
        matches!(refused, Err(ServerError::NothingToRecover { .. })),
        "{refused:?}"
    );
    let storage = open(directory.path()).expect("a server can start");
    assert_eq!(storage.membership, Some(old_membership()));
}

#[test]
fn the_directory_of_a_node_that_was_removed_is_refused_and_left_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    survivor(directory.path());
    let disk = RealDisk::open(directory.path()).expect("a disk");
    identity::replace(&disk, &NodeName::from("n9"), OLD_IDENTITY).expect("an identity");
    drop(disk);
    let refused = retried(|| recover(directory.path(), LOG));
    assert!(
        matches!(refused, Err(ServerError::NothingToRecover { .. })),
        "{refused:?}"
    );
    let disk = RealDisk::open(directory.path()).expect("a disk");
    assert!(
        matches!(recovery_mark::read(&disk), Ok(None)),
        "nothing was begun"
    );
}

/// Sessions, the leases whose ids the server chose, and idempotency keys are named after the place of their entry, which no
/// other entry must ever have again: else a new session is given the id, and the answers, of one that lives on from before.
#[test]
fn the_new_log_goes_on_behind_every_place_of_the_old_one() {
    let directory = tempfile::tempdir().expect("a directory");
    survivor(directory.path());
    retried(|| recover(directory.path(), LOG)).expect("recovers");
    let storage = open(directory.path()).expect("a server can start");
    let log = storage.restored.expect("a log").log;
    let old = place(KEYS + 1);
    assert!(log.base.index >= old.index, "begins behind {}", log.base);
    assert!(log.last.term > old.term, "ends with {}", log.last);
}

/// The planted bug: the mark says that the base holds everything, and it does not.
#[test]
fn a_mark_that_comes_too_early_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    survivor(directory.path());
    let mark = RecoveryMark {
        stage: Stage::Base,
        cluster: ClusterId(8),
        identity: NodeId(21),
    };
    let disk = retried(|| Ok(RealDisk::open(directory.path())?)).expect("a disk");
    recovery_mark::write(&disk, mark).expect("room");
    drop(disk);
    retried(|| recover(directory.path(), LOG)).expect("goes on from the mark");
    let checked = catch_unwind(|| assert_recovered(directory.path()));
    assert!(checked.is_err(), "half of the keys are gone, and nobody noticed");
}
