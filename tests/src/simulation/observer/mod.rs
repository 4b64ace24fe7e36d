//! The global observer: sees what every node writes, sends, applies and answers, and checks the invariants of Raft and
//! of the store after each event. It shares no code with the system under test: it keeps its own picture of each log
//! and its own model of the store.
//!
//! What a node holds is known from the writes it asks for ([`NodeView`]); what would survive a power failure, from the
//! syncs that returned. Everything is kept incrementally, so that a check costs no scan.

mod answers;
mod elections;
mod logs;
mod members;
mod messages;
mod model;
mod pages;
mod recovered;
mod states;
mod tenure;
mod view;
mod watches;

use std::collections::{BTreeSet, HashMap, HashSet};

use raftkv_raft::Index;
use raftkv_server::replica::{Effect, Node, Notice};

pub(crate) use answers::{Attempt, Invocation};
pub(crate) use model::ProposalId;
pub(crate) use pages::Listing;
pub(crate) use recovered::Recovery;
pub(crate) use states::PastCheck;
pub(crate) use tenure::{Floor, Timekeeping, is_outcome};
pub(crate) use watches::WatchView;

use self::model::Model;
use self::view::NodeView;
use super::queue::Micros;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `I1` to `I27`, or `panic`.
    pub invariant: &'static str,
    /// When, microseconds of virtual time.
    pub at_us: Micros,
    /// At which node (slot), if it is about one.
    pub node: Option<usize>,
    /// What was expected and what was seen.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.at_us;
        write!(f, "{} broken at {}.{:03}ms", self.invariant, at / 1000, at % 1000)?;
        if let Some(slot) = self.node {
            write!(f, " by node{}", slot + 1)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// An entry that stands in some log.
#[derive(Clone)]
struct Undecided {
    entry: raftkv_raft::Entry,
    /// Since then.
    since: Micros,
}

/// See the module.
pub(crate) struct Observer {
    now: Micros,
    /// One a node identity that ever was; a wiped node's stays behind.
    views: Vec<NodeView>,
    /// The view of each slot's present identity.
    current: Vec<usize>,
    /// Views that were told that they are the odd one.
    accused: BTreeSet<usize>,
    by_identity: HashMap<u64, usize>,
    /// Who led each term (I1).
    leaders: HashMap<u64, usize>,
    /// Who was voted for: (view, term) to candidate (I2).
    votes: HashMap<(usize, u64), u64>,
    /// The chained hash of each (index, term) that ever stood in a log (I4).
    chains: HashMap<(u64, u64), u64>,
    /// Commands not decided yet, by chained hash.
    undecided: HashMap<u64, Undecided>,
    /// The one log (I7): chained hashes of all entries that a legal quorum committed, index 1 first.
    decided: Vec<u64>,
    /// The cluster whose log this is.
    cluster: Option<u64>,
    /// What they hold.
    decided_entries: Vec<Undecided>,
    /// Their terms, and the configurations among them.
    decided_terms: Vec<u64>,
    decided_configurations: Vec<(u64, std::sync::Arc<raftkv_raft::Configuration>)>,
    /// The term whose leader decided each of them: never falls.
    decided_in: Vec<u64>,
    /// What each leader knew of each peer: (leader, peer) to term and match (I9).
    matches: HashMap<(usize, u64), (u64, u64)>,
    /// State hash per applied index (I7).
    state_hashes: HashMap<u64, u64>,
    /// The highest index each peer acknowledged to each leader, and in which term: (peer, leader).
    acknowledged: HashMap<(usize, u64), (u64, u64)>,
    model: Model,
    /// Some node's drain gave the past up to here up, for want of room: it may say so, whatever is agreed.
    past_given_up: u64,
    /// Attempts that were reported as failed: must never show an effect (I18).
    failed_attempts: HashSet<Attempt>,
    /// The highest revision that a completed operation has shown.
    shown_revision: u64,
    /// The last entry whose outcome a client has been told.
    shown_index: u64,
    /// Proposals of tenants, by what they are.
    copies: HashMap<ProposalId, tenure::Copies>,
    timekeeping: Timekeeping,
    /// In which term history was last given up, and up to where.
    trim: Option<(raftkv_raft::Term, raftkv_protocol::Revision)>,
    /// The last command that was decided is not one of those.
    is_write_decided: bool,
    limits: AppendLimits,
    elections: u64,
    violations: Vec<Violation>,
}

/// What the plan allows in one append (I19).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendLimits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl Observer {
    pub(crate) fn new(nodes: usize, limits: AppendLimits, timekeeping: Timekeeping) -> Observer {
        Observer {
            now: 0,
            views: Vec::new(),
            current: vec![usize::MAX; nodes],
            accused: BTreeSet::new(),
            by_identity: HashMap::new(),
            leaders: HashMap::new(),
            votes: HashMap::new(),
            chains: HashMap::new(),
            undecided: HashMap::new(),
            decided: Vec::new(),
            cluster: None,
            decided_entries: Vec::new(),
            decided_terms: Vec::new(),
            decided_configurations: Vec::new(),
            decided_in: Vec::new(),
            matches: HashMap::new(),
            state_hashes: HashMap::new(),
            acknowledged: HashMap::new(),
            model: Model::new(),
            past_given_up: 0,
            failed_attempts: HashSet::new(),
            shown_revision: 1,
            shown_index: 0,
            copies: HashMap::new(),
            timekeeping,
            trim: None,
            is_write_decided: false,
            limits,
            elections: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn set_now(&mut self, now: Micros) {
        self.now = now;
    }

    /// All violations so far; a run stops at the first.
    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How many elections were won.
    pub(crate) fn elections(&self) -> u64 {
        self.elections
    }

    /// How many entries were decided.
    pub(crate) fn decided_entries(&self) -> u64 {
        self.decided.len() as u64
    }

    /// Has the node in this slot a durable log?
    pub(crate) fn is_formed(&self, slot: usize) -> bool {
        self.views
            .get(self.current[slot])
            .is_some_and(NodeView::is_formed)
    }

    /// Notes a violation.
    pub(crate) fn violate(&mut self, invariant: &'static str, node: Option<usize>, what: String) {
        self.violations.push(Violation {
            invariant,
            at_us: self.now,
            node,
            what,
        });
    }

    fn violate_at(&mut self, invariant: &'static str, view: usize, what: String) {
        self.violate(invariant, Some(self.views[view].slot), what);
    }

    /// A slot gets an identity: at the start, and again when its disk was wiped.
    pub(crate) fn identity_drawn(&mut self, slot: usize, identity: u64) {
        let view = match self.by_identity.get(&identity) {
            Some(&known) => known,
            None => {
                self.views.push(NodeView::new(slot, identity));
                self.by_identity.insert(identity, self.views.len() - 1);
                self.views.len() - 1
            }
        };
        self.current[slot] = view;
    }

    /// The slot's node is told that it is the odd one: it will say so, and nothing is wrong.
    pub(crate) fn accused(&mut self, slot: usize) {
        self.accused.insert(self.current[slot]);
    }

    /// Was any node told so?
    pub(crate) fn has_accused(&self) -> bool {
        !self.accused.is_empty()
    }

    /// Was this slot's?
    pub(crate) fn is_accused(&self, slot: usize) -> bool {
        self.accused.contains(&self.current[slot])
    }

    /// What a poll decided, before any of it is carried out.
    pub(crate) fn polled(&mut self, slot: usize, node: &Node, effects: &[Effect]) {
        if !self.is_watched(slot) {
            return;
        }
        let view = self.current[slot];
        let governing = self.views[view].configuration();
        self.views[view].governing = governing;
        for effect in effects {
            match effect {
                Effect::Write(write) => self.write_asked(view, write),
                Effect::Install { install, .. } => self.install_asked(view, install),
                Effect::Notice(Notice::Transition(raftkv_raft::Transition::Elected { term, .. })) => {
                    self.elected(view, term.0);
                }
                // Disks keep what they are given here, and correct replicas do the same: whoever sees a difference errs.
                Effect::Notice(notice @ (Notice::StatesDiffer { .. } | Notice::Quarantined { .. })) => {
                    if !self.accused.contains(&view) {
                        self.violate_at("I7", view, format!("{notice:?}"));
                    }
                }
                Effect::Send { .. }
                | Effect::Fetch(_)
                | Effect::CreateLog { .. }
                | Effect::Answer { .. }
                | Effect::BeginWatch(_)
                | Effect::EndWatches(_)
                | Effect::Forward { .. }
                | Effect::CheckFiles
                | Effect::Lookup { .. }
                | Effect::ReadPage { .. }
                | Effect::Scrub { .. }
                | Effect::ReleaseState(_)
                | Effect::Record(_)
                | Effect::Seal { .. }
                | Effect::Drain { .. }
                | Effect::SendBulk { .. }
                | Effect::OpenSnapshot(_)
                | Effect::ReadPart { .. }
                | Effect::CloseSnapshot(_)
                | Effect::TakePart { .. }
                | Effect::AbandonSnapshot
                | Effect::TrimHistory { .. }
                | Effect::CutLog { .. }
                | Effect::Discard(_)
                | Effect::Quarantine(_)
                | Effect::Notice(_) => {}
            }
        }
        self.check_state(view, node);
    }

    fn check_state(&mut self, view: usize, node: &Node) {
        let Some(raft) = node.raft() else { return };
        self.check_term(view, raft);
        self.check_commit(view, raft);
        self.check_changes(view);
        self.check_progress(view, raft);
        if let Some(store) = node.store() {
            self.check_applied(view, store);
        }
    }

    fn check_applied(&mut self, view: usize, store: &raftkv_server::store::Store) {
        let applied = store.applied().map_or(0, Index::get);
        let (before, commit, durable) = {
            let seen = &self.views[view];
            // A received snapshot is durable, though it is not the current state yet.
            let installed = seen.pending.iter().filter(|write| write.is_install());
            let installed = installed.map(|write| write.entries.len()).max().unwrap_or(0);
            (
                seen.applied,
                seen.commit,
                seen.durable.len().max(installed) as u64,
            )
        };
        if applied == before {
            return;
        }
        self.views[view].applied = applied;
        if applied < before {
            self.violate_at("I8", view, format!("applied fell from {before} to {applied}"));
        }
        if applied > commit {
            self.violate_at(
                "I9",
                view,
                format!("applied {applied} is beyond its commit {commit}"),
            );
        }
        if applied > durable {
            self.violate_at(
                "I11",
                view,
                format!("applied {applied}, but only {durable} is durable here"),
            );
        }
        let hash = store.state_hash();
        let first = *self.state_hashes.entry(applied).or_insert(hash);
        if first != hash {
            let what = format!("two state hashes at index {applied}: {first:016x} and {hash:016x}");
            self.violate_at("I7", view, what);
        }
        let revision = store.revision().0;
        let expected = self.model.revision_at_index(applied);
        if expected != Some(revision) {
            let what = format!("revision {revision} at index {applied}, the model says {expected:?}");
            self.violate_at("I7", view, what);
        }
    }
}
