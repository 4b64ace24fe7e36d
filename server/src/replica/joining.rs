//! How a running cluster lets unformed nodes in: who knocks, whom it may admit, and what an admitted one is told.
//!
//! ```text
//! unformed ──Knock──► member ──Knock, relayed──► leader          it remembers who knocks, for some seconds
//! operator ──member add NAME──────────────────► leader          a configuration names the node, as a learner
//! unformed ──Knock──► leader ──Admit──► unformed                once that is committed; with it the node makes its log
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv_protocol::{
    Address, Admission, Introduction, Knock, KnockWay, MembershipMessage, NodeId, NodeName, PeerMessage,
    Standing, StandingReply,
};
use raftkv_raft::simulation::mark;
use raftkv_raft::{self as raft, RoleName, Time};

use super::Effect;
use super::formed::Formed;
use super::meeting::may_grow;
use super::outbox::Outbox;

/// Who knocked within this time is there.
const FRESHNESS: Duration = Duration::from_secs(5);

/// Most names that are remembered.
const MAX_CANDIDATES: usize = 64;

/// Nodes at addresses that an operator named are called this often.
const CALL_INTERVAL: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(super) struct Joining {
    candidates: BTreeMap<NodeName, Candidate>,
    next_call: Time,
}

#[derive(Debug)]
struct Candidate {
    introduction: Introduction,
    at: Time,
}

impl Joining {
    pub(super) fn new() -> Joining {
        Joining {
            candidates: BTreeMap::new(),
            next_call: Time(0),
        }
    }

    fn note(&mut self, now: Time, introduction: &Introduction) {
        self.candidates
            .retain(|_, candidate| now.since(candidate.at) < FRESHNESS);
        let is_known = self.candidates.contains_key(&introduction.name);
        if is_known || self.candidates.len() < MAX_CANDIDATES {
            let candidate = Candidate {
                introduction: introduction.clone(),
                at: now,
            };
            self.candidates.insert(introduction.name.clone(), candidate);
        }
    }

    /// Who knocked under this name.
    fn candidate(&self, now: Time, name: &NodeName) -> Option<&Introduction> {
        let candidate = self.candidates.get(name)?;
        (now.since(candidate.at) < FRESHNESS).then_some(&candidate.introduction)
    }
}

impl Formed {
    /// The unformed node that knocks under this name. One that knocked before it was let in, or has been removed since then,
    /// is none: an identity comes in once (R63).
    pub(super) fn candidate(&self, now: Time, name: &NodeName) -> Option<&Introduction> {
        let current = self.members.current();
        let is_new = |theirs: &&Introduction| {
            let is_member = current.member(raft::NodeId(theirs.identity.0)).is_some();
            !is_member && !current.was_removed(theirs.identity)
        };
        self.joining.candidate(now, name).filter(is_new)
    }

    /// Someone asks to be let in.
    pub(super) fn knocked(&mut self, now: Time, knock: &Knock, out: &mut Outbox) {
        let theirs = &knock.introduction;
        if theirs.identity == self.config.introduction.identity || theirs.formed.is_some() {
            return;
        }
        if self.members.current().was_removed(theirs.identity) {
            mark("removed identity knocked");
            self.tell_removed(theirs.identity, &theirs.address, out);
            return;
        }
        let is_member = self
            .members
            .current()
            .member(raft::NodeId(theirs.identity.0))
            .is_some();
        if !is_member {
            self.joining.note(now, theirs);
        }
        let answer = self.answer_unformed(theirs);
        let lets_in = !matches!(answer, PeerMessage::Introduce(_));
        if lets_in || knock.way == KnockWay::Direct {
            out.push(Effect::Send {
                to: theirs.address.clone(),
                message: answer,
            });
        }
        if !lets_in && knock.way == KnockWay::Direct {
            self.relay(theirs, out);
        }
    }

    /// Lets the leader know who knocks here.
    fn relay(&self, theirs: &Introduction, out: &mut Outbox) {
        let leader = self.raft.leader().filter(|leader| *leader != self.raft.id());
        if let Some(to) = leader.and_then(|leader| self.address_of(leader)) {
            let knock = Knock {
                introduction: theirs.clone(),
                way: KnockWay::Relayed,
            };
            out.push(Effect::Send {
                to: to.clone(),
                message: PeerMessage::Membership(MembershipMessage::Knock(knock)),
            });
        }
    }

    /// Tells a node that its identity was removed.
    pub(super) fn tell_removed(&self, identity: NodeId, to: &Address, out: &mut Outbox) {
        let reply = StandingReply {
            to: identity,
            // This holds whatever life it is in.
            incarnation: 0,
            cluster: self.members.current().cluster,
            standing: Standing::Removed,
        };
        out.push(Effect::Send {
            to: to.clone(),
            message: PeerMessage::Membership(MembershipMessage::Standing(reply)),
        });
    }

    /// What makes a member that is unformed a formed one; `None` when this node does not know the founding entry.
    pub(super) fn admission(&self, identity: NodeId) -> Option<PeerMessage> {
        let admission = Admission {
            to: identity,
            cluster: self.members.current().cluster,
            founding: self.members.founding_payload()?.to_vec(),
            configuration: self.members.current_payload().to_vec(),
        };
        Some(PeerMessage::Membership(MembershipMessage::Admit(admission)))
    }

    /// Is a configuration that names it committed? Before that it may be rolled back, and the node must not be formed by it.
    pub(super) fn is_admitted(&self, identity: NodeId) -> bool {
        let committed = self.members.as_of(self.raft.commit());
        committed.member(raft::NodeId(identity.0)).is_some()
    }

    /// This node was formed alone and started again with the names of others: an unformed peer that it was told to form a
    /// cluster with, and that was told so too, is let in.
    pub(super) fn is_wanted_peer(&self, theirs: &Introduction) -> bool {
        let ours = &self.config.introduction;
        let named = |peers: &[(NodeName, Address)], name: &NodeName, address: &Address| {
            peers.iter().any(|(n, a)| n == name && a == address)
        };
        may_grow(self.members.founding_payload().as_ref())
            && named(&ours.peers, &theirs.name, &theirs.address)
            && named(&theirs.peers, &ours.name, &ours.address)
    }

    /// An unformed node that belongs here by the flags of both: admitted without an operator.
    pub(super) fn grow_by(&mut self, now: Time, theirs: &Introduction) {
        self.joining.note(now, theirs);
        if self.raft.role() == RoleName::Leader {
            self.changes.grow_by(theirs);
        }
    }

    /// Calls the nodes at the addresses that operators named, and admits learners that do not know of it yet.
    pub(super) fn call_candidates(&mut self, now: Time, out: &mut Outbox) {
        if now < self.next_call() {
            return;
        }
        self.joining.next_call = now.after(CALL_INTERVAL);
        for to in self.changes.addresses_to_call() {
            out.push(Effect::Send {
                to,
                message: PeerMessage::Introduce(self.introduction()),
            });
        }
        for (identity, to) in self.silent_learners() {
            if let Some(message) = self.admission(identity) {
                out.push(Effect::Send { to, message });
            }
        }
    }

    pub(super) fn next_call(&self) -> Time {
        if self.changes.addresses_to_call().is_empty() && self.silent_learners().is_empty() {
            Time::NEVER
        } else {
            self.joining.next_call
        }
    }

    /// Learners for good that never acknowledged anything to this leader.
    fn silent_learners(&self) -> Vec<(NodeId, Address)> {
        if self.raft.role() != RoleName::Leader || self.raft.configuration().learners.is_empty() {
            return Vec::new();
        }
        let is_silent = |identity: NodeId| {
            let progress = self.raft.progress(raft::NodeId(identity.0));
            progress.is_some_and(|progress| progress.last_heard.is_none() && progress.matched.is_none())
        };
        let committed = self.members.as_of(self.raft.commit());
        let learners = committed.members.iter().filter(|member| !member.voter);
        learners
            .filter(|member| is_silent(member.identity))
            .map(|member| (member.identity, member.address.clone()))
            .collect()
    }
}
