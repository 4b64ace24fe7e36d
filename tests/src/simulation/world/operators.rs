//! Operators: they ask a node, through the door that clients use too, for another leader or other members.
//!
//! They look at the cluster before they ask, as people would: who was removed starts anew on an empty disk, who lost its
//! disk is replaced, who learns is promoted; and nobody leaves whom a majority needs. What they ask may come to nothing,
//! twice or late all the same: it goes over the same network as all else.
//!
//! Sometimes they force what would be refused for want of live nodes. Even then a majority holds all data: so nothing may
//! be lost, nobody may decide alone, and when the nodes are back the change completes, as any other. It may only take that
//! long. Nobody votes who never held the log, whatever is forced: that is refused, or there might be no leader any more.
//!
//! Nodes move one at a time; operators wait until the cluster has stored where the last one is.

use std::collections::{BTreeMap, BTreeSet};

use raftkv_protocol::{ErrorCode, Force, MemberCommand, NodeName, Promotion, Request, Response};
use raftkv_raft::simulation::mark;
use raftkv_raft::{Configuration, NodeId};
use raftkv_server::membership::Membership;

use super::machine::{self, Process, Waiting};
use super::wire::answer_words;
use super::{Happening, Micros, World};
use crate::simulation::operators::Operation;
use crate::simulation::schedule::Remains;
use crate::simulation::trace::Traced;

/// How long a machine is down while it gets an empty disk, or other flags.
const REFIT_US: Micros = 20_000;
/// A node may act on a request for so much longer than its operator waits: clocks differ, and a paused one stands still.
const AFTERMATH: Micros = 3;

/// Names one request of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OperationId(u64);

/// A change of members that was asked for and may yet happen.
#[derive(Debug)]
struct AskedChange {
    until: Micros,
    /// Whom it takes out.
    leaves: Option<NodeId>,
    forced: Option<Forced>,
}

/// What was asked for with force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forced {
    /// A removal though no majority of the others runs.
    AgainstTheOdds,
    /// Another one, or a promotion.
    Other,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Operators {
    asked: BTreeMap<OperationId, AskedChange>,
    operations: u64,
}

impl World {
    /// An operator asks a node, and waits this long.
    pub(super) fn operate(&mut self, operation: Operation, via: usize, patience_us: Micros) {
        if via >= self.machines.len() {
            return;
        }
        if let Some(command) = self.command_for(operation) {
            self.command(command, via, patience_us);
        }
    }

    fn command_for(&mut self, operation: Operation) -> Option<MemberCommand> {
        match operation {
            Operation::Transfer { to: None } => Some(MemberCommand::TransferLeader { to: None }),
            Operation::Transfer { to: Some(slot) } => {
                let name = self.machines.get(slot)?.name.clone();
                Some(MemberCommand::TransferLeader { to: Some(name) })
            }
            Operation::Leave { node, force } => self.command_to_leave(node, force),
            Operation::Enter {
                node,
                at,
                promotion,
                force,
            } => {
                let last = self.machines.len().checked_sub(1)?;
                (node <= last && at <= last).then_some(())?;
                self.command_to_enter(node, at, promotion, force)
            }
            Operation::Recover {
                node,
                left_behind,
                for_us,
            } => {
                self.recover(node, left_behind, for_us);
                None
            }
            Operation::Move { node } => {
                self.move_to_another_address(node);
                None
            }
        }
    }

    fn command_to_leave(&mut self, node: usize, force: Force) -> Option<MemberCommand> {
        let identity = self.member_in(node)?;
        self.forget_old_changes();
        let one_leaves = self.operators.asked.values().any(|asked| asked.leaves.is_some());
        (!one_leaves && self.can_do_without(identity)).then(|| MemberCommand::Remove {
            name: self.machines[node].name.clone(),
            force,
        })
    }

    /// The member that a machine's name means.
    fn member_in(&self, slot: usize) -> Option<NodeId> {
        let configuration = self.observer.decided_configuration()?;
        let has_name = |id: &&NodeId| self.observer.slot_of(**id) == Some(slot);
        let voter = configuration.voters.iter().find(has_name);
        voter
            .or_else(|| configuration.learners.iter().find(has_name))
            .copied()
    }

    fn command_to_enter(
        &mut self,
        node: usize,
        at: usize,
        promotion: Promotion,
        force: Force,
    ) -> Option<MemberCommand> {
        let configuration = self.observer.decided_configuration()?.clone();
        let machine = &self.machines[node];
        if machine.is_left_behind {
            return None;
        }
        let (name, identity) = (machine.name.clone(), NodeId(machine.identity.0));
        if configuration.voters.contains(&identity) {
            return None;
        }
        if configuration.is_member(identity) {
            return Some(MemberCommand::Promote { name, force });
        }
        if self.observer.was_removed(identity) {
            self.start_anew(node, at);
        } else {
            self.knock_elsewhere(node, at);
        }
        if self.member_in(node).is_some() {
            return Some(MemberCommand::Replace { name, force });
        }
        // It is told to knock, or called where it is.
        let machine = &self.machines[node];
        let address = machine.joins.is_none().then(|| machine.address.clone());
        Some(MemberCommand::Add {
            name,
            address,
            promotion,
        })
    }

    /// A removed node gets an empty disk, and is told to join.
    fn start_anew(&mut self, node: usize, at: usize) {
        let identity = NodeId(self.machines[node].identity.0);
        let in_force = self.observer.configurations_in_force();
        if node == at
            || in_force
                .iter()
                .any(|configuration| configuration.is_member(identity))
        {
            return;
        }
        self.kill(node, Remains::Synced, REFIT_US);
        let machine = &mut self.machines[node];
        machine.replace_disk(&self.scenario.plan);
        machine.joins = Some(at);
        self.start_again(node);
    }

    /// A node that knocks where nobody is formed will not be let in.
    fn knock_elsewhere(&mut self, node: usize, at: usize) {
        let Some(joins) = self.machines[node].joins else {
            return;
        };
        if node == at || self.observer.is_formed(joins) && self.machines[joins].process.is_some() {
            return;
        }
        self.kill(node, Remains::PageCache, REFIT_US);
        self.machines[node].joins = Some(at);
        self.start_again(node);
    }

    /// For one that did not run, and that nobody would start.
    fn start_again(&mut self, slot: usize) {
        let after = self.machines[slot].life;
        self.queue
            .push(self.now + REFIT_US, Happening::Start { slot, after });
    }

    /// A node that does not run, or hangs, hears nothing: operators see that, and ask again some other time.
    fn command(&mut self, command: MemberCommand, via: usize, patience_us: Micros) {
        let machine = &self.machines[via];
        if machine.process.is_none() || machine.paused_until > self.now || machine.is_left_behind {
            return;
        }
        let leaves = match &command {
            MemberCommand::Remove { name, .. } => self.member_called(name),
            MemberCommand::Add { .. }
            | MemberCommand::Promote { .. }
            | MemberCommand::Replace { .. }
            | MemberCommand::TransferLeader { .. } => None,
        };
        let forced = self.forced(&command, leaves);
        self.operators.operations += 1;
        let operation = OperationId(self.operators.operations);
        if !matches!(command, MemberCommand::TransferLeader { .. }) {
            let until = self.now + AFTERMATH * patience_us;
            self.operators.asked.insert(
                operation,
                AskedChange {
                    until,
                    leaves,
                    forced,
                },
            );
        }
        self.trace
            .note(self.now, Some(via), Traced::Operator, [operation.0, 0], || {
                format!("{operation:?} {command:?}")
            });
        let waiting = Waiting::Operator(operation);
        self.hand(via, waiting, Request::Member(command), patience_us);
    }

    /// An operator hears what became of a request.
    pub(super) fn operator_hears(&mut self, by: usize, operation: OperationId, response: &Response) {
        let words = answer_words(response);
        self.trace.note(self.now, Some(by), Traced::Operator, words, || {
            format!("{operation:?} {:?}", response.outcome)
        });
        let Some(asked) = self.operators.asked.remove(&operation) else {
            return;
        };
        let leaves = asked.leaves;
        self.check_force(by, asked.forced, response);
        if response.outcome.is_ok()
            && let Some(identity) = leaves
            && !self.observer.was_removed(identity)
        {
            let what = format!("{identity} was called removed, and is a member");
            self.observer.violate("I25", Some(by), what);
        }
    }

    fn member_called(&self, name: &NodeName) -> Option<NodeId> {
        let node = self.machines.iter().find(|machine| machine.name == *name);
        node.and_then(|node| self.member_in(node.slot))
    }

    fn forced(&self, command: &MemberCommand, leaves: Option<NodeId>) -> Option<Forced> {
        match command {
            MemberCommand::Remove {
                force: Force::Yes, ..
            } => {
                let configuration = self.observer.decided_configuration()?;
                let mut others = configuration.voters.clone();
                others.retain(|voter| Some(*voter) != leaves);
                let runs = |voter: &&NodeId| {
                    let slot = self.observer.slot_of(**voter);
                    slot.is_some_and(|slot| self.machines[slot].process.is_some())
                };
                let is_majority = 2 * others.iter().filter(runs).count() > others.len();
                Some(if is_majority {
                    Forced::Other
                } else {
                    Forced::AgainstTheOdds
                })
            }
            MemberCommand::Promote {
                force: Force::Yes, ..
            } => Some(Forced::Other),
            // Force means something else there: the member that is replaced may be alive.
            MemberCommand::Replace { .. }
            | MemberCommand::Remove { .. }
            | MemberCommand::Promote { .. }
            | MemberCommand::Add { .. }
            | MemberCommand::TransferLeader { .. } => None,
        }
    }

    /// Nothing that was forced is refused with the advice to force it.
    fn check_force(&mut self, by: usize, forced: Option<Forced>, response: &Response) {
        match &response.outcome {
            Err(failure) if forced.is_some() && failure.message.contains("--force") => {
                let what = format!("refused what was forced: {}", failure.message);
                self.observer.violate("I25", Some(by), what);
            }
            Err(failure) if failure.code != ErrorCode::OutcomeUnknown => {}
            Ok(_) | Err(_) => {
                if forced == Some(Forced::AgainstTheOdds) {
                    mark("operators: a removal was forced though no majority of the others ran");
                }
            }
        }
    }

    /// A member is started anew where nobody looks for it; who is not formed yet is told where it is by new flags.
    fn move_to_another_address(&mut self, node: usize) {
        let is_one_on_its_way = self.machines.iter().any(|machine| machine.is_moving);
        let Some(machine) = self.machines.get(node) else {
            return;
        };
        let is_member = self.member_in(node) == machine.good_identity();
        if is_one_on_its_way
            || !is_member
            || !self.knows_where_all_are(node)
            || machine.is_given_up
            || !self.observer.is_formed(node)
        {
            return;
        }
        self.kill(node, Remains::Synced, REFIT_US);
        let machine = &mut self.machines[node];
        machine.moves += 1;
        machine.is_moving = true;
        machine.address = machine::address(node, machine.moves);
        for other in 0..self.machines.len() {
            if !self.observer.is_formed(other) {
                self.kill(other, Remains::PageCache, REFIT_US);
            }
        }
    }

    /// Who moves has learnt, durably, where the others are: else two that moved could never find each other again.
    fn knows_where_all_are(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let is_written = |process: &Process| process.syncing.is_none() && process.writes.is_empty();
        let Some(known) = &machine.known_members else {
            return false;
        };
        let decided = self.observer.decided_configuration();
        let are_all = decided.is_some_and(|decided| known.configuration() == **decided);
        let mut others = self.machines.iter().filter(|other| other.slot != node);
        let are_there = others.all(|other| {
            let stored = known.everyone().find(|member| member.identity == other.identity);
            stored.is_none_or(|member| member.address == other.address)
        });
        machine.process.as_ref().is_some_and(is_written) && are_all && are_there
    }

    /// A node has learnt of a decided configuration: who has arrived by it?
    pub(super) fn note_members(&mut self, at: usize, stored: &Membership) {
        if self.machines[at].is_left_behind {
            return;
        }
        if self.was_recovered() && stored.members.len() > 1 {
            mark("operators: a machine joined a recovered cluster");
        }
        self.machines[at].known_members = Some(stored.clone());
        for machine in &mut self.machines {
            let identity = machine.identity;
            let mut members = stored.everyone();
            let is_stored =
                members.any(|member| member.identity == identity && member.address == machine.address);
            machine.is_moving &= !is_stored;
        }
    }

    /// Whom they asked is no more.
    pub(super) fn begin_operators_anew(&mut self) {
        self.operators.asked.clear();
    }

    fn forget_old_changes(&mut self) {
        let now = self.now;
        self.operators.asked.retain(|_, asked| asked.until > now);
    }

    /// May a change of members that an operator asked for yet happen?
    pub(super) fn is_change_asked(&self) -> bool {
        self.operators.asked.values().any(|asked| asked.until > self.now)
    }

    /// May the members change by themselves, or by what was asked for?
    pub(super) fn may_members_change(&self) -> bool {
        let in_force = self.observer.configurations_in_force();
        let is_settled = |configuration: &Configuration| {
            configuration.outgoing.is_none() && configuration.learners.is_empty()
        };
        self.is_change_asked() || in_force.len() > 1 || !in_force.iter().all(|known| is_settled(known))
    }

    /// Will a majority hold all data still if this member leaves?
    fn can_do_without(&self, identity: NodeId) -> bool {
        let in_force = self.observer.configurations_in_force();
        in_force.iter().all(|configuration| {
            let mut smaller = Configuration::clone(configuration);
            smaller.voters.remove(&identity);
            if let Some(outgoing) = &mut smaller.outgoing {
                outgoing.remove(&identity);
            }
            has_lasting_quorum(&smaller, &self.good_identities())
        })
    }

    /// Will one if this machine loses what it stores?
    pub(super) fn keep_quorum_without(&self, slot: usize) -> bool {
        let mut others = self.good_identities();
        others.remove(&NodeId(self.machines[slot].identity.0));
        let in_force = self.observer.configurations_in_force();
        // Unformed members become formed through formed ones alone.
        let is_formed = |other: &NodeId| {
            let place = self.observer.slot_of(*other);
            place.is_some_and(|place| self.observer.is_formed(place))
        };
        let members = in_force.iter().flat_map(|known| known.members());
        members
            .filter(|member| others.contains(member))
            .any(|member| is_formed(&member))
            && in_force.iter().all(|known| has_lasting_quorum(known, &others))
    }

    /// Those whose machines have all they stored.
    fn good_identities(&self) -> BTreeSet<NodeId> {
        let machines = self.machines.iter();
        machines.filter_map(|machine| machine.good_identity()).collect()
    }

    /// Can these machines decide something, whichever of the configurations in force counts?
    pub(super) fn can_go_on(&self, core: &[usize]) -> bool {
        // What only a node in quarantine holds, nobody gets from it.
        let serving = core.iter().filter(|&&slot| !self.observer.is_accused(slot));
        let core = serving.filter_map(|&slot| self.machines[slot].good_identity());
        let core: BTreeSet<NodeId> = core.collect();
        let in_force = self.observer.configurations_in_force();
        in_force.iter().all(|known| lead(known, &core, 0))
    }
}

/// Are these a majority, even when the learners that are not among them vote some day?
fn has_lasting_quorum(configuration: &Configuration, good: &BTreeSet<NodeId>) -> bool {
    lead(
        configuration,
        good,
        configuration.learners.difference(good).count(),
    )
}

/// Are these a majority of each half, and are so many more against them?
fn lead(configuration: &Configuration, these: &BTreeSet<NodeId>, against: usize) -> bool {
    let mut halves = std::iter::once(&configuration.voters).chain(&configuration.outgoing);
    halves.all(|half| 2 * half.intersection(these).count() > half.len() + 2 * against)
}
