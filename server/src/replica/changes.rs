//! Changes of members: those that operators ask for, and those that follow by themselves.
//!
//! A request waits until it has happened, that is until a committed configuration says so, or until its time is over. The
//! leader takes what is asked one step at a time, because one change can be under way (R57); on every other node a request is
//! passed on. By themselves follow: a learner that has caught up becomes a voter (R60), a joint configuration is left (R59),
//! an address that changed is stored, and peers of a node that was formed alone are let in.
//!
//! What a request refused promises: nothing was changed. What timed out after its change was proposed is unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use raftkv_protocol::{
    Address, Answer, ErrorCode, Introduction, MemberCommand, NodeId, NodeName, Request, Response,
};
use raftkv_raft::simulation::mark;
use raftkv_raft::{
    self as raft, ChangeChecks, ChangeError, ConfigurationChange, Index, RoleName, Stamp, Time,
};

use super::formed::Formed;
use super::outbox::Outbox;
use super::{Effect, ForwardOutcome, Hop, Token};
use crate::membership::Membership;

/// What waits is looked at again after this; the next step may depend on anything.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A node that passed a request on hears why it was refused before it gives up itself.
const ANSWER_MARGIN: Duration = Duration::from_millis(200);

/// Most requests that wait at once: operators are few.
const MAX_PENDING: usize = 64;

/// A request that waits.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) token: Token,
    pub(super) command: MemberCommand,
    pub(super) hop: Hop,
    pub(super) deadline: Time,
    /// Waits for a leader until then.
    pub(super) leader_deadline: Time,
    pub(super) stage: Stage,
}

/// When the answer to a request must leave.
pub(super) fn deadline(hop: Hop, deadline: Time) -> Time {
    let margin_us = u64::try_from(ANSWER_MARGIN.as_micros()).unwrap_or(0);
    match hop {
        Hop::First => deadline,
        Hop::Last => Time(deadline.0.saturating_sub(margin_us)),
    }
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was done for it.
    Fresh,
    /// Its change was proposed; it is about this identity.
    Proposed(NodeId),
    /// Leadership is being handed over by this node.
    HandingOver,
}

/// What a look at a request brings.
pub(super) enum Look {
    /// It has happened.
    Done,
    /// Not yet.
    Waits,
    /// It can not, for this reason.
    Refused(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Changes {
    pending: Vec<PendingChange>,
    forwarded: BTreeMap<Token, PendingChange>,
    next_look: Time,
    /// Members that told of another address than the stored one.
    pub(super) moves: BTreeMap<NodeId, (Address, Option<Address>)>,
    /// Peers to let in without an operator.
    pub(super) growth: BTreeMap<NodeId, Introduction>,
    /// The entry of the last complete change that was told.
    pub(super) told: Index,
}

impl Changes {
    pub(super) fn new(told: Index) -> Changes {
        Changes {
            pending: Vec::new(),
            forwarded: BTreeMap::new(),
            next_look: Time(0),
            moves: BTreeMap::new(),
            growth: BTreeMap::new(),
            told,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() + self.forwarded.len() >= MAX_PENDING
    }

    pub(super) fn push(&mut self, change: PendingChange) {
        self.next_look = Time(0);
        self.pending.push(change);
    }

    pub(super) fn moved(&mut self, identity: NodeId, address: &Address, http: Option<&Address>) {
        self.moves.insert(identity, (address.clone(), http.cloned()));
    }

    pub(super) fn grow_by(&mut self, theirs: &Introduction) {
        self.growth.insert(theirs.identity, theirs.clone());
    }

    pub(super) fn is_forwarded(&self, token: Token) -> bool {
        self.forwarded.contains_key(&token)
    }

    /// Where operators said that a node to be admitted is.
    pub(super) fn addresses_to_call(&self) -> Vec<Address> {
        let fresh = self.pending.iter().filter(|change| change.stage == Stage::Fresh);
        let address = |change: &PendingChange| match &change.command {
            MemberCommand::Add { address, .. } => address.clone(),
            MemberCommand::Promote { .. }
            | MemberCommand::Remove { .. }
            | MemberCommand::Replace { .. }
            | MemberCommand::TransferLeader { .. } => None,
        };
        fresh.filter_map(address).collect()
    }

    fn has_news(&self) -> bool {
        !self.moves.is_empty() || !self.growth.is_empty()
    }
}

impl Formed {
    /// When changes are looked at again.
    pub(super) fn next_change(&self) -> Time {
        let forwarded = self.changes.forwarded.values().map(|change| change.deadline);
        let until = forwarded.min().unwrap_or(Time::NEVER);
        match self.has_changes() {
            true => until.min(self.changes.next_look),
            false => until,
        }
    }

    /// Is there something to look at?
    fn has_changes(&self) -> bool {
        let leads = self.raft.role() == RoleName::Leader;
        let has_learners = || !self.raft.configuration().learners.is_empty();
        !self.changes.pending.is_empty()
            || (leads && (self.changes.has_news() || has_learners() || !self.is_own_address_stored()))
    }

    /// Moves every change on that can move.
    pub(super) fn drive_changes(&mut self, now: Time, out: &mut Outbox) {
        self.tell_complete_change(out);
        self.expire_forwarded_changes(now, out);
        if now < self.changes.next_look || !self.has_changes() {
            return;
        }
        self.changes.next_look = now.after(LOOK_INTERVAL);
        for mut change in std::mem::take(&mut self.changes.pending) {
            match self.look_at(now, &mut change) {
                Look::Done => {
                    let members = self.members.as_of(self.raft.commit()).members.clone();
                    out.finish(change.token, self.respond(Ok(Answer::Members(members))));
                }
                Look::Refused(message) => {
                    mark("change of members refused");
                    out.finish(change.token, self.refusal(ErrorCode::MembershipRefused, &message));
                }
                Look::Waits => self.wait_or_forward(now, change, out),
            }
        }
        if self.raft.role() == RoleName::Leader && self.may_change() {
            self.follow_moves(now);
            self.grow(now);
            self.promote_who_caught_up(now);
        }
    }

    /// Is the latest configuration committed and plain, and this leader free to change it?
    pub(super) fn may_change(&self) -> bool {
        let is_committed = self.members.current() == self.members.as_of(self.raft.commit());
        is_committed && self.raft.configuration().outgoing.is_none() && self.raft.has_committed_in_term()
    }

    fn look_at(&mut self, now: Time, change: &mut PendingChange) -> Look {
        if self.has_happened(change) {
            return Look::Done;
        }
        if self.raft.role() != RoleName::Leader || change.stage != Stage::Fresh {
            return Look::Waits;
        }
        match change.command.clone() {
            MemberCommand::TransferLeader { to } => self.start_transfer(now, change, to.as_ref()),
            MemberCommand::Remove { name, .. } if self.is_own_name(&name) => self.leave_by_handing_over(now),
            command => {
                if !self.may_change() {
                    return Look::Waits;
                }
                self.start_change(now, change, &command)
            }
        }
    }

    /// Does the operator mean this node?
    fn is_own_name(&self, name: &NodeName) -> bool {
        let named = self.members.current().named(name);
        named.is_some_and(|member| member.identity == self.config.introduction.identity)
    }

    /// Does a committed configuration say what was asked for?
    fn has_happened(&self, change: &PendingChange) -> bool {
        let committed = self.members.as_of(self.raft.commit());
        match (&change.command, change.stage) {
            (MemberCommand::TransferLeader { .. }, Stage::HandingOver) => {
                self.raft.leader().is_some_and(|leader| leader != self.raft.id())
            }
            (MemberCommand::TransferLeader { .. }, _) | (_, Stage::Fresh | Stage::HandingOver) => false,
            (MemberCommand::Add { .. } | MemberCommand::Replace { .. }, Stage::Proposed(subject)) => {
                committed.member(raft::NodeId(subject.0)).is_some()
            }
            (MemberCommand::Promote { .. }, Stage::Proposed(subject)) => {
                let member = committed.member(raft::NodeId(subject.0));
                committed.outgoing.is_none() && member.is_some_and(|member| member.voter)
            }
            (MemberCommand::Remove { .. }, Stage::Proposed(subject)) => {
                committed.outgoing.is_none() && committed.member(raft::NodeId(subject.0)).is_none()
            }
        }
    }

    fn start_change(&mut self, now: Time, change: &mut PendingChange, command: &MemberCommand) -> Look {
        let step = match self.next_step(now, command) {
            Ok(Some(step)) => step,
            Ok(None) => return Look::Waits,
            Err(message) => return Look::Refused(message),
        };
        match self.propose_membership(now, &step.membership, step.checks) {
            Ok(()) => {
                mark("change of members proposed");
                change.stage = Stage::Proposed(step.subject);
                Look::Waits
            }
            Err(error) => refused_or_later(&error),
        }
    }

    /// Proposes a configuration.
    pub(super) fn propose_membership(
        &mut self,
        now: Time,
        membership: &Membership,
        checks: ChangeChecks,
    ) -> Result<(), ChangeError> {
        let stamp = Stamp {
            log_time_us: self.clock.stamp_us(now),
            ..Stamp::default()
        };
        let change = ConfigurationChange {
            configuration: membership.configuration(),
            stamp,
            payload: membership.encode(),
            checks,
        };
        self.raft.propose_change(now, change).map(drop)
    }

    fn wait_or_forward(&mut self, now: Time, change: PendingChange, out: &mut Outbox) {
        if now >= change.deadline || (change.stage == Stage::Fresh && self.is_late(now, &change)) {
            let response = self.change_too_late(now, &change);
            out.finish(change.token, response);
            return;
        }
        let is_leader = self.raft.role() == RoleName::Leader;
        if is_leader || change.stage != Stage::Fresh {
            self.changes.pending.push(change);
            return;
        }
        let leader = self
            .raft
            .leader()
            .and_then(|leader| self.address_of(leader))
            .cloned();
        match (leader, change.hop) {
            (_, Hop::Last) => {
                let message = "this node does not lead; nothing was proposed";
                out.finish(change.token, self.refusal(ErrorCode::NotLeader, message));
            }
            (None, Hop::First) => self.changes.pending.push(change),
            (Some(to), Hop::First) => {
                out.push(Effect::Forward {
                    token: change.token,
                    to,
                    request: Request::Member(change.command.clone()),
                    deadline: change.deadline,
                });
                self.changes.forwarded.insert(change.token, change);
            }
        }
    }

    /// Nothing waits longer than it may for a leader, nor for a node that does not knock.
    fn is_late(&self, now: Time, change: &PendingChange) -> bool {
        let lacks_knock = self.raft.role() == RoleName::Leader && self.lacks_knock(now, &change.command);
        (self.raft.leader().is_none() || lacks_knock) && now >= change.leader_deadline
    }

    /// Is the node that is to be let in not there?
    fn lacks_knock(&self, now: Time, command: &MemberCommand) -> bool {
        match command {
            MemberCommand::Add { name, .. } | MemberCommand::Replace { name, .. } => {
                self.candidate(now, name).is_none()
            }
            MemberCommand::Promote { .. }
            | MemberCommand::Remove { .. }
            | MemberCommand::TransferLeader { .. } => false,
        }
    }

    fn change_too_late(&self, now: Time, change: &PendingChange) -> Response {
        match (&change.command, change.stage) {
            (_, Stage::Proposed(_)) => self.refusal(
                ErrorCode::OutcomeUnknown,
                "the change was proposed and is not complete: look at the members before you ask again",
            ),
            (_, Stage::HandingOver) => self.refusal(
                ErrorCode::MembershipRefused,
                "the node did not take leadership over in time; this leader goes on",
            ),
            (_, Stage::Fresh) if self.raft.leader().is_none() => self.no_leader_in_time(),
            (MemberCommand::Add { name, .. }, Stage::Fresh) if self.lacks_knock(now, &change.command) => {
                self.refusal(ErrorCode::MembershipRefused, &self.nobody_knocked(name))
            }
            (MemberCommand::Replace { name, .. }, Stage::Fresh) if self.lacks_knock(now, &change.command) => {
                self.refusal(ErrorCode::MembershipRefused, &self.why_not_replaced(now, name))
            }
            (_, Stage::Fresh) => self.refusal(
                ErrorCode::MembershipRefused,
                "another change of members, or of the leader, is under way; nothing was changed, ask again",
            ),
        }
    }

    /// What became of a request that was passed on.
    pub(super) fn change_forwarded(&mut self, token: Token, outcome: ForwardOutcome, out: &mut Outbox) {
        let Some(change) = self.changes.forwarded.remove(&token) else {
            return;
        };
        match outcome {
            ForwardOutcome::Answered(response) if super::forwarding::is_not_leader(&response) => {
                self.changes.pending.push(change);
            }
            ForwardOutcome::NotSent => self.changes.pending.push(change),
            ForwardOutcome::Answered(response) => out.finish(token, self.passed_on(response)),
            ForwardOutcome::Lost => {
                let message = "the connection to the leader was lost after the change was sent: look at the members before you ask again";
                out.finish(token, self.refusal(ErrorCode::OutcomeUnknown, message));
            }
        }
    }

    fn expire_forwarded_changes(&mut self, now: Time, out: &mut Outbox) {
        let is_over = |(_, change): &(&Token, &PendingChange)| change.deadline <= now;
        let over: Vec<Token> = self
            .changes
            .forwarded
            .iter()
            .filter(is_over)
            .map(|(token, _)| *token)
            .collect();
        for token in over {
            self.changes.forwarded.remove(&token);
            let message = "the leader did not answer in time: look at the members before you ask again";
            out.finish(token, self.refusal(ErrorCode::OutcomeUnknown, message));
        }
    }
}

fn refused_or_later(error: &ChangeError) -> Look {
    match error {
        ChangeError::NotLeader { .. }
        | ChangeError::NotCommittedInTerm
        | ChangeError::UnderWay { .. }
        | ChangeError::TransferUnderWay { .. }
        | ChangeError::NotASuccessor => Look::Waits,
        ChangeError::NoChange => Look::Done,
        ChangeError::Contradiction { .. } => Look::Refused(error.to_string()),
        ChangeError::NotCaughtUp { .. } => Look::Refused(
            "the learner has not caught up with the log: it will be promoted by itself once it has, or now with --force"
                .to_owned(),
        ),
        ChangeError::QuorumNotAlive { voters, alive } => Look::Refused(format!(
            "it would leave {voters} voters of which {alive} have answered lately: no majority, so the cluster would stop; bring nodes back first, or use --force if you know better"
        )),
    }
}
