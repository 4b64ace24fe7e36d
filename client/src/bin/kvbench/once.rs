//! Phases that touch every key once: the preload, and reading back.

use std::time::Instant;

use crate::arguments::Settings;
use crate::ledger::{Ledger, ReadBack};
use crate::load::{Encoding, Operation};
use crate::target::Answered;
use crate::trouble::Trouble;
use crate::work::Work;

/// So many failed operations end a phase.
const MAX_FAILURES: u64 = 10_000;

/// What one phase leaves to the next.
#[derive(Debug)]
pub(crate) struct History {
    /// What must be there at the end; `None` unless that is verified.
    pub(crate) ledger: Option<Ledger>,
    /// The number of the next write.
    pub(crate) next_write: u64,
}

/// The keys that are still to be done.
#[derive(Debug)]
struct Keys {
    next: u64,
    keys: u64,
    again: Vec<u64>,
    done: u64,
    failures: u64,
}

impl Keys {
    fn new(keys: u64) -> Keys {
        Keys {
            next: 0,
            keys,
            again: Vec::new(),
            done: 0,
            failures: 0,
        }
    }

    fn take(&mut self) -> Option<u64> {
        if self.failures > MAX_FAILURES {
            return None;
        }
        self.again.pop().or_else(|| {
            let key = self.next;
            self.next += u64::from(key < self.keys);
            (key < self.keys).then_some(key)
        })
    }

    fn failed(&mut self, key: u64) {
        self.failures += 1;
        self.again.push(key);
    }

    fn is_over(&self) -> bool {
        self.failures > MAX_FAILURES || (self.next == self.keys && self.again.is_empty())
    }

    fn finish(&self, phase: &'static str) -> Result<(), Trouble> {
        match self.keys - self.done {
            0 => Ok(()),
            left => Err(Trouble::TooManyFailures {
                phase,
                failures: self.failures,
                left,
            }),
        }
    }
}

/// Writes every key once.
#[derive(Debug)]
pub(crate) struct Preload {
    keys: Keys,
    history: History,
}

impl Preload {
    pub(crate) fn new(settings: &Settings, history: History) -> Preload {
        Preload {
            keys: Keys::new(settings.keys),
            history,
        }
    }

    pub(crate) fn finish(self) -> Result<History, Trouble> {
        self.keys.finish("the preload").map(|()| self.history)
    }
}

impl Work for Preload {
    fn next(&mut self, _: Instant, _: Instant) -> Option<Operation> {
        let key = self.keys.take()?;
        let write = self.history.next_write;
        self.history.next_write += 1;
        Some(Operation::Put { key, write })
    }

    fn completed(&mut self, operation: Operation, _: Instant, _: Instant, answered: &Answered) {
        let (Operation::Put { key, .. } | Operation::Get { key }) = operation;
        note(self.history.ledger.as_mut(), operation, answered);
        match answered {
            Answered::Written(_) => self.keys.done += 1,
            Answered::Read(_) | Answered::Refused(_) | Answered::Unknown(_) => self.keys.failed(key),
        }
    }

    fn is_over(&self, _: Instant) -> bool {
        self.keys.is_over()
    }

    fn progress(&mut self, _: Instant) -> String {
        format!("preload: {} of {} keys", self.keys.done, self.keys.keys)
    }
}

/// Enters a write's fate into the ledger, if one is kept.
pub(crate) fn note(ledger: Option<&mut Ledger>, operation: Operation, answered: &Answered) {
    let (Some(ledger), Operation::Put { key, write }) = (ledger, operation) else {
        return;
    };
    match answered {
        Answered::Written(revision) => ledger.acknowledge(key, write, *revision),
        Answered::Unknown(_) => ledger.doubt(key, write),
        // A put is not answered with a read; if it is, it was not acknowledged.
        Answered::Read(_) => ledger.doubt(key, write),
        Answered::Refused(_) => {}
    }
}

/// Reads every key once, and compares.
#[derive(Debug)]
pub(crate) struct Verify {
    keys: Keys,
    ledger: Ledger,
    encoding: Encoding,
}

impl Verify {
    pub(crate) fn new(settings: &Settings, ledger: Ledger) -> Verify {
        Verify {
            keys: Keys::new(settings.keys),
            ledger,
            encoding: Encoding::new(settings),
        }
    }

    pub(crate) fn finish(self) -> Result<Ledger, Trouble> {
        self.keys.finish("reading back").map(|()| self.ledger)
    }
}

impl Work for Verify {
    fn next(&mut self, _: Instant, _: Instant) -> Option<Operation> {
        self.keys.take().map(|key| Operation::Get { key })
    }

    fn completed(&mut self, operation: Operation, _: Instant, _: Instant, answered: &Answered) {
        let (Operation::Put { key, .. } | Operation::Get { key }) = operation;
        match answered {
            Answered::Read(found) => {
                let read_back = found.as_ref().map(|(value, revision)| ReadBack {
                    revision: *revision,
                    write: self.encoding.write_of(value),
                });
                self.ledger.check(key, read_back);
                self.keys.done += 1;
            }
            Answered::Written(_) | Answered::Refused(_) | Answered::Unknown(_) => self.keys.failed(key),
        }
    }

    fn is_over(&self, _: Instant) -> bool {
        self.keys.is_over()
    }

    fn progress(&mut self, _: Instant) -> String {
        format!("reading back: {} of {} keys", self.keys.done, self.keys.keys)
    }
}
