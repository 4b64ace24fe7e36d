//! Leases, sessions and idempotency keys, by the rules: what ends, when, and what it takes along; which write of a session
//! is applied, and what its copies are told.
//!
//! Each change is kept with the index of its entry, so that what a base or a snapshot holds as of any entry can be compared.

use std::collections::BTreeMap;

use raftkv_protocol::{
    Answer, Command, ErrorCode, LeaseId, Once, Revision, SESSION_WINDOW, SessionId, decode_command,
};
use raftkv_raft::Entry;
use raftkv_raft::simulation::mark;

use super::{Ended, Model, Moment, Outcome};

/// How long an idempotency key is remembered, microseconds of log time.
const REMEMBERED_US: u64 = 24 * 3600 * 1_000_000;

/// What there was of some kind after each entry.
#[derive(Debug)]
pub(super) struct Versions<K, V>(BTreeMap<K, Vec<(u64, Option<V>)>>);

impl<K, V> Default for Versions<K, V> {
    fn default() -> Self {
        Versions(BTreeMap::new())
    }
}

impl<K: Ord + Clone, V> Versions<K, V> {
    pub(super) fn set(&mut self, index: u64, key: &K, value: Option<V>) {
        self.0.entry(key.clone()).or_default().push((index, value));
    }

    pub(super) fn now(&self, key: &K) -> Option<&V> {
        self.0.get(key)?.last()?.1.as_ref()
    }

    /// As of the entry at `index`.
    pub(super) fn at_of(&self, index: u64, key: &K) -> Option<&V> {
        let versions = self.0.get(key)?;
        let count = versions.partition_point(|(at, _)| *at <= index);
        versions[..count].last()?.1.as_ref()
    }

    pub(super) fn at(&self, index: u64) -> impl Iterator<Item = (&K, &V)> {
        let keys = self.0.keys();
        keys.filter_map(move |key| Some((key, self.at_of(index, key)?)))
    }

    pub(super) fn all_now(&self) -> impl Iterator<Item = (&K, &V)> {
        self.at(u64::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Lease {
    pub(in super::super) ttl_ms: u64,
    pub(in super::super) deadline_us: u64,
    /// When and where it was granted or last renewed.
    pub(super) renewed: Moment,
    granted_in: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Session {
    pub(in super::super) ttl_ms: u64,
    pub(in super::super) deadline_us: u64,
    pub(in super::super) first_unacknowledged: u64,
    pub(in super::super) outcomes: BTreeMap<u64, Outcome>,
    renewed: Moment,
}

#[derive(Clone, Debug)]
pub(in super::super) struct Named {
    pub(in super::super) name: Vec<u8>,
    pub(in super::super) outcome: Outcome,
    command: Vec<u8>,
    until_us: u64,
}

impl Model {
    /// Ends the leases that are due, in the order of (deadline, id), each with all that hangs on it at one revision; then
    /// sessions, then names.
    pub(super) fn end_due(&mut self) {
        let now_us = self.log_time_us;
        let mut due: Vec<(u64, LeaseId, Lease)> = self
            .leases
            .all_now()
            .filter(|(_, lease)| lease.deadline_us <= now_us)
            .map(|(id, lease)| (lease.deadline_us, *id, *lease))
            .collect();
        due.sort_unstable_by_key(|(deadline_us, id, _)| (*deadline_us, *id));
        for (_, id, lease) in due {
            self.told_end(format!("lease {id}"), lease.ttl_ms, lease.renewed);
            if lease.granted_in != self.moment.term {
                mark("tenants: a lease ended under another leader than the one that granted it");
            }
            self.end_lease(id);
        }
        let mut due: Vec<(u64, SessionId, u64, Moment)> = self
            .sessions
            .all_now()
            .filter(|(_, session)| session.deadline_us <= now_us)
            .map(|(id, session)| (session.deadline_us, *id, session.ttl_ms, session.renewed))
            .collect();
        due.sort_unstable_by_key(|(deadline_us, id, ..)| (*deadline_us, *id));
        let index = self.index();
        for (_, id, ttl_ms, renewed) in due {
            self.told_end(format!("session {id}"), ttl_ms, renewed);
            self.sessions.set(index, &id, None);
        }
        let forgotten: Vec<u64> = self
            .names
            .all_now()
            .filter(|(_, named)| named.until_us <= now_us)
            .map(|(at, _)| *at)
            .collect();
        for at in forgotten {
            self.names.set(index, &at, None);
        }
    }

    /// For the check against real time.
    pub(super) fn told_end(&mut self, what: String, ttl_ms: u64, renewed: Moment) {
        self.ended.push(Ended {
            what,
            ttl_ms,
            renewed,
            at: self.moment,
        });
    }

    fn end_lease(&mut self, id: LeaseId) -> u64 {
        let index = self.index();
        self.leases.set(index, &id, None);
        let hanging = self.keys_on(id, self.revision);
        if !hanging.is_empty() {
            self.revision += 1;
        }
        for key in &hanging {
            self.set(key, None, None);
        }
        hanging.len() as u64
    }

    /// The command of an entry, as a write of the session that its stamp names.
    pub(super) fn execute_entry(&mut self, entry: &Entry, command: &Command<'_>) -> Option<Outcome> {
        let stamp = &entry.stamp;
        if stamp.session == 0 {
            return self.execute(command);
        }
        let once = Once {
            session: SessionId(stamp.session),
            sequence: stamp.sequence,
            first_unacknowledged: stamp.first_unacknowledged,
        };
        let Some(mut session) = self.sessions.now(&once.session).cloned() else {
            return Some(Err(ErrorCode::SessionExpired));
        };
        let index = self.index();
        session.deadline_us = self.log_time_us + session.ttl_ms * 1000;
        session.renewed = self.moment;
        session.first_unacknowledged = session.first_unacknowledged.max(once.first_unacknowledged);
        session.outcomes = session.outcomes.split_off(&session.first_unacknowledged);
        let kept = session.outcomes.get(&once.sequence).cloned();
        let first = session.first_unacknowledged;
        self.sessions.set(index, &once.session, Some(session));
        if once.sequence < first {
            return Some(Err(ErrorCode::BadRequest));
        }
        if once.sequence - first >= SESSION_WINDOW {
            return Some(Err(ErrorCode::BadRequest));
        }
        if kept.is_some() {
            return kept;
        }
        let outcome = self.execute(command)?;
        if let Some(mut session) = self.sessions.now(&once.session).cloned() {
            session.outcomes.insert(once.sequence, outcome.clone());
            self.sessions.set(index, &once.session, Some(session));
        }
        Some(outcome)
    }

    pub(super) fn execute_named(&mut self, name: &[u8], command: &[u8]) -> Option<Outcome> {
        if let Some((_, named)) = self.names.all_now().find(|(_, named)| named.name == name) {
            if named.command == command {
                return Some(named.outcome.clone());
            }
            return Some(Err(ErrorCode::IdempotencyConflict));
        }
        let decoded = decode_command(command).expect("it was checked before it was proposed");
        let outcome = self.execute(&decoded)?;
        let named = Named {
            name: name.to_vec(),
            outcome: outcome.clone(),
            command: command.to_vec(),
            until_us: self.log_time_us + REMEMBERED_US,
        };
        let index = self.index();
        self.names.set(index, &index, Some(named));
        Some(outcome)
    }

    pub(super) fn grant_lease(&mut self, id: Option<LeaseId>, ttl_ms: u64) -> Outcome {
        let id = id.unwrap_or(LeaseId(LeaseId::FIRST_OF_SERVER.0 + self.fresh_name()));
        if self.leases.now(&id).is_some() {
            return Err(ErrorCode::LeaseExists);
        }
        self.let_lease_live(id, ttl_ms, self.moment.term);
        Ok(Answer::LeaseGranted { id, ttl_ms })
    }

    pub(super) fn renew_leases(&mut self, ids: &[LeaseId]) -> Outcome {
        let renew = |id: &LeaseId| {
            let Lease {
                ttl_ms, granted_in, ..
            } = *self.leases.now(id)?;
            self.let_lease_live(*id, ttl_ms, granted_in);
            Some(ttl_ms)
        };
        Ok(Answer::LeasesRenewed(ids.iter().map(renew).collect()))
    }

    fn let_lease_live(&mut self, id: LeaseId, ttl_ms: u64, granted_in: u64) {
        let lease = Lease {
            ttl_ms,
            deadline_us: self.log_time_us + ttl_ms * 1000,
            renewed: self.moment,
            granted_in,
        };
        let index = self.index();
        self.leases.set(index, &id, Some(lease));
    }

    pub(super) fn revoke_lease(&mut self, id: LeaseId) -> Outcome {
        self.leases.now(&id).ok_or(ErrorCode::LeaseNotFound)?;
        let deleted = self.end_lease(id);
        Ok(Answer::LeaseRevoked {
            deleted,
            revision: Revision(self.revision),
        })
    }

    pub(super) fn open_session(&mut self, ttl_ms: u64) -> Outcome {
        let index = self.index();
        let session = Session {
            ttl_ms,
            deadline_us: self.log_time_us + ttl_ms * 1000,
            first_unacknowledged: 1,
            outcomes: BTreeMap::new(),
            renewed: self.moment,
        };
        let id = SessionId(self.fresh_name());
        self.sessions.set(index, &id, Some(session));
        Ok(Answer::SessionOpened { session: id, ttl_ms })
    }

    pub(super) fn keep_session(&mut self, id: SessionId) -> Outcome {
        let mut session = self.sessions.now(&id).cloned().ok_or(ErrorCode::SessionExpired)?;
        session.deadline_us = self.log_time_us + session.ttl_ms * 1000;
        session.renewed = self.moment;
        let index = self.index();
        self.sessions.set(index, &id, Some(session));
        Ok(Answer::SessionDone)
    }

    pub(super) fn close_session(&mut self, id: SessionId) -> Outcome {
        if self.sessions.now(&id).is_some() {
            let index = self.index();
            self.sessions.set(index, &id, None);
        }
        Ok(Answer::SessionDone)
    }

    /// Will something end by itself some time, though nobody asks?
    pub(in super::super) fn awaits_an_end(&self) -> bool {
        !self.deadlines.is_empty()
            || self.leases.all_now().next().is_some()
            || self.sessions.all_now().next().is_some()
    }

    pub(in super::super) fn leases_at(&self, index: u64) -> impl Iterator<Item = (&LeaseId, &Lease)> {
        self.leases.at(index)
    }

    pub(in super::super) fn lease_at(&self, index: u64, id: LeaseId) -> Option<&Lease> {
        self.leases.at_of(index, &id)
    }

    pub(in super::super) fn sessions_at(&self, index: u64) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.sessions.at(index)
    }

    /// Names by the index of the entry that was executed under each.
    pub(in super::super) fn names_at(&self, index: u64) -> impl Iterator<Item = (&u64, &Named)> {
        self.names.at(index)
    }
}
