//! What a node starts from, and the proof that it is no contradiction (R43, R46).

use thiserror::Error;

use crate::{Configuration, EntryId, HardState, Index, Term};

/// What a restarted (or newly formed) node knows from its durable state.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The last hard state.
    pub hard_state: HardState,
    /// The entry just below the first one the log still holds: the founding entry's id, or a snapshot's last. Its term
    /// answers for the compacted index (R17); it is committed.
    pub base: EntryId,
    /// The configuration as of `base`.
    pub configuration: Configuration,
    /// All configurations in the log after `base`, ascending by index.
    pub later_configurations: Vec<(Index, Configuration)>,
    /// The terms of all entries after `base`, as runs: (first index of the run, its term), ascending.
    pub term_runs: Vec<(Index, Term)>,
    /// Last entry of the log (equals `base` when it holds none after it).
    pub last: EntryId,
    /// What the state machine has applied already; at least `base.index`.
    pub applied: Index,
}

/// A durable state that no correct node leaves behind (R43, R46): the node must not start as a voter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// The stored state contradicts itself.
    #[error(
        "the durable state contradicts itself: {what}; do not start this node, replace its data directory"
    )]
    Contradiction {
        /// Which rule is broken, with the values seen.
        what: String,
    },
    /// The settings can not work.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
}

impl Restored {
    /// Refuses a state that no correct node leaves behind.
    pub(crate) fn check(&self) -> Result<(), RestoreError> {
        self.check_positions()?;
        self.check_terms()?;
        self.check_configurations()
    }

    fn check_positions(&self) -> Result<(), RestoreError> {
        let (base, last, commit) = (self.base.index, self.last.index, self.hard_state.commit);
        require(base <= last, || {
            format!("the log ends at {last}, below its base {base}")
        })?;
        require(base <= self.applied, || {
            format!("applied index {} is below the base {base}", self.applied)
        })?;
        require(self.applied <= last, || {
            format!("applied index {} is beyond the last entry {last}", self.applied)
        })?;
        require(commit <= last, || {
            format!("commit index {commit} is beyond the last entry {last}")
        })
    }

    fn check_terms(&self) -> Result<(), RestoreError> {
        require(self.last.term <= self.hard_state.term, || {
            format!(
                "the log holds an entry of term {}, the stored term is {}",
                self.last.term, self.hard_state.term
            )
        })?;
        let mut before = (self.base.index, self.base.term);
        for (position, run) in self.term_runs.iter().enumerate() {
            let (first, term) = *run;
            let is_ascending = first > before.0 && term >= before.1 && (position == 0 || term > before.1);
            require(is_ascending && first <= self.last.index, || {
                format!(
                    "a run of term {term} starts at {first}, after a run of term {} at {}",
                    before.1, before.0
                )
            })?;
            before = *run;
        }
        let first_after_base = self.term_runs.first().map(|(first, _)| *first);
        let expected = (self.last.index > self.base.index).then(|| self.base.index.next());
        require(first_after_base == expected, || {
            format!("terms are known from {first_after_base:?} on, entries start at {expected:?}")
        })?;
        require(before.1 == self.last.term, || {
            format!(
                "the last entry is {}, the last run has term {}",
                self.last, before.1
            )
        })
    }

    fn check_configurations(&self) -> Result<(), RestoreError> {
        let mut before = self.base.index;
        if let Some(contradiction) = self.configuration.contradiction() {
            return Err(contradictory(format!(
                "the configuration as of {before}: {contradiction}"
            )));
        }
        for (index, configuration) in &self.later_configurations {
            require(*index > before && *index <= self.last.index, || {
                format!(
                    "a configuration at {index} follows one at {before}; the log ends at {}",
                    self.last
                )
            })?;
            if let Some(contradiction) = configuration.contradiction() {
                return Err(contradictory(format!(
                    "the configuration at {index}: {contradiction}"
                )));
            }
            before = *index;
        }
        Ok(())
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), RestoreError> {
    if holds { Ok(()) } else { Err(contradictory(what())) }
}

fn contradictory(what: String) -> RestoreError {
    RestoreError::Contradiction { what }
}
