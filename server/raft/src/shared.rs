//! What a node knows and owes in every role.

use std::collections::BTreeMap;

use crate::apply::Apply;
use crate::log::Log;
use crate::membership::Configurations;
use crate::outbox::Outbox;
use crate::simulation::{mark, mutant};
use crate::{
    Config, Configuration, Entry, EntryId, Envelope, Fetch, FetchPurpose, HardState, Index, Install, Message,
    NodeId, ReadId, ReadOutcome, Restored, Term, Time, Transition, Write, WriteNumber,
};

/// # Invariants
/// * `term` and `commit` never fall; `vote` changes only from none to someone, or to none with a new term (R2).
/// * applied ≤ commit ≤ last, and persisted ≤ last.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    rng: fastrand::Rng,
    term: Term,
    vote: Option<NodeId>,
    hard_state_changed: bool,
    /// The write that carries (or will carry) the present term and vote.
    hard_state_write: WriteNumber,
    commit: Index,
    pub(crate) log: Log,
    pub(crate) configurations: Configurations,
    pub(crate) apply: Apply,
    outbox: Outbox,
    open_fetches: BTreeMap<FetchPurpose, Fetch>,
    new_fetches: Vec<Fetch>,
    transitions: Vec<Transition>,
    follows: Option<(Term, Option<NodeId>)>,
    read_outcomes: Vec<ReadOutcome>,
    /// A snapshot took the log's place in memory; the disk is to be told.
    is_install_due: bool,
    /// When this node asks for pre-votes, unless something restarts the timer. Unused while it leads.
    pub(crate) election_deadline: Time,
    /// When a leader was last heard from, for status.
    pub(crate) leader_contact: Option<Time>,
    next_read_id: u64,
    /// With leases on: until then some leader may count on it that this node votes for nobody else (R71).
    promised_until: Time,
}

impl Shared {
    pub(crate) fn new(id: NodeId, config: Config, restored: Restored, seed: u64) -> Shared {
        let mut rng = fastrand::Rng::with_seed(seed);
        let commit = restored
            .hard_state
            .commit
            .max(restored.applied)
            .max(restored.base.index);
        let forgets = mutant("X03_vote_forgotten_at_restart");
        Shared {
            id,
            config,
            term: restored.hard_state.term,
            vote: restored.hard_state.vote.filter(|_| !forgets),
            hard_state_changed: false,
            hard_state_write: WriteNumber(0),
            commit,
            log: Log::restored(restored.base, &restored.term_runs, restored.last),
            configurations: Configurations::new(
                restored.base.index,
                restored.configuration,
                restored.later_configurations,
            ),
            apply: Apply::new(restored.applied),
            outbox: Outbox::default(),
            open_fetches: BTreeMap::new(),
            new_fetches: Vec::new(),
            transitions: Vec::new(),
            follows: Some((restored.hard_state.term, None)),
            read_outcomes: Vec::new(),
            is_install_due: false,
            election_deadline: Time(0),
            leader_contact: None,
            // An answer to a request of this node's former life must not be taken for one of this life.
            next_read_id: rng.u64(..),
            promised_until: Time(0),
            rng,
        }
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        self.configurations.latest()
    }

    /// May this node campaign (R14)? Voters may. A voter whose own latest configuration drops it may too while that
    /// configuration is not committed: it may be the only one that holds the entry.
    pub(crate) fn may_campaign(&self) -> bool {
        self.configuration().is_voter(self.id) || self.configurations.committed(self.commit).is_voter(self.id)
    }

    /// A higher term: no vote is cast in it yet (R2, R4).
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.term, "the term rises: {term} after {}", self.term);
        self.term = term;
        self.vote = None;
        self.outbox.forget_held();
        self.hard_state_changes();
    }

    /// Casts this term's one vote (R1).
    pub(crate) fn cast_vote(&mut self, candidate: NodeId) {
        assert!(
            self.vote.is_none_or(|vote| vote == candidate),
            "one vote a term: {candidate} asks in term {}, which went to {:?}",
            self.term,
            self.vote
        );
        if self.vote.is_none() {
            self.vote = Some(candidate);
            self.hard_state_changes();
        }
    }

    /// Takes the vote back: the planted bug of X03.
    pub(crate) fn forget_vote(&mut self) {
        self.vote = None;
    }

    fn hard_state_changes(&mut self) {
        self.hard_state_changed = true;
        self.hard_state_write = self.log.next_write();
    }

    /// Are the present term and vote durable?
    pub(crate) fn is_hard_state_persisted(&self) -> bool {
        self.log.persisted_write() >= self.hard_state_write
    }

    /// Sends once the present term and vote are durable: now, almost always.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, message);
        if self.is_hard_state_persisted() {
            self.outbox.send(envelope);
        } else {
            self.outbox.send_after(self.hard_state_write, envelope);
        }
    }

    /// Sends whatever is durable: only for planted bugs.
    pub(crate) fn send_at_once(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, message);
        self.outbox.send(envelope);
    }

    fn envelope(&self, to: NodeId, message: Message) -> Envelope {
        Envelope {
            from: self.id,
            to,
            term: self.term,
            message,
        }
    }

    /// Appends to the log; a configuration takes effect with it (R56).
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            if let Some(configuration) = &entry.configuration {
                self.configurations.append(entry.id.index, configuration.clone());
            }
        }
        self.log.append(entries);
    }

    /// Cuts a conflicting tail, and the configurations in it (R18, R56).
    ///
    /// # Panics
    /// When it would cut a committed entry (R19): some log broke its promise, and every further step would spread it.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(
            from > self.commit,
            "conflicting entry at or below commit: cut from {from}, commit {}; keep this node's data directory",
            self.commit
        );
        self.log.truncate(from);
        self.configurations.truncate(from);
    }

    /// A snapshot up to `last` takes the place of state, log and configurations (R50, R51). Term and vote stay, so messages
    /// that promise nothing of the log need not wait for the disk: heartbeats are answered all the while.
    pub(crate) fn install(&mut self, last: EntryId, configuration: Configuration) {
        self.close_all_fetches();
        self.apply.jump(last.index);
        self.configurations.reset(last.index, configuration);
        self.log.reset(last, self.commit);
        self.commit = last.index;
        self.is_install_due = true;
    }

    /// Everything up to `index` is committed.
    pub(crate) fn commit_to(&mut self, index: Index) {
        let index = index.min(self.log.last().index);
        if index > self.commit {
            self.commit = index;
        }
    }

    /// All writes up to `number` are durable.
    pub(crate) fn finish_writes(&mut self, number: WriteNumber) {
        self.log.finish_writes(number);
        self.outbox.release(self.log.persisted_write());
    }

    /// Lets go of entries in memory beyond the bound.
    pub(crate) fn evict(&mut self) {
        self.log.evict(self.config.tail_bytes, self.apply.applied());
    }

    /// A leader was heard, or this node starts and may have heard one just before: what leases rest on (R71).
    pub(crate) fn promise_lease(&mut self, now: Time) {
        if self.config.leader_leases.are_on() {
            self.promised_until = now.after(self.config.election_timeout);
        }
    }

    pub(crate) fn keeps_lease_promise(&self, now: Time) -> bool {
        now < self.promised_until
    }

    /// The election timer starts anew, with a time-out of its own (R6, R7).
    pub(crate) fn restart_election_timer(&mut self, now: Time) {
        let least = self.config.election_timeout;
        self.election_deadline = now.after(least).after(self.random_below(least));
    }

    /// Something in [0, `limit`).
    pub(crate) fn random_below(&mut self, limit: std::time::Duration) -> std::time::Duration {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        std::time::Duration::from_micros(self.rng.u64(..micros.max(1)))
    }

    /// An id for a read request, never used before.
    pub(crate) fn fresh_read_id(&mut self) -> ReadId {
        self.next_read_id = self.next_read_id.wrapping_add(1);
        ReadId(self.next_read_id)
    }

    pub(crate) fn read_outcome(&mut self, outcome: ReadOutcome) {
        self.read_outcomes.push(outcome);
    }

    pub(crate) fn report(&mut self, transition: Transition) {
        self.transitions.push(transition);
    }

    /// Reports whom this node follows, when that is new.
    pub(crate) fn report_follows(&mut self, leader: Option<NodeId>) {
        if self.follows != Some((self.term, leader)) {
            self.follows = Some((self.term, leader));
            self.transitions.push(Transition::Follows {
                term: self.term,
                leader,
            });
        }
    }

    /// This node campaigns or leads: whoever it follows next is news.
    pub(crate) fn follows_nobody(&mut self) {
        self.follows = None;
    }

    /// Asks for entries, unless a request for the same purpose is open.
    pub(crate) fn fetch(&mut self, fetch: Fetch) {
        assert!(
            fetch.from <= fetch.to,
            "an empty range is never fetched: {fetch:?}"
        );
        if let std::collections::btree_map::Entry::Vacant(place) = self.open_fetches.entry(fetch.purpose) {
            place.insert(fetch);
            self.new_fetches.push(fetch);
        }
    }

    pub(crate) fn has_open_fetch(&self, purpose: FetchPurpose) -> bool {
        self.open_fetches.contains_key(&purpose)
    }

    /// The fetch was answered. Was it open?
    pub(crate) fn close_fetch(&mut self, fetch: &Fetch) -> bool {
        let is_open = self.open_fetches.get(&fetch.purpose) == Some(fetch);
        if is_open {
            self.open_fetches.remove(&fetch.purpose);
        } else {
            mark("fetch that was not open dropped");
        }
        is_open
    }

    /// What the log holds no more will not be read back: whatever comes of it is dropped.
    pub(crate) fn close_fetches_up_to(&mut self, base: Index) {
        self.open_fetches.retain(|_, fetch| fetch.from > base);
        self.new_fetches.retain(|fetch| fetch.from > base);
    }

    fn close_all_fetches(&mut self) {
        self.open_fetches.clear();
        self.new_fetches.clear();
    }

    /// Everything of [`Ready`](crate::Ready) that all roles share.
    pub(crate) fn take_ready(&mut self, now: Time) -> crate::Ready {
        let install = self.take_install(now);
        let write = self.take_write(now);
        let ready_to_apply = self.commit.min(self.log.persisted());
        let committed = self.apply.next_batch(&self.log, ready_to_apply, &self.config);
        if !self.has_open_fetch(FetchPurpose::Apply)
            && let Some(fetch) = self.apply.wanted_fetch(&self.log, ready_to_apply, &self.config)
        {
            self.fetch(fetch);
        }
        crate::Ready {
            install,
            write,
            messages: self.outbox.take(),
            committed,
            reads: std::mem::take(&mut self.read_outcomes),
            fetches: std::mem::take(&mut self.new_fetches),
            snapshots: Vec::new(),
            leave_joint: None,
            transitions: std::mem::take(&mut self.transitions),
        }
    }

    fn take_install(&mut self, now: Time) -> Option<Install> {
        if !std::mem::take(&mut self.is_install_due) {
            return None;
        }
        self.hard_state_changed = false;
        Some(Install {
            number: self.log.start_install(now),
            last: self.log.base(),
            hard_state: HardState {
                term: self.term,
                vote: self.vote,
                commit: self.log.base().index,
            },
        })
    }

    fn take_write(&mut self, now: Time) -> Option<Write> {
        if !self.hard_state_changed && !self.log.has_unwritten() {
            return None;
        }
        self.hard_state_changed = false;
        let (span, entries) = self.log.start_write(now);
        // A crash may keep the hard state and lose the entries beside it, and a stored commit index must not pass the
        // log's end (R46): it goes no further than what earlier writes carry.
        let carried = span
            .first
            .previous()
            .expect("the first index is never written by the core");
        Some(Write {
            number: span.number,
            hard_state: HardState {
                term: self.term,
                vote: self.vote,
                commit: self.commit.min(carried),
            },
            truncate_from: span.truncate_from,
            entries,
        })
    }
}
