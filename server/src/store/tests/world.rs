//! What the whole state machine should be, told as simply as possible: no layers, no logs, everything copied.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftkv_protocol::{
    Answer, Branch, Compare, ErrorCode, KeyValue, Keys, LeaseId, Lifetime, Once, Op, OpResult, Previous,
    Record, Relation, Revision, SessionId, Shape, Test, Txn, TxnResult,
};

pub(super) const KEYS: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
/// Ends of ranges: at keys, between them, and beyond.
pub(super) const ENDS: [&[u8]; 6] = [b"", b"a", b"b", b"bb", b"d", b"f"];
pub(super) const DAY_MS: u64 = 24 * 3600 * 1000;
pub(super) const VALUES: [&[u8]; 5] = [b"", b"7", b"-3", b"word", b"9223372036854775807"];

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct World {
    pub(super) keys: BTreeMap<&'static [u8], Held>,
    pub(super) changes: u64,
    pub(super) now_ms: u64,
    /// Time to live and deadline.
    pub(super) leases: BTreeMap<u64, (u64, u64)>,
    pub(super) sessions: BTreeMap<u64, Session>,
    /// All that ever were opened.
    pub(super) opened: Vec<u64>,
    /// By name: the command, what it came to, and until when that is known.
    names: BTreeMap<u8, (Bytes, Told, u64)>,
    /// The entry that is executed.
    pub(super) index: u64,
}

/// What a command came to.
pub(super) type Told = Result<Answer, ErrorCode>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Session {
    ttl_ms: u64,
    pub(super) deadline_ms: u64,
    first: u64,
    told: BTreeMap<u64, Told>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) value: Vec<u8>,
    pub(super) created: u64,
    pub(super) changed: u64,
    pub(super) version: u64,
    pub(super) expires_ms: Option<u64>,
    pub(super) lease: Option<u64>,
}

/// A transaction as it is drawn; keys and values by their places.
#[derive(Clone, Debug)]
pub(super) struct TxnSpec {
    pub(super) compare: Vec<(KeysSpec, TestSpec)>,
    pub(super) then: Vec<OpSpec>,
    pub(super) otherwise: Vec<OpSpec>,
}

/// A key, or a range between two ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeysSpec {
    One(usize),
    Range(usize, Option<usize>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TestSpec {
    Exists,
    Absent,
    Value(Relation, usize),
    Version(Relation, u64),
    Created(Relation, u64),
    Changed(Relation, u64),
    Lease(Relation, Option<u64>),
}

#[derive(Clone, Debug)]
pub(super) enum OpSpec {
    Put(usize, usize, Lifetime, Previous),
    Increment(usize, i64),
    Delete(KeysSpec, Previous),
    Get(KeysSpec, Shape, Option<u32>),
    Txn(TxnSpec),
}

impl TxnSpec {
    pub(super) fn encode(&self) -> Bytes {
        let nested = |ops: &[OpSpec]| -> Vec<Bytes> {
            let nested = |op: &OpSpec| match op {
                OpSpec::Txn(txn) => txn.encode(),
                _ => Bytes::new(),
            };
            ops.iter().map(nested).collect()
        };
        let (in_then, in_otherwise) = (nested(&self.then), nested(&self.otherwise));
        let compare = self.compare.iter().map(|(keys, test)| Compare {
            keys: keys.plain(),
            test: test.plain(),
        });
        fn plain<'a>((op, nested): (&OpSpec, &'a Bytes)) -> Op<'a> {
            op.plain(nested)
        }
        let txn = Txn {
            compare: compare.collect(),
            then: self.then.iter().zip(&in_then).map(plain).collect(),
            otherwise: self.otherwise.iter().zip(&in_otherwise).map(plain).collect(),
        };
        txn.encode()
    }
}

impl KeysSpec {
    fn plain(self) -> Keys<'static> {
        match self {
            KeysSpec::One(key) => Keys::One(KEYS[key]),
            KeysSpec::Range(from, to) => Keys::Range {
                from: ENDS[from],
                to: to.map(|to| ENDS[to]),
            },
        }
    }

    fn holds(self, key: usize) -> bool {
        match self {
            KeysSpec::One(one) => one == key,
            KeysSpec::Range(from, to) => ENDS[from] <= KEYS[key] && to.is_none_or(|to| KEYS[key] < ENDS[to]),
        }
    }

    fn all(self) -> impl Iterator<Item = usize> {
        (0..KEYS.len()).filter(move |key| self.holds(*key))
    }
}

impl TestSpec {
    fn plain(self) -> Test<'static> {
        match self {
            TestSpec::Exists => Test::Exists,
            TestSpec::Absent => Test::Absent,
            TestSpec::Value(relation, value) => Test::Value(relation, VALUES[value]),
            TestSpec::Version(relation, version) => Test::Version(relation, version),
            TestSpec::Created(relation, revision) => Test::CreateRevision(relation, Revision(revision)),
            TestSpec::Changed(relation, revision) => Test::ModRevision(relation, Revision(revision)),
            TestSpec::Lease(relation, lease) => Test::Lease(relation, lease.map(LeaseId)),
        }
    }
}

impl OpSpec {
    fn plain<'a>(&self, nested: &'a [u8]) -> Op<'a> {
        match *self {
            OpSpec::Put(key, value, lifetime, previous) => Op::Put {
                key: KEYS[key],
                value: VALUES[value],
                lifetime,
                previous,
            },
            OpSpec::Increment(key, by) => Op::Increment { key: KEYS[key], by },
            OpSpec::Delete(keys, previous) => Op::Delete {
                keys: keys.plain(),
                previous,
            },
            OpSpec::Get(keys, shape, limit) => Op::Get {
                keys: keys.plain(),
                shape,
                limit,
            },
            OpSpec::Txn(_) => Op::Txn(nested),
        }
    }
}

impl Held {
    fn record(&self) -> Record {
        Record {
            value: self.value.clone().into(),
            create_revision: Revision(self.created),
            mod_revision: Revision(self.changed),
            version: self.version,
            lease: self.lease.map(LeaseId),
        }
    }
}

/// One transaction that is under way.
struct Run {
    world: World,
    put: BTreeSet<usize>,
    deleted_by_name: BTreeSet<usize>,
    deleted_ranges: Vec<KeysSpec>,
    is_changed: bool,
}

impl World {
    pub(super) fn advance(&mut self, log_time_ms: u64) {
        self.now_ms = self.now_ms.max(log_time_ms);
        let (before, now_ms) = (self.keys.len(), self.now_ms);
        self.keys
            .retain(|_, held| held.expires_ms.is_none_or(|at| at > now_ms));
        self.changes += (before - self.keys.len()) as u64;
        let due = self
            .leases
            .iter()
            .map(|(id, (_, deadline_ms))| (*deadline_ms, *id));
        let mut due: Vec<_> = due.filter(|(deadline_ms, _)| *deadline_ms <= now_ms).collect();
        due.sort_unstable();
        for (_, id) in due {
            self.end_lease(id);
        }
        self.sessions.retain(|_, session| session.deadline_ms > now_ms);
        self.names.retain(|_, (_, _, until_ms)| *until_ms > now_ms);
    }

    pub(super) fn keys_on(&self, id: u64) -> Vec<&'static [u8]> {
        let on = self.keys.iter().filter(|(_, held)| held.lease == Some(id));
        on.map(|(key, _)| *key).collect()
    }

    fn end_lease(&mut self, id: u64) -> u64 {
        self.leases.remove(&id);
        let keys = self.keys_on(id);
        self.changes += u64::from(!keys.is_empty());
        for key in &keys {
            self.keys.remove(key);
        }
        keys.len() as u64
    }

    pub(super) fn grant(&mut self, id: Option<u64>, ttl_ms: u64) -> Told {
        let id = id.unwrap_or((1 << 62) + self.index);
        if self.leases.contains_key(&id) {
            return Err(ErrorCode::LeaseExists);
        }
        self.leases.insert(id, (ttl_ms, self.now_ms + ttl_ms));
        Ok(Answer::LeaseGranted {
            id: LeaseId(id),
            ttl_ms,
        })
    }

    pub(super) fn renew(&mut self, ids: &[u64]) -> Told {
        let mut renewed = Vec::new();
        for id in ids {
            let lease = self.leases.get_mut(id);
            renewed.push(lease.map(|(ttl_ms, deadline_ms)| {
                *deadline_ms = self.now_ms + *ttl_ms;
                *ttl_ms
            }));
        }
        Ok(Answer::LeasesRenewed(renewed))
    }

    pub(super) fn revoke(&mut self, id: u64) -> Told {
        if !self.leases.contains_key(&id) {
            return Err(ErrorCode::LeaseNotFound);
        }
        let deleted = self.end_lease(id);
        Ok(Answer::LeaseRevoked {
            deleted,
            revision: Revision(self.changes + 1),
        })
    }

    pub(super) fn open(&mut self, ttl_ms: u64) -> Told {
        let session = Session {
            ttl_ms,
            deadline_ms: self.now_ms + ttl_ms,
            first: 1,
            told: BTreeMap::new(),
        };
        self.sessions.insert(self.index, session);
        self.opened.push(self.index);
        Ok(Answer::SessionOpened {
            session: SessionId(self.index),
            ttl_ms,
        })
    }

    /// One of those that ever were.
    pub(super) fn session_at(&self, place: usize) -> u64 {
        match self.opened.len() {
            0 => 9999,
            count => self.opened[place % count],
        }
    }

    pub(super) fn keep(&mut self, id: u64) -> Told {
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::SessionExpired)?;
        session.deadline_ms = self.now_ms + session.ttl_ms;
        Ok(Answer::SessionDone)
    }

    pub(super) fn within(&mut self, once: Once, run: impl FnOnce(&mut World) -> Told) -> Told {
        self.keep(once.session.0)?;
        let session = self.sessions.get_mut(&once.session.0).unwrap();
        session.first = session.first.max(once.first_unacknowledged);
        let first = session.first;
        session.told.retain(|sequence, _| *sequence >= first);
        if once.sequence < first {
            return Err(ErrorCode::BadRequest);
        }
        if let Some(told) = session.told.get(&once.sequence) {
            return told.clone();
        }
        let told = run(self);
        if let Some(session) = self.sessions.get_mut(&once.session.0) {
            session.told.insert(once.sequence, told.clone());
        }
        told
    }

    pub(super) fn once(&mut self, name: u8, command: Bytes, run: impl FnOnce(&mut World) -> Told) -> Told {
        match self.names.get(&name) {
            Some((known, told, _)) if *known == command => return told.clone(),
            Some(_) => return Err(ErrorCode::IdempotencyConflict),
            None => {}
        }
        let told = run(self);
        self.names
            .insert(name, (command, told.clone(), self.now_ms + DAY_MS));
        told
    }

    /// On a copy, which takes this one's place only when nothing was refused.
    pub(super) fn transact(&mut self, spec: &TxnSpec) -> Result<TxnResult, ErrorCode> {
        let mut run = Run {
            world: self.clone(),
            put: BTreeSet::new(),
            deleted_by_name: BTreeSet::new(),
            deleted_ranges: Vec::new(),
            is_changed: false,
        };
        run.world.changes += 1;
        let (branch, results) = run.txn(spec)?;
        if run.is_changed {
            *self = run.world;
        }
        Ok(TxnResult {
            revision: Revision(self.changes + 1),
            branch,
            results,
        })
    }

    fn set(&mut self, key: usize, value: &[u8], expires_ms: Option<u64>, lease: Option<u64>) {
        let changed = self.changes + 1;
        let old = self.keys.get(KEYS[key]);
        let held = Held {
            value: value.to_vec(),
            created: old.map_or(changed, |old| old.created),
            changed,
            version: old.map_or(1, |old| old.version + 1),
            expires_ms,
            lease,
        };
        self.keys.insert(KEYS[key], held);
    }

    fn key_value(&self, key: usize) -> Option<KeyValue> {
        let held = self.keys.get(KEYS[key])?;
        Some(KeyValue {
            key: Bytes::from_static(KEYS[key]),
            record: held.record(),
        })
    }

    /// On a range: for each key that is there; where none is, as for one that is not.
    fn passes(&self, (keys, test): (KeysSpec, TestSpec)) -> bool {
        let held: Vec<_> = keys.all().filter_map(|key| self.keys.get(KEYS[key])).collect();
        match held.is_empty() {
            true => Self::is_passed(None, test),
            false => held.into_iter().all(|held| Self::is_passed(Some(held), test)),
        }
    }

    fn is_passed(held: Option<&Held>, test: TestSpec) -> bool {
        let is = |relation, left: u64, right: u64| match relation {
            Relation::Equal => left == right,
            Relation::NotEqual => left != right,
            Relation::Less => left < right,
            Relation::Greater => left > right,
        };
        match test {
            TestSpec::Exists => held.is_some(),
            TestSpec::Absent => held.is_none(),
            TestSpec::Value(relation, value) => held.is_some_and(|held| {
                let order = held.value[..].cmp(VALUES[value]) as i8;
                match relation {
                    Relation::Equal => order == 0,
                    Relation::NotEqual => order != 0,
                    Relation::Less => order < 0,
                    Relation::Greater => order > 0,
                }
            }),
            TestSpec::Version(relation, right) => is(relation, held.map_or(0, |held| held.version), right),
            TestSpec::Created(relation, right) => is(relation, held.map_or(0, |held| held.created), right),
            TestSpec::Changed(relation, right) => is(relation, held.map_or(0, |held| held.changed), right),
            TestSpec::Lease(relation, right) => {
                let left = held.and_then(|held| held.lease).unwrap_or(0);
                is(relation, left, right.unwrap_or(0))
            }
        }
    }
}

impl Run {
    fn txn(&mut self, spec: &TxnSpec) -> Result<(Branch, Vec<OpResult>), ErrorCode> {
        let holds = spec.compare.iter().all(|compare| self.world.passes(*compare));
        let (branch, ops) = if holds {
            (Branch::Then, &spec.then)
        } else {
            (Branch::Otherwise, &spec.otherwise)
        };
        let mut results = Vec::new();
        for op in ops {
            results.push(self.op(op)?);
        }
        Ok((branch, results))
    }

    fn puts(&mut self, key: usize) -> Result<(), ErrorCode> {
        let is_deleted =
            self.deleted_by_name.contains(&key) || self.deleted_ranges.iter().any(|keys| keys.holds(key));
        match !is_deleted && self.put.insert(key) {
            true => Ok(()),
            false => Err(ErrorCode::BadRequest),
        }
    }

    fn deletes(&mut self, keys: KeysSpec) -> Result<(), ErrorCode> {
        let is_twice = match keys {
            KeysSpec::One(key) => !self.deleted_by_name.insert(key),
            KeysSpec::Range(..) => {
                self.deleted_ranges.push(keys);
                false
            }
        };
        match is_twice || keys.all().any(|key| self.put.contains(&key)) {
            true => Err(ErrorCode::BadRequest),
            false => Ok(()),
        }
    }

    fn op(&mut self, op: &OpSpec) -> Result<OpResult, ErrorCode> {
        match *op {
            OpSpec::Put(key, value, lifetime, previous) => {
                let old = self.world.keys.get(KEYS[key]).cloned();
                let (expires_ms, lease) = match lifetime {
                    Lifetime::Unlimited => (None, None),
                    Lifetime::Ttl { ttl_ms } => (Some(self.world.now_ms + ttl_ms), None),
                    Lifetime::Lease(LeaseId(id)) if self.world.leases.contains_key(&id) => (None, Some(id)),
                    Lifetime::Lease(_) => return Err(ErrorCode::LeaseNotFound),
                    Lifetime::Kept => old.map_or((None, None), |old| (old.expires_ms, old.lease)),
                };
                let previous = (previous == Previous::Wanted).then(|| self.world.key_value(key));
                self.puts(key)?;
                self.world.set(key, VALUES[value], expires_ms, lease);
                self.is_changed = true;
                Ok(OpResult::Put {
                    previous: previous.flatten(),
                })
            }
            OpSpec::Increment(key, by) => {
                let old = self.world.keys.get(KEYS[key]).cloned();
                let number: i64 = match &old {
                    None => 0,
                    Some(old) => match &old.value[..] {
                        b"" | b"word" => return Err(ErrorCode::NotANumber),
                        digits => String::from_utf8(digits.to_vec()).unwrap().parse().unwrap(),
                    },
                };
                let sum = i128::from(number) + i128::from(by);
                let value = i64::try_from(sum).map_err(|_| ErrorCode::NotANumber)?;
                self.puts(key)?;
                let (expires_ms, lease) = old.map_or((None, None), |old| (old.expires_ms, old.lease));
                self.world
                    .set(key, value.to_string().as_bytes(), expires_ms, lease);
                self.is_changed = true;
                Ok(OpResult::Incremented { value })
            }
            OpSpec::Delete(keys, previous) => {
                let old: Vec<_> = keys.all().filter_map(|key| self.world.key_value(key)).collect();
                self.deletes(keys)?;
                for key in keys.all() {
                    self.world.keys.remove(KEYS[key]);
                }
                self.is_changed |= !old.is_empty();
                Ok(OpResult::Deleted {
                    count: old.len() as u64,
                    previous: match previous {
                        Previous::Wanted => old,
                        Previous::Unwanted => Vec::new(),
                    },
                })
            }
            OpSpec::Get(keys, shape, limit) => {
                let found: Vec<_> = keys.all().filter_map(|key| self.world.key_value(key)).collect();
                let count = found.len() as u64;
                let shown = match shape {
                    Shape::CountOnly => 0,
                    Shape::Records | Shape::KeysOnly => limit.map_or(found.len(), |limit| limit as usize),
                };
                let kvs = found.into_iter().take(shown).map(|mut kv| {
                    if shape == Shape::KeysOnly {
                        kv.record.value = Bytes::new();
                    }
                    kv
                });
                Ok(OpResult::Got {
                    kvs: kvs.collect(),
                    count,
                })
            }
            OpSpec::Txn(ref txn) => {
                let (branch, results) = self.txn(txn)?;
                Ok(OpResult::Txn { branch, results })
            }
        }
    }
}
