//! The observer's own store: what the decided entries make of an empty one. Written from the rules of the data model, not
//! from the store's code; slow and simple. It keeps every version of every key, so that any answer can be checked, and what
//! every proposal came to at each place where it was decided.

mod tenure;
mod txn;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use raftkv_protocol::{
    Answer, Command, Condition, ErrorCode, KeySpan, LeaseId, Record, Revision, SessionId, decode_command,
};
use raftkv_raft::{Entry, EntryKind, Stamp};

use self::tenure::Versions;
pub(super) use self::tenure::{Lease, Named, Session};
use super::Attempt;
use crate::simulation::queue::Micros;
use crate::simulation::random::mix_bytes;

/// What a command comes to: the same on every node.
pub(crate) type Outcome = Result<Answer, ErrorCode>;

/// What was proposed, whoever did and how often: a command, and which write of a session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProposalId {
    command: u64,
    session: u64,
    sequence: u64,
}

impl ProposalId {
    pub(crate) fn of(command: &[u8], stamp: &Stamp) -> ProposalId {
        ProposalId {
            command: mix_bytes(0, command),
            session: stamp.session,
            sequence: stamp.sequence,
        }
    }
}

/// When and where an entry came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Whose leader proposed it.
    pub(super) term: u64,
    /// When it first stood in any log, microseconds of the world's time.
    pub(super) seen_us: Micros,
    /// When it was first asked for, if that is known.
    pub(super) asked_us: Option<Micros>,
}

/// A lease or session that ended because its time was over.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) what: String,
    pub(super) ttl_ms: u64,
    /// When it last got all of that time.
    pub(super) renewed: Moment,
    pub(super) at: Moment,
}

/// What a proposal came to at one place of the log.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) index: u64,
    pub(super) term: u64,
    /// That of the state which it was executed over.
    pub(super) revision_before: u64,
    pub(super) outcome: Outcome,
}

/// A key from one revision on.
#[derive(Clone, Debug)]
struct Version {
    since: u64,
    record: Option<Record>,
    deadline_us: Option<u64>,
}

/// What a write did, and where.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) index: u64,
    pub(super) answer: Answer,
}

/// The numbers of the store after an entry.
#[derive(Clone, Copy, Debug)]
struct After {
    revision: u64,
    log_time_us: u64,
    oldest_kept: u64,
}

/// See the module.
pub(super) struct Model {
    revision: u64,
    log_time_us: u64,
    oldest_kept: u64,
    /// Added to an entry's index in the names of leases and sessions. A recovery raises it.
    names_from: u64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    deadlines: BTreeSet<(u64, Bytes)>,
    /// What it was after each index; index 1 first.
    after: Vec<After>,
    effects: HashMap<Attempt, Effect>,
    leases: Versions<LeaseId, Lease>,
    sessions: Versions<SessionId, Session>,
    /// By the index of the entry that was executed.
    names: Versions<u64, Named>,
    done: HashMap<ProposalId, Vec<Done>>,
    /// Of the entry that is applied.
    moment: Moment,
    ended: Vec<Ended>,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            revision: 1,
            log_time_us: 0,
            oldest_kept: 1,
            names_from: 0,
            keys: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            after: Vec::new(),
            effects: HashMap::new(),
            leases: Versions::default(),
            sessions: Versions::default(),
            names: Versions::default(),
            done: HashMap::new(),
            moment: Moment {
                term: 0,
                seen_us: 0,
                asked_us: None,
            },
            ended: Vec::new(),
        }
    }

    /// Applies the next decided entry; names the attempt that a put carries in its value.
    pub(super) fn apply(&mut self, entry: &Entry, moment: Moment) -> Option<Attempt> {
        self.moment = moment;
        self.log_time_us = self.log_time_us.max(entry.stamp.log_time_us);
        while let Some((at, _)) = self.deadlines.first()
            && *at <= self.log_time_us
        {
            let (_, key) = self.deadlines.pop_first().expect("it was just seen");
            self.change(&key, None, None);
        }
        self.end_due();
        let attempt = match (entry.kind, decode_command(&entry.payload)) {
            (EntryKind::Command, Ok(command)) => self.apply_command(entry, &command),
            (EntryKind::Command | EntryKind::Noop | EntryKind::Configuration, _) => None,
        };
        self.after.push(After {
            revision: self.revision,
            log_time_us: self.log_time_us,
            oldest_kept: self.oldest_kept,
        });
        attempt
    }

    fn apply_command(&mut self, entry: &Entry, command: &Command<'_>) -> Option<Attempt> {
        let index = self.index();
        let revision_before = self.revision;
        let outcome = self.execute_entry(entry, command)?;
        let attempt = match (command, &outcome) {
            (Command::Put { value, .. }, Ok(answer)) => Attempt::of_value(value).inspect(|attempt| {
                let answer = answer.clone();
                self.effects.insert(*attempt, Effect { index, answer });
            }),
            _ => None,
        };
        let done = Done {
            index,
            term: self.moment.term,
            revision_before,
            outcome,
        };
        let id = ProposalId::of(&entry.payload, &entry.stamp);
        self.done.entry(id).or_default().push(done);
        attempt
    }

    /// What a command does; `None`: it answers nobody.
    fn execute(&mut self, command: &Command<'_>) -> Option<Outcome> {
        Some(match *command {
            Command::Put {
                key,
                value,
                condition,
                ttl_ms,
            } => Ok(self.put(key, value, condition, ttl_ms)),
            Command::Delete { key, condition } => Ok(self.delete(key, condition)),
            Command::Txn(ref txn) => self.transact(txn),
            Command::Once {
                idempotency_key,
                command,
            } => return self.execute_named(idempotency_key, command),
            Command::GrantLease { id, ttl_ms } => self.grant_lease(id, ttl_ms),
            Command::RenewLeases { ref ids } => self.renew_leases(ids),
            Command::RevokeLease { id } => self.revoke_lease(id),
            Command::OpenSession { ttl_ms } => self.open_session(ttl_ms),
            Command::RenewSession { session } => self.keep_session(session),
            Command::CloseSession { session } => self.close_session(session),
            Command::KeepHistoryFrom { oldest } => {
                self.oldest_kept = self.oldest_kept.max(oldest.0.min(self.revision));
                return None;
            }
            Command::Tick | Command::Scrub { .. } => return None,
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8], condition: Condition, ttl_ms: Option<u64>) -> Answer {
        let key = Bytes::copy_from_slice(key);
        let old = self.latest(&key);
        if !is_met(condition, old.as_ref()) {
            return failed(old.as_ref());
        }
        let mod_revision = Revision(self.revision + 1);
        let record = Record {
            value: Bytes::copy_from_slice(value),
            create_revision: old.as_ref().map_or(mod_revision, |old| old.create_revision),
            mod_revision,
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            lease: None,
        };
        let deadline_us = ttl_ms.map(|ttl_ms| self.log_time_us + ttl_ms * 1000);
        self.change(&key, Some(record), deadline_us);
        Answer::Put {
            revision: mod_revision,
        }
    }

    fn delete(&mut self, key: &[u8], condition: Condition) -> Answer {
        let key = Bytes::copy_from_slice(key);
        let old = self.latest(&key);
        if !is_met(condition, old.as_ref()) {
            return failed(old.as_ref());
        }
        if old.is_some() {
            self.change(&key, None, None);
        }
        Answer::Deleted {
            existed: old.is_some(),
            revision: Revision(self.revision),
        }
    }

    /// That of the entry which is applied.
    fn index(&self) -> u64 {
        self.after.len() as u64 + 1
    }

    /// A recovery: its last entry leaves the store at this revision, and what comes is named from there.
    pub(super) fn leap(&mut self, revision: u64, names_from: u64) {
        self.revision = revision;
        self.names_from = names_from;
        if let Some(last) = self.after.last_mut() {
            last.revision = revision;
        }
    }

    /// What a lease or a session is named with that this entry makes.
    pub(super) fn fresh_name(&self) -> u64 {
        self.names_from + self.index()
    }

    /// A change that is a transaction of its own.
    fn change(&mut self, key: &Bytes, record: Option<Record>, deadline_us: Option<u64>) {
        self.revision += 1;
        self.set(key, record, deadline_us);
    }

    /// A change of the transaction that made the latest revision.
    fn set(&mut self, key: &Bytes, record: Option<Record>, deadline_us: Option<u64>) {
        let versions = self.keys.entry(key.clone()).or_default();
        if let Some(old) = versions.last().and_then(|version| version.deadline_us) {
            self.deadlines.remove(&(old, key.clone()));
        }
        if let Some(at) = deadline_us {
            self.deadlines.insert((at, key.clone()));
        }
        versions.push(Version {
            since: self.revision,
            record,
            deadline_us,
        });
    }

    fn latest(&self, key: &[u8]) -> Option<Record> {
        self.keys.get(key)?.last()?.record.clone()
    }

    /// The latest record with its deadline.
    fn cell(&self, key: &[u8]) -> Option<(Record, Option<u64>)> {
        let version = self.keys.get(key)?.last()?;
        Some((version.record.clone()?, version.deadline_us))
    }

    /// The keys that hang on a lease at a revision, in order.
    pub(super) fn keys_on(&self, id: LeaseId, revision: u64) -> Vec<Bytes> {
        let hanging = self
            .state_at(revision)
            .filter(|(_, record, _)| record.lease == Some(id));
        hanging.map(|(key, ..)| key.clone()).collect()
    }

    /// What a proposal came to, at each place where it was decided.
    pub(super) fn done(&self, id: ProposalId) -> &[Done] {
        self.done.get(&id).map_or(&[], Vec::as_slice)
    }

    /// What has ended since the last call.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// The entries, in order, behind which the store was at this revision.
    pub(super) fn indices_at(&self, revision: u64) -> std::ops::RangeInclusive<u64> {
        let first = self.after.partition_point(|after| after.revision < revision);
        let end = self.after.partition_point(|after| after.revision <= revision);
        first as u64 + 1..=end as u64
    }

    /// What the attempt did, if it was decided.
    pub(super) fn effect(&self, attempt: Attempt) -> Option<&Effect> {
        self.effects.get(&attempt)
    }

    /// The revision after the entry at `index`.
    pub(super) fn revision_at_index(&self, index: u64) -> Option<u64> {
        self.after_index(index).map(|after| after.revision)
    }

    /// The log time reached with the entry at `index`.
    pub(super) fn log_time_at_index(&self, index: u64) -> Option<u64> {
        self.after_index(index).map(|after| after.log_time_us)
    }

    /// The oldest kept revision after the entry at `index`.
    pub(super) fn oldest_kept_at_index(&self, index: u64) -> Option<u64> {
        self.after_index(index).map(|after| after.oldest_kept)
    }

    fn after_index(&self, index: u64) -> Option<After> {
        match index {
            0 => Some(After {
                revision: 1,
                log_time_us: 0,
                oldest_kept: 1,
            }),
            _ => self.after.get(index as usize - 1).copied(),
        }
    }

    /// The oldest revision that is agreed to be kept.
    pub(super) fn oldest_kept(&self) -> u64 {
        self.oldest_kept
    }

    /// All keys that there ever were, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.keys()
    }

    /// Keys, records and deadlines at a revision, in the order of keys.
    pub(super) fn state_at(&self, revision: u64) -> impl Iterator<Item = (&Bytes, &Record, Option<u64>)> {
        self.keys.iter().filter_map(move |(key, versions)| {
            let count = versions.partition_point(|version| version.since <= revision);
            let version = versions[..count].last()?;
            Some((key, version.record.as_ref()?, version.deadline_us))
        })
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The key as of a revision.
    pub(super) fn record_at(&self, key: &[u8], revision: u64) -> Option<Record> {
        let versions = self.keys.get(key)?;
        let count = versions.partition_point(|version| version.since <= revision);
        versions[..count].last()?.record.clone()
    }

    /// All changes of some keys at `from..=to`, in the order of keys: each with its revision and what the key became.
    pub(super) fn changes_of(
        &self,
        span: &KeySpan,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = (&Bytes, u64, Option<&Record>)> {
        let keys = self.keys.iter().filter(|(key, _)| span.contains(key));
        keys.flat_map(move |(key, versions)| {
            let first = versions.partition_point(|version| version.since < from);
            let within = versions[first..]
                .iter()
                .take_while(move |version| version.since <= to);
            within.map(move |version| (key, version.since, version.record.as_ref()))
        })
    }

    /// Did the revision delete this key?
    pub(super) fn is_deletion(&self, key: &[u8], revision: u64) -> bool {
        let version = self.keys.get(key).and_then(|versions| {
            let at = versions
                .binary_search_by_key(&revision, |version| version.since)
                .ok()?;
            versions.get(at)
        });
        version.is_some_and(|version| version.record.is_none())
    }

    /// Was the key, at some revision in `from..=to`, last changed by `current` (`None`: absent)?
    pub(super) fn was_ever(&self, key: &[u8], current: Option<Revision>, from: u64, to: u64) -> bool {
        let Some(versions) = self.keys.get(key) else {
            return current.is_none();
        };
        let first = versions.partition_point(|version| version.since <= from);
        let before = match first {
            0 => current.is_none(),
            _ => matches(&versions[first - 1], current),
        };
        before
            || versions[first..]
                .iter()
                .take_while(|version| version.since <= to)
                .any(|version| matches(version, current))
    }
}

fn matches(version: &Version, current: Option<Revision>) -> bool {
    version.record.as_ref().map(|record| record.mod_revision) == current
}

fn is_met(condition: Condition, record: Option<&Record>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => record.is_none(),
        Condition::ModRevision(revision) => record.is_some_and(|record| record.mod_revision == revision),
    }
}

fn failed(record: Option<&Record>) -> Answer {
    Answer::ConditionFailed {
        current: record.map(|record| record.mod_revision),
    }
}
