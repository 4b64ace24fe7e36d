//! Histories: what clients asked, when, and what they were told.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use raftkv_protocol::{Answer, Condition, Revision};

/// A point in time, in any unit that grows. Equal moments count as concurrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// Which client; for the report only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u32);

/// What a client asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A linearizable read.
    Get,
    /// Sets the value.
    Put {
        /// The value; the check is strongest where each put has one of its own.
        value: Bytes,
        /// When it may happen.
        condition: Condition,
    },
    /// Removes the key.
    Delete {
        /// When it may happen.
        condition: Condition,
    },
}

/// What the store answered, as far as the check uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A read found the key.
    Found {
        /// Its value.
        value: Bytes,
        /// The revision that last changed it.
        mod_revision: Revision,
    },
    /// A read did not.
    NotFound,
    /// The put happened.
    Put {
        /// At this revision.
        revision: Revision,
    },
    /// The delete was executed.
    Deleted {
        /// Did the key exist?
        existed: bool,
        /// The store's revision after it.
        revision: Revision,
    },
    /// The condition did not hold.
    ConditionFailed {
        /// The key's mod_revision; `None`: it does not exist.
        current: Option<Revision>,
    },
}

impl Outcome {
    /// The outcome that an answer of the native protocol reports; `None` for one that is not about a key.
    #[must_use]
    pub fn from_answer(answer: &Answer) -> Option<Outcome> {
        Some(match answer {
            Answer::Found(record)
            | Answer::Read {
                record: Some(record), ..
            } => Outcome::Found {
                value: record.value.clone(),
                mod_revision: record.mod_revision,
            },
            Answer::NotFound | Answer::Read { record: None, .. } => Outcome::NotFound,
            Answer::Put { revision } => Outcome::Put { revision: *revision },
            Answer::Deleted { existed, revision } => Outcome::Deleted {
                existed: *existed,
                revision: *revision,
            },
            Answer::ConditionFailed { current } => Outcome::ConditionFailed { current: *current },
            _ => return None,
        })
    }
}

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Answered {
        /// When the client had it.
        at: Moment,
        /// What it said.
        outcome: Outcome,
    },
    /// Without: a write may take effect at any later time, or never.
    Unknown,
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: ClientId,
    /// About which key.
    pub key: Bytes,
    /// What.
    pub action: Action,
    /// When it was asked.
    pub invoked: Moment,
    /// How it ended.
    pub ending: Ending,
}

impl Operation {
    /// What the store answered, if it did.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.ending {
            Ending::Answered { outcome, .. } => Some(outcome),
            Ending::Unknown => None,
        }
    }

    /// When the client had its answer, if it got one.
    #[must_use]
    pub fn returned(&self) -> Option<Moment> {
        match &self.ending {
            Ending::Answered { at, .. } => Some(*at),
            Ending::Unknown => None,
        }
    }

    /// The revision of the change that this operation is known to have made.
    #[must_use]
    pub fn change(&self) -> Option<Revision> {
        match self.outcome()? {
            Outcome::Put { revision }
            | Outcome::Deleted {
                existed: true,
                revision,
            } => Some(*revision),
            Outcome::Found { .. }
            | Outcome::NotFound
            | Outcome::Deleted { existed: false, .. }
            | Outcome::ConditionFailed { .. } => None,
        }
    }
}

/// Operations that ended with an answer, and writes that ended without; sorted by invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// A history of these operations. Reads without an answer tell nothing and are dropped.
    #[must_use]
    pub fn new(mut operations: Vec<Operation>) -> History {
        operations.retain(|operation| operation.action != Action::Get || operation.outcome().is_some());
        operations.sort_by_key(|operation| operation.invoked);
        History { operations }
    }

    /// The operations, by invocation.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

/// Names an operation of a [`Recorder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(usize);

/// Records a history where the caller owns time, as in the simulator.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// `None`: failed, and so absent.
    operations: Vec<Option<Operation>>,
}

impl Recorder {
    /// The client asks, now. Until told otherwise the outcome is unknown.
    pub fn invoke(&mut self, client: ClientId, key: Bytes, action: Action, now: Moment) -> OperationId {
        self.operations.push(Some(Operation {
            client,
            key,
            action,
            invoked: now,
            ending: Ending::Unknown,
        }));
        OperationId(self.operations.len() - 1)
    }

    /// The client has its answer, now. Without effect for an operation that failed.
    pub fn answered(&mut self, id: OperationId, outcome: Outcome, now: Moment) {
        if let Some(Some(operation)) = self.operations.get_mut(id.0) {
            operation.ending = Ending::Answered { at: now, outcome };
        }
    }

    /// The client was promised that the operation had no effect and never will have.
    pub fn failed(&mut self, id: OperationId) {
        if let Some(operation) = self.operations.get_mut(id.0) {
            *operation = None;
        }
    }

    /// The history so far; what has no answer yet has an unknown outcome.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.operations.iter().flatten().cloned().collect())
    }
}

/// A recorder for clients in many threads, in real time (nanoseconds since it was made).
#[derive(Debug)]
pub struct SharedRecorder {
    start: Instant,
    recorder: Mutex<Recorder>,
}

impl Default for SharedRecorder {
    fn default() -> Self {
        SharedRecorder {
            start: Instant::now(),
            recorder: Mutex::default(),
        }
    }
}

impl SharedRecorder {
    /// To be called before the request is sent.
    pub fn invoke(&self, client: ClientId, key: Bytes, action: Action) -> OperationId {
        self.with(|recorder, now| recorder.invoke(client, key, action, now))
    }

    /// To be called after the answer came.
    pub fn answered(&self, id: OperationId, outcome: Outcome) {
        self.with(|recorder, now| recorder.answered(id, outcome, now));
    }

    /// To be called when the store promised that nothing happened and never will.
    pub fn failed(&self, id: OperationId) {
        self.with(|recorder, _| recorder.failed(id));
    }

    /// The history so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.with(|recorder, _| recorder.history())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Recorder, Moment) -> T) -> T {
        // A client thread that panicked fails its test anyway; what it recorded stays true.
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        let nanoseconds = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        act(&mut recorder, Moment(nanoseconds))
    }
}
