//! Logs and commitment: I3 to I6, I8 to I12 as far as they concern entries.

use raftkv_raft::{
    Configuration, Entry, EntryId, HardState, Index, Install, Raft, RoleName, Write, WriteNumber,
};
use raftkv_server::replica::{Restored, RestoredLog};

use super::recovered::cluster_of;
use super::view::{Mirrored, PendingWrite, chain_of};
use super::{Observer, Undecided};

impl Observer {
    /// A node asks for a write: its log is this from now on.
    pub(super) fn write_asked(&mut self, view: usize, write: &Write) {
        let truncate_from = write.truncate_from.map(Index::get);
        if let Some(from) = truncate_from {
            self.truncated(view, from, write.hard_state.term.0);
        }
        let mut entries = Vec::with_capacity(write.entries.len());
        for entry in &write.entries {
            entries.push(self.appended(view, entry));
        }
        self.views[view].pending.push_back(PendingWrite {
            number: write.number,
            hard_state: write.hard_state,
            truncate_from,
            entries,
        });
    }

    /// A snapshot takes the place of a node's log: it stands for entries that were decided, and for no others (I15).
    pub(super) fn install_asked(&mut self, view: usize, install: &Install) {
        let (index, term) = (install.last.index.get(), install.last.term.0);
        if self.decided_terms.get(index as usize - 1) != Some(&term) {
            let what = format!("installs a snapshot up to {}, which nobody decided", install.last);
            self.violate_at("I15", view, what);
            return;
        }
        let terms = self.decided_terms.iter().zip(&self.decided);
        let prefix: Vec<Mirrored> = terms
            .take(index as usize)
            .map(|(&term, &chain)| Mirrored { term, chain })
            .collect();
        let configurations = self.decided_configurations.iter().filter(|(at, _)| *at <= index);
        let configurations = configurations.cloned().collect();
        let node = &mut self.views[view];
        node.installed_up_to = index;
        node.log.clone_from(&prefix);
        node.configurations = configurations;
        node.pending.push_back(PendingWrite {
            number: install.number,
            hard_state: install.hard_state,
            truncate_from: Some(1),
            entries: prefix,
        });
    }

    fn truncated(&mut self, view: usize, from: u64, term: u64) {
        let node = &mut self.views[view];
        node.log.truncate(from as usize - 1);
        node.configurations.retain(|(index, _)| *index < from);
        node.checked_change = None;
        let (leads, commit) = (node.leads, node.commit);
        if leads == Some(term) {
            self.violate_at(
                "I3",
                view,
                format!("cut its log from {from} on while it leads term {term}"),
            );
        }
        if from <= commit {
            self.violate_at(
                "I3",
                view,
                format!("cut its log from {from} on, below its commit {commit}"),
            );
        }
    }

    fn appended(&mut self, view: usize, entry: &Entry) -> Mirrored {
        let (index, term) = (entry.id.index.get(), entry.id.term.0);
        let node = &mut self.views[view];
        let last = node.log.last().copied().unwrap_or(Mirrored { term: 0, chain: 0 });
        let mirrored = Mirrored {
            term,
            chain: chain_of(last.chain, entry),
        };
        let expected = node.log.len() as u64 + 1;
        node.log.push(mirrored);
        if let Some(configuration) = &entry.configuration {
            node.configurations.push((index, configuration.clone()));
        }
        if index != expected || term < last.term {
            let what = format!("appended {} after {}@{}", entry.id, expected - 1, last.term);
            self.violate_at("I5", view, what);
        }
        match self.chains.insert((index, term), mirrored.chain) {
            None => {
                let (entry, since) = (entry.clone(), self.now);
                self.undecided.insert(mirrored.chain, Undecided { entry, since });
            }
            Some(known) if known != mirrored.chain => {
                let what = format!(
                    "entry {} differs from the one another log holds under that id",
                    entry.id
                );
                self.violate_at("I4", view, what);
            }
            Some(_) => {}
        }
        mirrored
    }

    /// All writes up to `number` are durable.
    pub(crate) fn persisted(&mut self, slot: usize, number: WriteNumber) {
        if !self.is_watched(slot) {
            return;
        }
        let view = self.current[slot];
        while let Some(write) = self.views[view].next_persisted(number) {
            let node = &mut self.views[view];
            if let Some(from) = write.truncate_from {
                node.durable.truncate(from as usize - 1);
            }
            node.durable.extend(write.entries);
            self.hard_state_durable(view, write.hard_state);
        }
    }

    fn hard_state_durable(&mut self, view: usize, hard_state: HardState) {
        let before = self.views[view].durable_hard_state.replace(hard_state);
        if let Some(before) = before
            && (hard_state.term < before.term
                || hard_state.term == before.term && before.vote.is_some() && hard_state.vote != before.vote)
        {
            let what = format!("the hard state went from {before:?} to {hard_state:?}");
            let invariant = if hard_state.term < before.term { "I8" } else { "I2" };
            self.violate_at(invariant, view, what);
        }
        if let Some(candidate) = hard_state.vote {
            self.voted(view, hard_state.term.0, candidate.0);
        }
        let last = self.views[view].durable.last().map_or(0, |entry| entry.term);
        if last > hard_state.term.0 {
            let what = format!(
                "an entry of term {last} is durable before its term ({})",
                hard_state.term
            );
            self.violate_at("I8", view, what);
        }
    }

    /// A node asks for a log with this founding entry. A crash may leave it made without a word, or not made at all:
    /// then the node draws another one, and this one never was.
    pub(crate) fn log_asked(&mut self, founding: &Entry) {
        if self.decided.is_empty() {
            let chain = chain_of(0, founding);
            self.chains
                .insert((founding.id.index.get(), founding.id.term.0), chain);
            let (entry, since) = (founding.clone(), self.now);
            self.undecided.insert(chain, Undecided { entry, since });
        }
    }

    /// A node made its log, durable.
    pub(crate) fn log_created(&mut self, slot: usize, founding: &Entry, hard_state: HardState) {
        if !self.is_watched(slot) {
            return;
        }
        let view = self.current[slot];
        let mirrored = self.appended(view, founding);
        self.views[view].durable.push(mirrored);
        self.hard_state_durable(view, hard_state);
        self.founded(view, mirrored);
    }

    fn founded(&mut self, view: usize, mirrored: Mirrored) {
        if self.decided.is_empty() {
            self.decide(mirrored.term, mirrored);
        } else if self.decided[0] != mirrored.chain {
            self.violate_at(
                "I7",
                view,
                "founded a second cluster: its entry 1 is another one".to_owned(),
            );
        }
    }

    /// A node is gone: what was not durable may be lost.
    pub(crate) fn crashed(&mut self, slot: usize) {
        if self.is_watched(slot) {
            let view = self.current[slot];
            self.views[view].leads = None;
        }
    }

    /// A node starts on what its disk holds.
    pub(crate) fn started(&mut self, slot: usize, restored: Option<&Restored>) {
        if !self.is_watched(slot) {
            return;
        }
        let view = self.current[slot];
        let Some(restored) = restored else {
            if self.views[view].is_formed() {
                self.violate_at(
                    "I8",
                    view,
                    "came back without the log it had made durable".to_owned(),
                );
            }
            return;
        };
        let (restored, state) = (&restored.log, &restored.state);
        let applied = state.as_ref().map(|state| state.companions.applied.index);
        if restored.base.index > applied.unwrap_or(Index::FIRST) {
            let what = format!(
                "the log begins behind {}, the base holds {applied:?}",
                restored.base
            );
            self.violate_at("I15", view, what);
        }
        self.check_restored_hard_state(view, restored.hard_state);
        self.check_restored_log(view, restored);
        let decided = self.decided.len() as u64;
        let node = &mut self.views[view];
        node.started_behind = decided;
        node.pending.clear();
        node.durable = node.log.clone();
        node.durable_hard_state = Some(restored.hard_state);
        node.applied = 0;
        node.commit = 0;
        node.term = restored.hard_state.term.0;
        if let Some(&founding) = node.log.first() {
            self.founded(view, founding);
        }
    }

    fn check_restored_hard_state(&mut self, view: usize, restored: HardState) {
        let node = &self.views[view];
        let written = node
            .durable_hard_state
            .iter()
            .chain(node.pending.iter().map(|write| &write.hard_state));
        // A log that was created in the moment of the crash leaves no record here.
        if node.durable_hard_state.is_some() && !written.into_iter().any(|known| *known == restored) {
            let what = format!(
                "started with {restored:?}, durable was {:?}",
                node.durable_hard_state
            );
            self.violate_at("I8", view, what);
        }
    }

    /// What the log held up to its base, which is not in it any more. A log that nothing was cut from begins behind the
    /// founding entry, which it still holds.
    fn cut_off(&mut self, view: usize, base: EntryId) -> Vec<Mirrored> {
        let index = base.index.get();
        if index == 1 {
            return Vec::new();
        }
        let node = &self.views[view];
        let installed = node.installed(index);
        let known = installed
            .or(node.durable.get(..index as usize))
            .map(<[_]>::to_vec);
        if let Some(known) = known.filter(|known| known[index as usize - 1].term == base.term.0) {
            return known;
        }
        let what = format!("started with a log that begins behind {base}, which it never held");
        self.violate_at("I8", view, what);
        Vec::new()
    }

    fn check_restored_log(&mut self, view: usize, restored: &RestoredLog) {
        let mut log = self.cut_off(view, restored.base);
        let mut runs = restored.term_runs.iter().peekable();
        let mut term = restored.base.term.0;
        for index in log.len() as u64 + 1..=restored.last.index.get() {
            while let Some((_, next)) = runs.next_if(|(first, _)| first.get() <= index) {
                term = next.0;
            }
            let Some(&chain) = self.chains.get(&(index, term)) else {
                self.violate_at(
                    "I4",
                    view,
                    format!("started with entry {index}@{term} that nobody wrote"),
                );
                break;
            };
            log.push(Mirrored { term, chain });
        }
        let node = &mut self.views[view];
        if let Some(installed) = node.installed(restored.base.index.get()) {
            // The crash came behind the switch: this is what is durable.
            node.durable = installed.to_vec();
        }
        let asked = node.pending.iter().filter(|write| !write.is_install());
        let cut = asked.filter_map(|write| write.truncate_from).min();
        let kept = cut.map_or(node.durable.len(), |from| {
            node.durable.len().min(from as usize - 1)
        });
        let lost = kept > log.len() || kept > 0 && node.durable[kept - 1] != log[kept - 1];
        let base = restored.base.index.get();
        node.configurations.retain(|(index, _)| *index <= base);
        let read = restored.configurations.iter();
        let read = read.filter_map(|entry| Some((entry.id.index.get(), entry.configuration.clone()?)));
        let is_cut = node.configurations.len();
        node.configurations
            .extend(read.filter(|(index, _)| is_cut == 0 || *index > base));
        let found = log.len();
        node.log = log;
        if lost {
            self.violate_at(
                "I8",
                view,
                format!("durable up to {kept} before the crash, {found} after it"),
            );
        }
    }

    pub(super) fn check_commit(&mut self, view: usize, raft: &Raft) {
        let commit = raft.commit().get();
        let (before, led, length) = {
            let node = &self.views[view];
            (node.commit, node.leads, node.log.len() as u64)
        };
        let leads = (raft.role() == RoleName::Leader).then_some(raft.term().0);
        self.views[view].leads = leads;
        if commit == before {
            return;
        }
        self.views[view].commit = commit;
        if commit < before {
            self.violate_at("I8", view, format!("commit fell from {before} to {commit}"));
        }
        if commit > length {
            self.violate_at(
                "I9",
                view,
                format!("commit {commit} is beyond its last entry {length}"),
            );
            return;
        }
        if commit > self.decided.len() as u64 {
            match leads.or(led) {
                Some(term) => self.check_commit_legality(view, term, commit),
                None => {
                    let what = format!(
                        "commit {commit}, but no leader decided more than {}",
                        self.decided.len()
                    );
                    self.violate_at("I10", view, what);
                }
            }
            return;
        }
        if self.views[view].chain_at(commit) != Some(self.decided[commit as usize - 1]) {
            self.violate_at(
                "I7",
                view,
                format!("holds another entry than the decided one at {commit}"),
            );
        }
    }

    /// What a leader believes to match was acknowledged to it in its term (R22), does match, durably, at a peer that knows
    /// no newer term; and it is never unlearnt (R23).
    pub(super) fn check_progress(&mut self, view: usize, raft: &Raft) {
        let term = raft.term().0;
        for known in raft.peer_progress() {
            let matched = known.matched.map_or(0, Index::get);
            let last = self.matches.entry((view, known.peer.0)).or_default();
            if *last == (term, matched) {
                continue;
            }
            let before = std::mem::replace(last, (term, matched));
            let fell = before.0 == term && matched < before.1;
            let own = self.views[view].identity;
            let acknowledged = |peer: usize| self.acknowledged.get(&(peer, own)).copied();
            let is_told = matched == 0
                || self
                    .by_identity
                    .get(&known.peer.0)
                    .is_none_or(|&peer| acknowledged(peer).is_some_and(|highest| highest >= (term, matched)));
            let peer = self.by_identity.get(&known.peer.0).map(|&peer| &self.views[peer]);
            let holds = peer.is_none_or(|peer| {
                let durable_term = peer.durable_hard_state.map_or(0, |state| state.term.0);
                durable_term > term || peer.durable_chain_at(matched) == self.views[view].chain_at(matched)
            });
            if fell || !holds || !is_told || matched >= known.next.get() {
                let what = format!(
                    "leads term {term} and takes {known:?} for proven, after a match of {}",
                    before.1
                );
                self.violate_at("I9", view, what);
            }
        }
    }

    /// A leader decides: is there a true quorum of durable copies, and is the entry of its own term (paper §5.4.2)?
    fn check_commit_legality(&mut self, view: usize, term: u64, commit: u64) {
        let node = &self.views[view];
        let entry = node.log[commit as usize - 1];
        let Some(configuration) = node.configuration() else {
            self.violate_at("I10", view, format!("decided {commit} without any configuration"));
            return;
        };
        // A poll decides first, and may append the next configuration then.
        let is_newer = node
            .configurations
            .last()
            .is_some_and(|(index, _)| *index > commit);
        let before = node.governing.clone().filter(|_| is_newer);
        if entry.term != term {
            let what = format!(
                "leader of term {term} decided {commit}, an entry of term {}, by counting",
                entry.term
            );
            self.violate_at("I10", view, what);
        }
        let was_enough = before.is_some_and(|before| self.too_few_copies(&before, commit, entry).is_none());
        if let Some((copies, voters)) = self.too_few_copies(&configuration, commit, entry)
            && !was_enough
        {
            let what = format!("decided {commit} with {copies} durable copies among {voters} voters");
            self.violate_at("I10", view, what);
        }
        for index in self.decided.len()..commit as usize {
            let entry = self.views[view].log[index];
            self.decide(term, entry);
        }
    }

    /// How many durable copies among how many voters, where those are no majority.
    fn too_few_copies(
        &self,
        configuration: &Configuration,
        index: u64,
        entry: Mirrored,
    ) -> Option<(usize, usize)> {
        let holds = |id: &raftkv_raft::NodeId| {
            let view = self.by_identity.get(&id.0).map(|&view| &self.views[view]);
            view.is_some_and(|view| view.durable_chain_at(index) == Some(entry.chain))
        };
        let mut halves = std::iter::once(&configuration.voters).chain(&configuration.outgoing);
        halves.find_map(|half| {
            let copies = half.iter().filter(|id| holds(id)).count();
            (copies <= half.len() / 2).then_some((copies, half.len()))
        })
    }

    fn decide(&mut self, term: u64, entry: Mirrored) {
        self.decided.push(entry.chain);
        self.decided_terms.push(entry.term);
        self.decided_in.push(term);
        let Some(Undecided {
            entry: content,
            since,
        }) = self.undecided.remove(&entry.chain)
        else {
            self.violate(
                "I7",
                None,
                format!("entry {} was decided twice", self.decided.len()),
            );
            return;
        };
        if let Some(configuration) = &content.configuration {
            let index = self.decided.len() as u64;
            self.decided_configurations.push((index, configuration.clone()));
        }
        let attempt = self.apply_to_model(&content, since);
        if self.decided_entries.is_empty() {
            self.cluster = cluster_of(&content);
        }
        self.decided_entries.push(Undecided {
            entry: content,
            since,
        });
        if let Some(attempt) = attempt
            && self.failed_attempts.contains(&attempt)
        {
            let what = format!(
                "{attempt:?} was reported as failed and is decided at {}",
                self.decided.len()
            );
            self.violate("I18", None, what);
        }
    }
}
