//! Numbers for the writes of one session: which comes next, and which the client still waits for.

use std::collections::BTreeSet;

use raftkv_protocol::{Once, SESSION_WINDOW, SessionId};

/// The numbers of one session.
#[derive(Debug)]
pub struct Numbers {
    session: SessionId,
    next: u64,
    /// Of writes whose callers still wait.
    outstanding: BTreeSet<u64>,
}

impl Numbers {
    /// Of a session that was just opened.
    #[must_use]
    pub fn new(session: SessionId) -> Numbers {
        Numbers {
            session,
            next: 1,
            outstanding: BTreeSet::new(),
        }
    }

    /// A number for the next write. `None`: it would be too far ahead of the first that is not answered.
    pub fn take(&mut self) -> Option<Once> {
        let sequence = self.next;
        let first_unacknowledged = self.outstanding.first().copied().unwrap_or(sequence);
        if sequence - first_unacknowledged >= SESSION_WINDOW {
            return None;
        }
        self.next += 1;
        self.outstanding.insert(sequence);
        Some(Once {
            session: self.session,
            sequence,
            first_unacknowledged,
        })
    }

    /// Nobody waits for that write's answer any more.
    pub fn give_back(&mut self, sequence: u64) {
        self.outstanding.remove(&sequence);
    }
}
