//! The driver against a store in memory, which loses connections as it is told.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;

use bytes::Bytes;
use raftkv_client::Revision;
use thiserror::Error;

use super::*;
use crate::ledger::Ledger;
use crate::once::{History, Preload, Verify};
use crate::settings::{Settings, test_settings as settings};
use crate::target::{Asked, Found, Order, Swapped};

/// A store in memory: a target whose connections break after `answers_per_connection`.
#[derive(Default)]
struct Memory {
    state: Rc<RefCell<State>>,
    answers_per_connection: Option<usize>,
    connections: Cell<usize>,
}

#[derive(Default)]
struct State {
    kvs: BTreeMap<Vec<u8>, Found>,
    revision: u64,
}

impl State {
    fn write(&mut self, key: &[u8], value: &[u8]) -> Answered {
        self.revision += 1;
        let revision = Some(Revision(self.revision));
        let value = Bytes::copy_from_slice(value);
        self.kvs.insert(key.to_vec(), Found { value, revision });
        Answered::Written(revision)
    }

    fn swap(&mut self, writes: &[Swapped<'_>]) -> Answered {
        let is_unchanged = |swapped: &Swapped<'_>| self.kvs.get(swapped.key) == swapped.seen;
        if !writes.iter().all(is_unchanged) {
            return Answered::Conflict;
        }
        let written = writes
            .iter()
            .map(|swapped| self.write(swapped.key, swapped.value));
        written.last().expect("something is written")
    }
}

struct MemorySession {
    state: Rc<RefCell<State>>,
    answers: VecDeque<(usize, Answered)>,
    left: Option<usize>,
}

#[derive(Debug, Error)]
#[error("the connection broke")]
struct Broken;

impl Target for Memory {
    type Session = MemorySession;

    async fn version(&self) -> Result<String, Broken> {
        Ok("memory".to_owned())
    }

    async fn connect(&self) -> Result<MemorySession, Broken> {
        self.connections.set(self.connections.get() + 1);
        let state = Rc::clone(&self.state);
        Ok(MemorySession {
            state,
            answers: VecDeque::new(),
            left: self.answers_per_connection,
        })
    }
}

impl Session for MemorySession {
    type Error = Broken;

    fn enqueue(&mut self, slot: usize, _: Duration, asked: Asked<'_>) -> Result<(), &'static str> {
        let mut state = self.state.borrow_mut();
        let answered = match asked {
            Asked::Get { key } => Answered::Read(state.kvs.get(key).cloned()),
            Asked::Scan { keys, .. } => Answered::Scanned { keys: keys.into() },
            Asked::Put { key, value } => state.write(key, value),
            Asked::Swap(swapped) => state.swap(&[swapped]),
            Asked::SwapBoth(writes) => state.swap(&writes),
            Asked::Grant { .. } | Asked::Attach { .. } | Asked::Revoke { .. } => return Err("no_leases"),
        };
        // The last asked is answered first.
        self.answers.push_front((slot, answered));
        Ok(())
    }

    fn send(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    async fn drive(&mut self) -> Result<(), Broken> {
        match self.answers.is_empty() {
            true => std::future::pending().await,
            false => tokio::task::yield_now().await,
        }
        Ok(())
    }

    fn next_answer(&mut self) -> Result<Option<(usize, Answered)>, Broken> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Broken)?;
        }
        Ok(self.answers.pop_front())
    }
}

async fn drive<W: Work>(memory: Memory, work: W, settings: &Settings, pace: Pace) -> (Memory, W) {
    let (target, work) = (Rc::new(memory), Rc::new(RefCell::new(work)));
    let encoding = Encoding::new(settings);
    let driver = Driver::new(
        Rc::clone(&target),
        Rc::clone(&work),
        encoding,
        pace,
        settings.clients,
        settings.timeout,
    );
    driver.run().await.unwrap();
    let work = Rc::into_inner(work).expect("the driver is gone").into_inner();
    (Rc::into_inner(target).expect("the driver is gone"), work)
}

fn history(keys: u64) -> History {
    History::new(Some(Ledger::new(keys, Order::ByRevision)))
}

#[tokio::test]
async fn every_key_is_written_once_and_read_back_even_when_connections_break() {
    let settings = settings(&["put", "--keys", "500", "--clients", "8"]);
    let memory = Memory {
        answers_per_connection: Some(20),
        ..Memory::default()
    };
    let (memory, preload) = drive(
        memory,
        Preload::new(&settings, history(500)),
        &settings,
        Pace::Closed,
    )
    .await;
    let history = preload.finish().unwrap();
    assert!(memory.connections.get() > 10);
    assert_eq!(memory.state.borrow().kvs.len(), 500);
    let ledger = history.ledger.unwrap();
    assert_eq!(ledger.acknowledged(), 500);
    assert!(ledger.in_doubt() > 0, "answers were lost with their connections");

    let verify = Verify::new(&settings, ledger);
    let (_, verify) = drive(memory, verify, &settings, Pace::Closed).await;
    assert_eq!(verify.finish().unwrap().violations(), []);
}

#[tokio::test]
async fn a_write_that_the_store_forgets_is_found() {
    let settings = settings(&["put", "--keys", "50", "--clients", "4"]);
    let (memory, preload) = drive(
        Memory::default(),
        Preload::new(&settings, history(50)),
        &settings,
        Pace::Closed,
    )
    .await;
    let ledger = preload.finish().unwrap().ledger.unwrap();
    memory.state.borrow_mut().kvs.remove(&b"0000000000000007"[..]);
    let (_, verify) = drive(memory, Verify::new(&settings, ledger), &settings, Pace::Closed).await;
    assert_eq!(verify.finish().unwrap().violations().len(), 1);
}

#[tokio::test]
async fn an_open_loop_starts_no_operation_before_it_is_due_and_counts_from_then() {
    struct Watch {
        seen: Vec<(Instant, Instant)>,
        left: u64,
    }
    impl Work for Watch {
        fn next(&mut self, _: Instant, _: Instant) -> Option<Operation> {
            self.left = self.left.checked_sub(1)?;
            Some(Operation::Get { key: 0 })
        }
        fn completed(&mut self, _: Operation, since: Instant, now: Instant, _: &Answered) {
            self.seen.push((since, now));
        }
        fn is_over(&self, _: Instant) -> bool {
            self.left == 0
        }
        fn progress(&mut self, _: Instant) -> String {
            String::new()
        }
    }
    let settings = settings(&["get", "--clients", "2"]);
    let (begin, rate) = (Instant::now(), NonZeroU32::new(1000).unwrap());
    let pacer = crate::pacer::Pacer::start(begin, rate, 1);
    let pace = Pace::Open {
        schedule: Schedule::new(begin, rate, 0, 1),
        due: pacer.due(0),
    };
    let watch = Watch {
        seen: Vec::new(),
        left: 20,
    };
    let (_, mut watch) = drive(Memory::default(), watch, &settings, pace).await;
    assert_eq!(watch.seen.len(), 20);
    // What is due at once is answered in any order.
    watch.seen.sort_unstable();
    for (n, (since, now)) in watch.seen.iter().enumerate() {
        assert!(now >= since, "answered before it was due");
        assert_eq!(*since, crate::schedule::due(begin, rate, n as u64));
    }
}

#[tokio::test]
async fn a_compare_and_set_writes_only_over_what_it_read_and_counts_once() {
    let settings = settings(&[
        "cas",
        "--keys",
        "1",
        "--clients",
        "8",
        "--operations",
        "80",
        "--warmup",
        "0s",
    ]);
    let measured = crate::measured::Measured::new(&settings, history(1), Instant::now());
    let (memory, measured) = drive(Memory::default(), measured, &settings, Pace::Closed).await;
    let measurement = measured.finish();
    let recorder = &measurement.recorder;
    assert_eq!((recorder.answers, recorder.writes.len()), (80, 80));
    // All eight read the same value; the first write wins, and the others are in vain.
    assert!(recorder.conflicts >= 60, "{} conflicts", recorder.conflicts);
    let written = memory.state.borrow().revision;
    assert_eq!(written, 80 - recorder.conflicts);
    let ledger = measurement.history.ledger.unwrap();
    assert_eq!((ledger.acknowledged(), ledger.in_doubt()), (written, 0));
}
