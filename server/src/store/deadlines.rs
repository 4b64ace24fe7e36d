//! Which keys may expire, in the order in which they would.

use std::collections::BTreeSet;

use super::key::Key;

/// Deadlines in (deadline, key) order, as hints: each record that has a deadline has its hint, and a hint may be of a
/// record that was changed since. Whoever expires a key looks at the record first.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    due: BTreeSet<(u64, Key)>,
}

impl Deadlines {
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn add(&mut self, deadline_us: u64, key: Key) {
        self.due.insert((deadline_us, key));
    }

    pub(super) fn remove(&mut self, deadline_us: u64, key: &[u8]) {
        self.due.remove(&(deadline_us, key.into()));
    }

    /// Hints that have come at `log_time_us`, in order.
    pub(super) fn due(&self, log_time_us: u64) -> impl Iterator<Item = (u64, &Key)> {
        self.due
            .iter()
            .map(|(deadline_us, key)| (*deadline_us, key))
            .take_while(move |(deadline_us, _)| *deadline_us <= log_time_us)
    }

    /// Takes the first hint that has come at `log_time_us`.
    pub(super) fn take_due(&mut self, log_time_us: u64) -> Option<(u64, Key)> {
        self.next_us().filter(|&deadline_us| deadline_us <= log_time_us)?;
        self.due.pop_first()
    }

    /// The earliest hint, microseconds of log time.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.due.first().map(|(deadline_us, _)| *deadline_us)
    }
}
