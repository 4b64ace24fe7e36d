//! Which keys expire, in the order in which they do.

use std::collections::BTreeSet;

use super::key::Key;

/// Deadlines of keys with a TTL, in (deadline, key) order. Holds exactly one deadline for each record that has one.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    due: BTreeSet<(u64, Key)>,
}

impl Deadlines {
    /// Moves `key` from its old deadline to its new one; `None` stands for "does not expire".
    pub(super) fn change(&mut self, key: &[u8], old_us: Option<u64>, new_us: Option<u64>) {
        if old_us == new_us {
            return;
        }
        // The set's search needs an owned pair; keys without a TTL, the usual case, never come here.
        if let Some(old_us) = old_us {
            let known = self.due.remove(&(old_us, key.into()));
            assert!(known, "each record's deadline {old_us} is in the index");
        }
        if let Some(new_us) = new_us {
            self.due.insert((new_us, key.into()));
        }
    }

    /// Takes the first key whose deadline is at or before `log_time_us`.
    pub(super) fn take_due(&mut self, log_time_us: u64) -> Option<(u64, Key)> {
        self.next_us().filter(|&deadline_us| deadline_us <= log_time_us)?;
        self.due.pop_first()
    }

    /// The earliest deadline, microseconds of log time.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.due.first().map(|(deadline_us, _)| *deadline_us)
    }
}
