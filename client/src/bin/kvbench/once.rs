//! Phases that touch every key once: the preload, and reading back.

use std::time::Instant;

use crate::ledger::{Acknowledged, Ledger, ReadBack};
use crate::load::Encoding;
use crate::operation::{Operation, TransferStep};
use crate::settings::Settings;
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

/// Writes are numbered from a random begin below this: what an earlier run left there is then not taken for ours.
const FIRST_WRITES: u64 = 1 << 40;

impl History {
    pub(crate) fn new(ledger: Option<Ledger>) -> History {
        History {
            ledger,
            next_write: fastrand::u64(..FIRST_WRITES),
        }
    }

    /// Enters a write's fate into the ledger, if one is kept.
    pub(crate) fn note(&mut self, operation: Operation, answered: &Answered) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        let (keys, write) = match operation {
            Operation::Put { key, write } | Operation::CasWrite { key, write } => ([Some(key), None], write),
            Operation::Transfer {
                from,
                to,
                write,
                step: TransferStep::Write,
            } => ([Some(from), Some(to)], write),
            Operation::Get { .. }
            | Operation::Scan { .. }
            | Operation::CasRead { .. }
            | Operation::Transfer { .. } => return,
            // Its key is gone in the end: no ledger is kept of it.
            Operation::Lease { .. } => return,
        };
        for key in keys.into_iter().flatten() {
            match answered {
                Answered::Written(revision) => ledger.acknowledge(
                    key,
                    Acknowledged {
                        write,
                        revision: *revision,
                        next_write: self.next_write,
                    },
                ),
                // A write is not answered with a read; if it is, it was not acknowledged.
                Answered::Unknown(_)
                | Answered::Read(_)
                | Answered::Scanned { .. }
                | Answered::Granted(_)
                | Answered::Revoked => ledger.doubt(key, write),
                Answered::Refused(_) | Answered::Conflict => {}
            }
        }
    }
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
        let key = operation.key();
        self.history.note(operation, answered);
        match answered {
            Answered::Written(_) => self.keys.done += 1,
            Answered::Read(_)
            | Answered::Scanned { .. }
            | Answered::Conflict
            | Answered::Granted(_)
            | Answered::Revoked
            | Answered::Refused(_)
            | Answered::Unknown(_) => {
                self.keys.failed(key);
            }
        }
    }

    fn is_over(&self, _: Instant) -> bool {
        self.keys.is_over()
    }

    fn progress(&mut self, _: Instant) -> String {
        format!("preload: {} of {} keys", self.keys.done, self.keys.keys)
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
        let key = operation.key();
        match answered {
            Answered::Read(found) => {
                let read_back = found.as_ref().map(|found| ReadBack {
                    revision: found.revision,
                    write: self.encoding.write_of(&found.value),
                });
                self.ledger.check(key, read_back);
                self.keys.done += 1;
            }
            Answered::Written(_)
            | Answered::Scanned { .. }
            | Answered::Conflict
            | Answered::Granted(_)
            | Answered::Revoked
            | Answered::Refused(_)
            | Answered::Unknown(_) => {
                self.keys.failed(key);
            }
        }
    }

    fn is_over(&self, _: Instant) -> bool {
        self.keys.is_over()
    }

    fn progress(&mut self, _: Instant) -> String {
        format!("reading back: {} of {} keys", self.keys.done, self.keys.keys)
    }
}
