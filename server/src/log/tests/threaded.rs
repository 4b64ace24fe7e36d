//! The log behind its queue.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use raftkv_raft::{Index, WriteNumber};

use super::model::*;
use crate::disk::SimulatedDisk;
use crate::log::{LogError, LogReport, LogThread};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn writes_are_reported_in_order_and_durable_when_reported() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let (report, reports) = mpsc::channel();
    let platter = disk.clone();
    let thread = LogThread::spawn(create(&disk), move |outcome| match outcome.unwrap() {
        LogReport::Writing => {}
        done => report.send((done, platter.durable_image())).unwrap(),
    })
    .unwrap();
    for _ in 0..100 {
        thread.write(model.commands(3, 20));
    }
    let mut reported = WriteNumber(0);
    while reported < WriteNumber(100) {
        let (report, image) = reports.recv_timeout(DEADLINE).unwrap();
        let LogReport::Persisted(number) = report else {
            panic!("nothing was cut, {report:?}");
        };
        assert!(number > reported);
        reported = number;
        let last = open(&SimulatedDisk::with_image(1, image)).last.index.get();
        assert!(
            last > number.0 * 3,
            "write {number:?} is reported, the platter ends at {last}"
        );
    }
    let deadline = Instant::now() + DEADLINE;
    while thread.queued_bytes() > 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    thread.stop().unwrap();
    disk.power_lost();
    expect(&open(&disk), &model);
}

#[test]
fn a_clean_stop_writes_what_is_queued() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let thread = LogThread::spawn(create(&disk), |outcome| {
        outcome.unwrap();
    })
    .unwrap();
    for _ in 0..50 {
        thread.write(model.commands(1, 20));
    }
    thread.stop().unwrap();
    disk.power_lost();
    expect(&open(&disk), &model);
}

#[test]
fn a_cut_is_reported_behind_the_writes_before_it_and_keeps_what_it_must() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let (report, reports) = mpsc::channel();
    let thread = LogThread::spawn(create(&disk), move |outcome| match outcome.unwrap() {
        LogReport::Writing => {}
        done => report.send(done).unwrap(),
    })
    .unwrap();
    for number in 1..100 {
        // One at a time: what waits together becomes one batch, and a batch is never split.
        thread.write(model.commands(3, 500));
        let done = reports.recv_timeout(DEADLINE).unwrap();
        assert_eq!(done, LogReport::Persisted(WriteNumber(number)));
    }
    let keep_from = Index::new(200).unwrap();
    thread.write(model.write(hard_state(1, 290), None, Vec::new()));
    thread.cut(keep_from);
    let done = reports.recv_timeout(DEADLINE).unwrap();
    assert_eq!(done, LogReport::Persisted(WriteNumber(100)));
    let LogReport::Cut(base) = reports.recv_timeout(DEADLINE).unwrap() else {
        panic!("nothing else was asked for");
    };
    assert!(
        base.index < keep_from,
        "{base} is the entry below the first that is kept"
    );
    assert!(base.index > Index::FIRST, "whole segments were given up");
    thread.stop().unwrap();
    assert_eq!(open(&disk).base, base);
}

#[test]
fn d01_a_failed_sync_is_reported_once_and_nothing_after_it() {
    let disk = SimulatedDisk::new(1);
    let mut model = Model::new();
    let (report, reports) = mpsc::channel();
    let log = create(&disk);
    log.spare_pool().prepare().unwrap();
    disk.fail_sync_after(0);
    let thread = LogThread::spawn(log, move |outcome| report.send(outcome).unwrap()).unwrap();
    thread.write(model.commands(1, 20));
    let begun = reports.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(begun, Ok(LogReport::Writing)), "{begun:?}");
    let failed = reports.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(failed, Err(LogError::Io { .. })), "{failed:?}");
    thread.write(model.commands(1, 20));
    assert!(matches!(thread.stop(), Err(LogError::Stopped)));
    assert!(reports.recv().is_err(), "nothing follows the error");
}
