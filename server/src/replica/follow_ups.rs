//! Changes of members that nobody asks for: they follow from others, from flags, and from where members are.

use raftkv_protocol::{Introduction, Member};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, ChangeChecks, Configuration, RoleName, Time};

use super::Notice;
use super::formed::Formed;
use super::outbox::Outbox;
use crate::membership::Membership;

impl Formed {
    /// A joint configuration is committed: what leaves it (R59).
    pub(super) fn leave_joint(&mut self, now: Time, configuration: &Configuration) {
        let next = self.members.current().without_outgoing();
        if next.configuration() != *configuration {
            // The log went on since the core asked; it asks again.
            mark("leaving a joint configuration that is not the latest one was put off");
            return;
        }
        // Refused: the core asks again with the next heartbeat.
        if self
            .propose_membership(now, &next, ChangeChecks::SafetyAlone)
            .is_ok()
        {
            mark("joint configuration left");
        }
    }

    /// A change that is complete here is told once; by the leader also to who left with it.
    pub(super) fn tell_complete_change(&mut self, out: &mut Outbox) {
        let commit = self.raft.commit();
        let (index, membership) = self.members.latest_as_of(commit);
        if index <= self.changes.told || membership.outgoing.is_some() {
            return;
        }
        if self.raft.role() == RoleName::Leader {
            let before = index.previous().map(|before| self.members.as_of(before));
            let before = before.into_iter().flat_map(Membership::everyone);
            for member in before.filter(|member| membership.was_removed(member.identity)) {
                self.tell_removed(member.identity, &member.address, out);
            }
        }
        out.notice(Notice::MembersChanged(membership.clone()));
        self.changes.told = index;
        self.presences.tell_now();
    }

    /// Stores where members are now.
    pub(super) fn follow_moves(&mut self, now: Time) {
        let moves = std::mem::take(&mut self.changes.moves);
        let mut next = self.members.current().clone();
        for (identity, (address, http)) in &moves {
            if let Some(member) = next
                .members
                .iter_mut()
                .find(|member| member.identity == *identity)
            {
                (member.address, member.http) = (address.clone(), http.clone());
            }
        }
        let ours = &self.config.introduction;
        if let Some(itself) = next
            .members
            .iter_mut()
            .find(|member| member.identity == ours.identity)
        {
            (itself.address, itself.http) = (ours.address.clone(), ours.http.clone());
        }
        if next != *self.members.current()
            && self
                .propose_membership(now, &next, ChangeChecks::SameMembers)
                .is_ok()
        {
            mark("new address of a member stored");
        }
    }

    /// Lets the peers in that belong here by the flags.
    pub(super) fn grow(&mut self, now: Time) {
        if !self.may_change() {
            return;
        }
        while let Some((identity, theirs)) = self.changes.growth.pop_first() {
            let current = self.members.current();
            let is_taken = current.named(&theirs.name).is_some() || current.was_removed(identity);
            let candidate = self.candidate(now, &theirs.name);
            let is_there = candidate.is_some_and(|candidate| candidate.identity == identity);
            if is_taken || !is_there {
                continue;
            }
            let mut members = current.members.clone();
            members.push(learner(&theirs));
            let next = current.towards(members);
            if self.propose_membership(now, &next, ChangeChecks::All).is_ok() {
                mark("peer of a node that was formed alone let in");
            }
            return;
        }
    }

    /// Learners that have caught up become voters, those that replace a member in its place.
    pub(super) fn promote_who_caught_up(&mut self, now: Time) {
        if !self.may_change() {
            return;
        }
        let current = self.members.current();
        let is_ready = |member: &&Member| {
            !member.voter
                && !current.held.contains(&member.identity)
                && self.raft.is_caught_up(now, raft::NodeId(member.identity.0))
        };
        let Some(ready) = current
            .members
            .iter()
            .find(is_ready)
            .map(|member| member.identity)
        else {
            return;
        };
        let next = current.with_promoted(ready);
        if self.propose_membership(now, &next, ChangeChecks::All).is_ok() {
            mark("learner promoted");
        }
    }

    /// False after this node's own address has changed, until the cluster knows it.
    pub(super) fn is_own_address_stored(&self) -> bool {
        let ours = &self.config.introduction;
        let stored = self.members.current().member(self.raft.id());
        stored.is_none_or(|member| member.address == ours.address && member.http == ours.http)
    }
}

/// A node as it joins.
pub(super) fn learner(theirs: &Introduction) -> Member {
    Member {
        name: theirs.name.clone(),
        identity: theirs.identity,
        address: theirs.address.clone(),
        http: theirs.http.clone(),
        voter: false,
    }
}
