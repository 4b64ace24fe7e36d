//! What clients are told: I12, I16 by the order of the log, I18.
//!
//! Revisions number the states of the store, so an answer that carries one names the place of its operation in the one
//! order of the log. The history is linearizable if every answer is what that state says, and if no operation that
//! began after another had ended stands before it.

use bytes::Bytes;
use raftkv_protocol::{Answer, Condition, Record, Response, Revision};

use super::{Listing, Observer};
use crate::simulation::schedule::Asked;

/// Names one attempt of one operation; unique in a run, and the first eight bytes of each value written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Attempt(pub(crate) u64);

impl Attempt {
    /// The attempt that wrote a value.
    pub(crate) fn of_value(value: &[u8]) -> Option<Attempt> {
        let id = value.get(..8)?;
        Some(Attempt(u64::from_le_bytes(id.try_into().ok()?)))
    }

    /// A value that names the attempt.
    pub(crate) fn value(self, padding: usize) -> Bytes {
        let mut value = self.0.to_le_bytes().to_vec();
        value.resize(8 + padding, b'.');
        value.into()
    }
}

/// An operation under way, as far as its answer is checked by it.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) asked: Asked,
    pub(crate) key: Bytes,
    pub(crate) condition: Condition,
    /// The range that is listed, if one is.
    pub(crate) listing: Option<Listing>,
    /// What completed operations had shown when it began.
    pub(crate) floor: u64,
}

impl Observer {
    /// The highest revision that a completed operation has shown: no operation that begins now may see less.
    pub(crate) fn shown_revision(&self) -> u64 {
        self.shown_revision
    }

    /// An attempt was reported as failed: it must never show an effect.
    pub(crate) fn attempt_failed(&mut self, attempt: Attempt) {
        self.failed_attempts.insert(attempt);
        if let Some(effect) = self.model.effect(attempt) {
            let what = format!(
                "{attempt:?} was reported as failed, but it is decided at {}",
                effect.index
            );
            self.violate("I18", None, what);
        }
    }

    /// A client has its answer.
    pub(crate) fn answered(
        &mut self,
        slot: usize,
        invocation: &Invocation,
        attempt: Attempt,
        response: &Response,
    ) {
        let Ok(answer) = &response.outcome else { return };
        let shown = response.header.revision.0;
        if shown > self.model.revision() {
            let what = format!(
                "an answer shows revision {shown}, decided is {}",
                self.model.revision()
            );
            self.violate("I12", Some(slot), what);
            return;
        }
        let place = match answer {
            Answer::Found(record)
            | Answer::Read {
                record: Some(record), ..
            } => self.read(slot, invocation, Some(record), shown),
            Answer::NotFound | Answer::Read { record: None, .. } => self.read(slot, invocation, None, shown),
            Answer::Range(page) => self.page(slot, invocation, page),
            Answer::Put { revision } => self.put(slot, invocation, attempt, *revision),
            Answer::Deleted { existed, revision } => self.deleted(slot, invocation, *existed, *revision),
            Answer::ConditionFailed { current } => {
                self.condition_failed(slot, invocation, *current, shown);
                None
            }
            _ => None,
        };
        self.shown_revision = self.shown_revision.max(place.unwrap_or(0));
    }

    fn read(&mut self, slot: usize, invocation: &Invocation, found: Option<&Record>, at: u64) -> Option<u64> {
        let expected = self.model.record_at(&invocation.key, at);
        if found != expected.as_ref() {
            let what = format!("{invocation:?} read {found:?} at revision {at}, the log says {expected:?}");
            self.violate("I16", Some(slot), what);
        }
        if invocation.asked == Asked::StaleGet {
            return None;
        }
        if at < invocation.floor {
            let what = format!("{invocation:?} read at revision {at}, older than what it must see");
            self.violate("I16", Some(slot), what);
        }
        Some(at)
    }

    fn put(
        &mut self,
        slot: usize,
        invocation: &Invocation,
        attempt: Attempt,
        revision: Revision,
    ) -> Option<u64> {
        let decided = self.model.effect(attempt).map(|effect| effect.answer.clone());
        if decided != Some(Answer::Put { revision }) {
            let what =
                format!("{invocation:?} was acknowledged at revision {revision}, the log says {decided:?}");
            self.violate("I12", Some(slot), what);
        }
        self.must_follow(slot, invocation, revision.0);
        Some(revision.0)
    }

    fn deleted(
        &mut self,
        slot: usize,
        invocation: &Invocation,
        existed: bool,
        revision: Revision,
    ) -> Option<u64> {
        if existed {
            if !self.model.is_deletion(&invocation.key, revision.0) {
                let what = format!(
                    "{invocation:?} was acknowledged at revision {revision}, which is no deletion of it"
                );
                self.violate("I12", Some(slot), what);
            }
            self.must_follow(slot, invocation, revision.0);
        } else if self.model.record_at(&invocation.key, revision.0).is_some() || revision.0 < invocation.floor
        {
            let what = format!("{invocation:?} found nothing to delete at revision {revision}");
            self.violate("I16", Some(slot), what);
        }
        Some(revision.0)
    }

    fn condition_failed(
        &mut self,
        slot: usize,
        invocation: &Invocation,
        current: Option<Revision>,
        shown: u64,
    ) {
        let is_met = match invocation.condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::ModRevision(revision) => current == Some(revision),
        };
        let was = self
            .model
            .was_ever(&invocation.key, current, invocation.floor, shown);
        if is_met || !was {
            let what = format!(
                "{invocation:?} failed its condition on {current:?}, which the key was not in {}..={shown}",
                invocation.floor
            );
            self.violate("I16", Some(slot), what);
        }
    }

    /// A write makes a revision of its own, after all that was shown before it began.
    fn must_follow(&mut self, slot: usize, invocation: &Invocation, revision: u64) {
        if revision <= invocation.floor {
            let what = format!("{invocation:?} stands at revision {revision}, before what it must follow");
            self.violate("I16", Some(slot), what);
        }
    }
}
