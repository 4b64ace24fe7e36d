//! Drains under a running cluster: what the base, the log and history hold, and what writers are told.

use std::time::Duration;

use raftkv_protocol::{Answer, Condition, Consistency, ErrorCode, Revision};

use super::cluster::{Cluster, code, config, delete, found, get, put, put_if, put_with_ttl};
use crate::replica::{NodeConfig, RetentionConfig};
use crate::store::StoreConfig;
use crate::store::history::HistoryLimits;

/// Everything is tiny: a generation ends with nearly every batch, and memory keeps nothing that the base holds.
pub(super) fn tiny(number: usize) -> NodeConfig {
    NodeConfig {
        store: StoreConfig {
            overlay_bytes: 1600,
            cache_bytes: 1000,
        },
        retention: RetentionConfig {
            freeze_log_bytes: 1000,
            log_tail_bytes: 500,
            log_tail_entries: 5,
            history: HistoryLimits {
                max_age_us: u64::MAX,
                max_events: 40,
                max_bytes: u64::MAX,
            },
            reserve_bytes: 1000,
            ..RetentionConfig::default()
        },
        ..config(number, &[1, 2, 3])
    }
}

fn ready() -> Cluster {
    let mut cluster = Cluster::new((1..=3).map(tiny).collect(), 7);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    cluster
}

pub(super) fn write_many(cluster: &mut Cluster, machines: &[usize], count: usize) {
    for number in 0..count {
        let key = format!("key{}", number % 10);
        let answer = cluster.call(
            machines[number % machines.len()],
            put(&key, &format!("value{number}")),
        );
        assert!(answer.outcome.is_ok(), "{answer:?}");
    }
}

fn value(cluster: &mut Cluster, key: &str) -> (String, u64) {
    let answer = cluster.call(0, get(key, Consistency::Linearizable));
    let record = found(&answer).expect("the key exists");
    (
        String::from_utf8_lossy(&record.value).into_owned(),
        record.version,
    )
}

#[test]
fn drained_records_are_read_back_and_the_log_is_cut_behind_them() {
    let mut cluster = ready();
    write_many(&mut cluster, &[0, 1, 2], 100);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(value(&mut cluster, "key3"), ("value93".to_owned(), 10));
    assert!(cluster.lookups > 0, "some record was asked of the base");
    for machine in 0..3 {
        let (base, history) = cluster.kept(machine);
        assert!(
            base.index.get() > 50,
            "the log of machine {machine} begins behind {base}"
        );
        assert!(history.events <= 60, "history keeps what it must: {history:?}");
        assert!(history.oldest_kept > Revision(1));
    }
    let hashes: Vec<_> = (0..3)
        .map(|machine| cluster.node(machine).store().unwrap().state_hash())
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
}

#[test]
fn a_restart_goes_on_from_the_base_and_the_rest_of_the_log() {
    let mut cluster = ready();
    write_many(&mut cluster, &[0, 1, 2], 60);
    assert!(
        cluster
            .call(1, put_with_ttl("short", "x", Some(60_000)))
            .outcome
            .is_ok()
    );
    cluster.run_for(Duration::from_secs(1));
    let before = cluster.node(0).store().unwrap().state_hash();
    (0..3).for_each(|machine| cluster.kill(machine));
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all are ready", Cluster::all_ready);
    let store = cluster.node(0).store().unwrap();
    assert!(store.has_deadlines(), "deadlines come back from the base");
    assert_ne!(store.state_hash(), before, "the new leader's no-op is an effect");
    assert_eq!(value(&mut cluster, "key9"), ("value59".to_owned(), 6));
    write_many(&mut cluster, &[0, 1, 2], 30);
    assert_eq!(value(&mut cluster, "key9"), ("value29".to_owned(), 9));
}

#[test]
fn a_quiet_cluster_stays_quiet_though_history_can_not_be_as_small_as_it_should() {
    let quick = |number| {
        let mut config = tiny(number);
        config.retention.freeze_age = Duration::from_millis(5);
        config.retention.history.max_bytes = 1;
        config
    };
    let mut cluster = Cluster::new((1..=3).map(quick).collect(), 7);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    write_many(&mut cluster, &[0, 1, 2], 20);
    cluster.run_for(Duration::from_secs(1));
    let applied = cluster.node(0).store().unwrap().applied();
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.node(0).store().unwrap().applied(), applied);
}

#[test]
pub(super) fn entries_that_depend_on_drained_records_wait_for_them() {
    let mut cluster = ready();
    let Ok(Answer::Put { revision }) = cluster.call(0, put("guarded", "1")).outcome else {
        panic!("a put answers with its revision");
    };
    write_many(&mut cluster, &[0, 1, 2], 40);
    cluster.run_for(Duration::from_secs(1));
    let refused = cluster.call(1, put_if("guarded", "no", Condition::Absent));
    assert_eq!(
        refused.outcome,
        Ok(Answer::ConditionFailed {
            current: Some(revision)
        })
    );
    let taken = cluster.call(2, put_if("guarded", "2", Condition::ModRevision(revision)));
    assert!(matches!(taken.outcome, Ok(Answer::Put { .. })), "{taken:?}");
    write_many(&mut cluster, &[0, 1, 2], 40);
    cluster.run_for(Duration::from_secs(1));
    let Ok(Answer::Deleted { existed, .. }) = cluster.call(0, delete("guarded")).outcome else {
        panic!("a delete answers whether there was something");
    };
    assert!(existed);
    let Ok(Answer::Deleted { existed, .. }) = cluster.call(0, delete("guarded")).outcome else {
        panic!("a delete answers whether there was something");
    };
    assert!(!existed);
}

#[test]
fn a_nearly_full_disk_refuses_puts_and_takes_deletes_until_there_is_room_again() {
    let mut cluster = ready();
    write_many(&mut cluster, &[0, 1, 2], 10);
    (0..3).for_each(|machine| cluster.measure(machine, 999));
    let refused = cluster.call(0, put("more", "x"));
    assert_eq!(code(&refused), Some(ErrorCode::NoSpace));
    assert_eq!(value(&mut cluster, "key1"), ("value1".to_owned(), 1));
    assert!(cluster.call(1, delete("key1")).outcome.is_ok());
    cluster.run_for(Duration::from_secs(1));
    let (base, _) = cluster.kept(0);
    let applied = cluster.node(0).store().unwrap().applied().unwrap();
    assert!(
        base.index.next() >= applied,
        "the log is given up at once: {base}, applied {applied}"
    );
    (0..3).for_each(|machine| cluster.measure(machine, 1250));
    assert!(cluster.call(0, put("more", "x")).outcome.is_ok());
}

/// Ten records of 30,000 bytes, drained; the disk's reserve is 400,000 bytes.
fn with_large_records() -> Cluster {
    let roomy = |number| {
        let mut config = tiny(number);
        config.retention.history.max_events = 1 << 30;
        config.retention.reserve_bytes = 400_000;
        config
    };
    let mut cluster = Cluster::new((1..=3).map(roomy).collect(), 7);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    for number in 0..10 {
        let answer = cluster.call(0, put(&format!("key{number}"), &"x".repeat(30_000)));
        assert!(answer.outcome.is_ok(), "{answer:?}");
    }
    cluster.run_for(Duration::from_secs(2));
    cluster
}

/// All ten, without waiting for one before the next.
fn delete_at_once(cluster: &mut Cluster) {
    let deletes: Vec<_> = (0..10)
        .map(|number| cluster.ask(0, delete(&format!("key{number}"))))
        .collect();
    for token in deletes {
        let answer = cluster.wait(token);
        assert!(answer.outcome.is_ok(), "{answer:?}");
    }
}

/// The largest of a generation's before-images on this machine, of those that are kept.
fn largest_images(cluster: &Cluster, machine: usize) -> u64 {
    let (_, history) = cluster.kept(machine);
    let images = history
        .generations
        .iter()
        .map(|generation| generation.image_bytes);
    images.max().unwrap_or(0)
}

#[test]
fn deletes_on_a_nearly_full_disk_leave_hardly_a_before_image() {
    let mut cluster = with_large_records();
    (0..3).for_each(|machine| cluster.measure(machine, 399_999));
    delete_at_once(&mut cluster);
    for _ in 0..10 {
        cluster.run_for(Duration::from_millis(200));
        for machine in 0..3 {
            let images = largest_images(&cluster, machine);
            assert!(
                images < 50_000,
                "{images} bytes of before-images on machine {machine}"
            );
        }
    }
    let store = cluster.node(0).store().unwrap();
    assert_eq!(store.oldest_kept(), store.revision());
}

#[test]
fn one_generation_takes_less_away_the_less_room_there_is() {
    // A quarter of the reserve, so four of them, where there is plenty; one of them where there is hardly more than that.
    for (free_bytes, expected) in [(1 << 40, 120_000..150_000), (400_001, 30_000..50_000)] {
        let mut cluster = with_large_records();
        (0..3).for_each(|machine| cluster.measure(machine, free_bytes));
        delete_at_once(&mut cluster);
        cluster.run_for(Duration::from_secs(2));
        for machine in 0..3 {
            let images = largest_images(&cluster, machine);
            assert!(
                expected.contains(&images),
                "{images} bytes of before-images on machine {machine}, {free_bytes} are free"
            );
        }
    }
}

#[test]
fn a_disk_that_is_full_of_history_alone_is_not_full_for_ever() {
    let lasting = |number| {
        let mut config = tiny(number);
        config.retention.history.max_bytes = 1 << 30;
        config.retention.history.max_events = 1 << 30;
        config
    };
    let mut cluster = Cluster::new((1..=3).map(lasting).collect(), 7);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    write_many(&mut cluster, &[0, 1, 2], 60);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(cluster.node(0).store().unwrap().oldest_kept(), Revision(1));
    // Nobody writes any more, nobody could: puts are refused.
    for _ in 0..20 {
        (0..3).for_each(|machine| cluster.measure(machine, 999));
        cluster.run_for(Duration::from_millis(100));
    }
    for machine in 0..3 {
        let store = cluster.node(machine).store().unwrap();
        assert!(
            store.oldest_kept() > Revision(40),
            "{} of {}",
            store.oldest_kept(),
            store.revision()
        );
    }
    let applied = cluster.node(0).store().unwrap().applied();
    (0..3).for_each(|machine| cluster.measure(machine, 999));
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(
        cluster.node(0).store().unwrap().applied(),
        applied,
        "there is nothing more to give up"
    );
}
