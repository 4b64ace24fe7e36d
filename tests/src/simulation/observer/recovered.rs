//! A recovery (I27): a majority is lost for ever, and what one directory held durably is all there is from then on.
//!
//! **What may be lost** is what that directory did not hold, acknowledged or not. Everything it held is there afterwards, in
//! its order, and nothing else; a new cluster of one, under an id and an identity that never were, decides what follows; no
//! revision is given again, and no lease and no session gets the name of one that was lost; and from then on every other
//! invariant holds again. So the one log is cut to what the directory held, and the model replays it.
//!
//! What had been called failed may show its effect: the directory may hold an entry that the majority had replaced, and nobody
//! is left who could say so.

use std::collections::HashMap;

use raftkv_raft::simulation::mark;
use raftkv_raft::{Configuration, Entry, EntryId};
use raftkv_server::membership::Membership;

use super::model::{Model, Moment};
use super::view::{Mirrored, chain_of};
use super::{Observer, ProposalId, Undecided};

/// What a recovery says that it has made.
pub(crate) struct Recovery<'a> {
    /// Whose directory it is now.
    pub(crate) identity: u64,
    /// The last entry of the old log.
    pub(crate) base: EntryId,
    /// The store goes on from there.
    pub(crate) revision: u64,
    /// Leases and sessions are named after this plus their entry's index from now on.
    pub(crate) names_from: u64,
    /// Entry 1 of the new cluster.
    pub(crate) founding: &'a Entry,
    /// What it begins with behind the old log.
    pub(crate) configuration: &'a Entry,
}

impl Observer {
    /// Is this slot's machine watched? Who was left behind by a recovery is not: it has no part in the cluster any more.
    pub(super) fn is_watched(&self, slot: usize) -> bool {
        self.current[slot] < self.views.len()
    }

    /// How much of the log the directory of this identity holds, at the least.
    pub(crate) fn durable_entries(&self, identity: u64) -> usize {
        let view = self.by_identity.get(&identity);
        view.map_or(0, |&view| self.views[view].durable.len())
    }

    /// The directory of this slot was recovered, as its disk was just seen to be.
    pub(crate) fn recovered(&mut self, slot: usize, recovery: &Recovery<'_>) {
        let log = self.views[self.current[slot]].log.clone();
        self.check_recovery(slot, &log, recovery);
        if !self.violations.is_empty() {
            return;
        }
        let Some(mut entries) = self.entries_of(&log) else {
            let what = "the directory held an entry that nobody wrote".to_owned();
            return self.violate("I27", Some(slot), what);
        };
        let common = log.iter().zip(&self.decided);
        let common = common
            .take_while(|(held, decided)| held.chain == **decided)
            .count() as u64;
        if common < self.decided.len() as u64 {
            mark("operators: a cluster was recovered that had lost what was decided");
        }
        if common < log.len() as u64 {
            mark("operators: a cluster was recovered whose log held what nobody had decided");
        }
        self.state_hashes.retain(|index, _| *index <= common);
        self.model = Model::new();
        for Undecided { entry, since } in &entries {
            let moment = self.moment_of(entry, *since);
            self.model.apply(entry, moment);
        }
        drop(self.model.take_ended());
        self.model.leap(recovery.revision, recovery.names_from);
        self.forget_the_lost();
        self.begin_log(log, recovery);
        entries[0].entry = recovery.founding.clone();
        entries.push(Undecided {
            entry: recovery.configuration.clone(),
            since: self.now,
        });
        self.decided_entries = entries;
        self.cluster = cluster_of(recovery.founding);
        let moment = self.moment_of(recovery.configuration, self.now);
        self.model.apply(recovery.configuration, moment);
        self.shown_index = self.decided.len() as u64;
        self.shown_revision = self.model.revision();
        self.watch_only(slot, recovery);
    }

    fn check_recovery(&mut self, slot: usize, log: &[Mirrored], recovery: &Recovery<'_>) {
        let (index, term) = (recovery.base.index.get(), recovery.base.term.0);
        let last = log.last().map_or(0, |last| last.term);
        if (index, term) != (log.len() as u64, last) {
            let what = format!(
                "goes on behind {}, the log ended with {}@{last}",
                recovery.base,
                log.len()
            );
            self.violate("I27", Some(slot), what);
        }
        let first = (recovery.revision + 1, recovery.names_from + index + 1);
        let old = (self.model.revision() + 1, self.model.fresh_name());
        if first.0 < old.0 || first.1 < old.1 {
            let what =
                format!("goes on with revision and name {first:?}, the old cluster would have with {old:?}");
            self.violate("I27", Some(slot), what);
        }
        let cluster = cluster_of(recovery.founding);
        if cluster == self.cluster || self.by_identity.contains_key(&recovery.identity) {
            let what = format!(
                "the recovered node {:016x} of cluster {cluster:?} was one of the old cluster",
                recovery.identity
            );
            self.violate("I27", Some(slot), what);
        }
        let alone = [recovery.identity].map(raftkv_raft::NodeId);
        let expected = Configuration::of_voters(alone);
        for entry in [recovery.founding, recovery.configuration] {
            if entry.configuration.as_deref() != Some(&expected) {
                let what = format!("a recovered cluster begins with {:?}", entry.configuration);
                self.violate("I27", Some(slot), what);
            }
        }
    }

    /// What stood at each place of a log.
    fn entries_of(&self, log: &[Mirrored]) -> Option<Vec<Undecided>> {
        let decided: HashMap<u64, &Undecided> =
            self.decided.iter().copied().zip(&self.decided_entries).collect();
        let entry = |held: &Mirrored| {
            let known = decided.get(&held.chain).copied();
            known.or_else(|| self.undecided.get(&held.chain)).cloned()
        };
        log.iter().map(entry).collect()
    }

    /// Nothing binds any more that was known of the others, or told of what they held.
    fn forget_the_lost(&mut self) {
        self.leaders.clear();
        self.chains.clear();
        self.undecided.clear();
        self.matches.clear();
        self.acknowledged.clear();
        self.failed_attempts.clear();
        self.trim = None;
        for copies in self.copies.values_mut() {
            copies.failed = 0;
        }
    }

    /// The one log from now on: the new founding entry, what the directory held, and the new configuration.
    fn begin_log(&mut self, mut log: Vec<Mirrored>, recovery: &Recovery<'_>) {
        log[0] = Mirrored {
            term: recovery.founding.id.term.0,
            chain: chain_of(0, recovery.founding),
        };
        let last = log.last().map_or(0, |last| last.chain);
        log.push(Mirrored {
            term: recovery.configuration.id.term.0,
            chain: chain_of(last, recovery.configuration),
        });
        self.decided = log.iter().map(|entry| entry.chain).collect();
        self.decided_terms = log.iter().map(|entry| entry.term).collect();
        self.decided_in = self.decided_terms.clone();
        let places = log.iter().zip(1..);
        self.chains = places
            .map(|(entry, index)| ((index, entry.term), entry.chain))
            .collect();
        self.decided_configurations = recovery
            .configuration
            .configuration
            .iter()
            .map(|configuration| (recovery.configuration.id.index.get(), configuration.clone()))
            .collect();
    }

    /// Of all nodes that ever were only this one is left.
    fn watch_only(&mut self, slot: usize, recovery: &Recovery<'_>) {
        self.current.fill(usize::MAX);
        self.identity_drawn(slot, recovery.identity);
        let terms = self.decided.iter().zip(&self.decided_terms);
        let log: Vec<Mirrored> = terms.map(|(&chain, &term)| Mirrored { term, chain }).collect();
        let view = &mut self.views[self.current[slot]];
        view.durable.clone_from(&log);
        view.log = log;
        view.configurations.clone_from(&self.decided_configurations);
        view.installed_up_to = recovery.base.index.get();
    }

    pub(super) fn moment_of(&self, entry: &Entry, seen_us: u64) -> Moment {
        let id = ProposalId::of(&entry.payload, &entry.stamp);
        Moment {
            term: entry.id.term.0,
            seen_us,
            asked_us: self.copies.get(&id).map(|copies| copies.first_us),
        }
    }
}

/// The cluster that a founding entry founds.
pub(super) fn cluster_of(founding: &Entry) -> Option<u64> {
    let membership = Membership::decode(&founding.payload).ok()?;
    Some(membership.cluster.0)
}
