//! Commands about leases, sessions and idempotency keys, and writes within them.

use raftkv_protocol::{
    Answer, Command, ErrorCode, Failure, LeaseId, LeaseState, MAX_TXN_ANSWER_BYTES, Once, SessionId,
    decode_command,
};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, Index, Stamp};

use super::effects::kind;
use super::leases::{MAX_LEASES, StoredLease};
use super::machine::Store;
use super::once::fingerprint;
use super::outcome::Outcome;
use super::sessions::{MAX_SESSIONS, Standing, expired};
use super::txn::lease_not_found;

/// Most leases of one listing.
const LEASES_PER_ANSWER: usize = 1000;

impl Store {
    /// Executes an entry's command, as a write of the session that its stamp names.
    pub(super) fn execute_entry(&mut self, entry: &Entry, command: &Command<'_>) -> Option<Outcome> {
        let Some(once) = once_of(&entry.stamp) else {
            return self.execute(entry.id.index, command);
        };
        if mutant("X25_session_made_silently") && self.sessions.ttl_ms(once.session).is_none() {
            let deadline_us = self.deadline_after(1_000);
            self.sessions.open(once.session, 1_000, deadline_us);
        }
        let Some(ttl_ms) = self.sessions.ttl_ms(once.session) else {
            mark("session: write refused, it has ended");
            return Some(Err(expired(once.session)));
        };
        self.renew_session(once.session, ttl_ms);
        match self.sessions.standing(once) {
            Standing::Answered(outcome) => Some(outcome),
            Standing::Fresh => {
                self.effects.add(kind::SESSION_WRITE, once.sequence);
                let outcome = self.execute(entry.id.index, command)?;
                self.sessions.applied(once, &outcome, self.revision);
                Some(outcome)
            }
        }
    }

    /// Executes the encoded command unless one was executed under the same key lately.
    pub(super) fn execute_once(&mut self, index: Index, key: &[u8], command: &[u8]) -> Option<Outcome> {
        let fingerprint = fingerprint(command);
        if let Some(outcome) = self.once.find(key, fingerprint) {
            return Some(outcome);
        }
        let decoded = decode_command(command).expect("what is under an idempotency key was checked");
        let outcome = self.execute(index, &decoded)?;
        self.effects.add(kind::REMEMBERED, fingerprint);
        let log_time_us = self.log_time_us;
        self.once
            .remember(index, (key, fingerprint), log_time_us, &outcome, self.revision);
        Some(outcome)
    }

    /// `index`: of the entry, from which the store chooses an id that no other lease ever had.
    pub(super) fn grant_lease(&mut self, index: Index, id: Option<LeaseId>, ttl_ms: u64) -> Outcome {
        let id = id.unwrap_or(LeaseId(LeaseId::FIRST_OF_SERVER.0 + self.fresh_name(index)));
        if self.leases.get(id).is_some() {
            let message = format!("there is a lease {id} already; nothing was changed");
            return Err(Failure::new(ErrorCode::LeaseExists, message));
        }
        if self.leases.count() >= MAX_LEASES {
            return Err(too_many(
                "leases",
                MAX_LEASES,
                "hang more keys on each, and revoke those that are not needed",
            ));
        }
        self.set_lease(id, ttl_ms);
        Ok(Answer::LeaseGranted { id, ttl_ms })
    }

    pub(super) fn renew_leases(&mut self, ids: &[LeaseId]) -> Outcome {
        let mut renewed = Vec::with_capacity(ids.len());
        for id in ids {
            let ttl_ms = self.leases.get(*id).map(|lease| lease.ttl_ms);
            if let Some(ttl_ms) = ttl_ms {
                self.set_lease(*id, ttl_ms);
            }
            renewed.push(ttl_ms);
        }
        Ok(Answer::LeasesRenewed(renewed))
    }

    fn set_lease(&mut self, id: LeaseId, ttl_ms: u64) {
        let deadline_us = self.deadline_after(ttl_ms);
        self.leases.set(id, StoredLease { ttl_ms, deadline_us });
        self.effects.add(kind::LEASE_SET, id.0);
        self.effects.add(ttl_ms, deadline_us);
    }

    pub(super) fn revoke_lease(&mut self, id: LeaseId) -> Outcome {
        if self.leases.get(id).is_none() {
            return Err(lease_not_found(id));
        }
        let deleted = self.end_lease(id) as u64;
        Ok(Answer::LeaseRevoked {
            deleted,
            revision: self.revision,
        })
    }

    /// Ends a lease that is there, and deletes what hangs on it at one revision; how many keys that were.
    pub(super) fn end_lease(&mut self, id: LeaseId) -> usize {
        self.effects.add(kind::LEASE_ENDED, id.0);
        let keys = self.leases.end(id);
        if !keys.is_empty() {
            let revision = self.next_revision();
            for key in &keys {
                self.remove(kind::DELETED, key.as_bytes(), revision);
            }
        }
        keys.len()
    }

    /// `index`: of the entry, from which the store chooses an id that no other session ever had.
    pub(super) fn open_session(&mut self, index: Index, ttl_ms: u64) -> Outcome {
        if self.sessions.count() >= MAX_SESSIONS {
            return Err(too_many(
                "sessions",
                MAX_SESSIONS,
                "share one client between tasks, or write at most once, which needs no session; those that nobody uses expire",
            ));
        }
        let (session, deadline_us) = (SessionId(self.fresh_name(index)), self.deadline_after(ttl_ms));
        self.sessions.open(session, ttl_ms, deadline_us);
        self.effects.add(kind::SESSION_SET, session.0);
        self.effects.add(ttl_ms, deadline_us);
        Ok(Answer::SessionOpened { session, ttl_ms })
    }

    pub(super) fn keep_session(&mut self, session: SessionId) -> Outcome {
        let ttl_ms = self.sessions.ttl_ms(session).ok_or_else(|| expired(session))?;
        self.renew_session(session, ttl_ms);
        Ok(Answer::SessionDone)
    }

    fn renew_session(&mut self, session: SessionId, ttl_ms: u64) {
        let deadline_us = self.deadline_after(ttl_ms);
        self.sessions.renew(session, deadline_us);
        self.effects.add(kind::SESSION_SET, session.0);
        self.effects.add(ttl_ms, deadline_us);
    }

    /// One that is not there any more is as the client wants it.
    pub(super) fn close_session(&mut self, session: SessionId) -> Outcome {
        if self.sessions.end(session) {
            self.effects.add(kind::SESSION_ENDED, session.0);
        }
        Ok(Answer::SessionDone)
    }

    /// About a lease, with as many of its keys as fit an answer.
    #[must_use]
    pub fn lease(&self, id: LeaseId, now_us: u64) -> Option<LeaseState> {
        let mut state = self.lease_state(id, *self.leases.get(id)?, now_us);
        let mut room = MAX_TXN_ANSWER_BYTES;
        for key in self.leases.keys_of(id) {
            let Some(left) = room.checked_sub(key.as_bytes().len()) else {
                break;
            };
            room = left;
            state.keys.push(bytes::Bytes::copy_from_slice(key.as_bytes()));
        }
        Some(state)
    }

    /// About the leases behind `id`, as many as fit an answer.
    #[must_use]
    pub fn leases_after(&self, id: LeaseId, now_us: u64) -> Vec<LeaseState> {
        let behind = self.leases.after(id).take(LEASES_PER_ANSWER);
        behind
            .map(|(id, lease)| self.lease_state(id, lease, now_us))
            .collect()
    }

    fn lease_state(&self, id: LeaseId, lease: StoredLease, now_us: u64) -> LeaseState {
        LeaseState {
            id,
            ttl_ms: lease.ttl_ms,
            remaining_ms: lease.deadline_us.saturating_sub(now_us) / 1000,
            key_count: self.leases.key_count(id) as u64,
            keys: Vec::new(),
        }
    }
}

/// Which write of a session an entry is.
fn once_of(stamp: &Stamp) -> Option<Once> {
    (stamp.session != 0).then_some(Once {
        session: SessionId(stamp.session),
        sequence: stamp.sequence,
        first_unacknowledged: stamp.first_unacknowledged,
    })
}

fn too_many(what: &str, most: usize, remedy: &str) -> Failure {
    let message =
        format!("there are {most} {what}, the most that there may be; nothing was changed; {remedy}");
    Failure::new(ErrorCode::Overloaded, message)
}
