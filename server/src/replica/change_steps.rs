//! What a request to change members asks of the configuration in effect.

use raftkv_protocol::{Force, Introduction, Member, MemberCommand, NodeId, NodeName, Promotion};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{self as raft, ChangeChecks, Time};

use super::follow_ups::learner;
use super::formed::Formed;
use crate::membership::{Membership, Replacement};

/// The configuration to propose, and whom it is about.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) membership: Membership,
    pub(super) subject: NodeId,
    pub(super) checks: ChangeChecks,
}

/// A change that does not fit the members as they are: why.
pub(super) type Unfit = String;

impl Formed {
    /// The first step of what is asked for; `None`: what it needs is not there yet.
    pub(super) fn next_step(&self, now: Time, command: &MemberCommand) -> Result<Option<Step>, Unfit> {
        match command {
            MemberCommand::Add { name, promotion, .. } => self.step_to_add(now, name, *promotion),
            MemberCommand::Promote { name, force } => self.step_to_promote(name, *force).map(Some),
            MemberCommand::Remove { name, force } => self.step_to_remove(name, *force).map(Some),
            MemberCommand::Replace { name, force } => self.step_to_replace(now, name, *force),
            MemberCommand::TransferLeader { .. } => Ok(None),
        }
    }

    fn step_to_add(&self, now: Time, name: &NodeName, promotion: Promotion) -> Result<Option<Step>, Unfit> {
        let current = self.members.current();
        if current.named(name).is_some() {
            return Err(format!(
                "{name} is a member already; if its disk was lost, run: kvctl member replace {name}"
            ));
        }
        let Some(theirs) = self.candidate(now, name) else {
            return Ok(None);
        };
        self.check_address(theirs, None)?;
        let mut membership = with_learner(current, theirs);
        if promotion == Promotion::Asked {
            membership.held.insert(theirs.identity);
        }
        Ok(Some(Step {
            membership,
            subject: theirs.identity,
            checks: ChangeChecks::All,
        }))
    }

    fn step_to_promote(&self, name: &NodeName, force: Force) -> Result<Step, Unfit> {
        let current = self.members.current();
        let member = named(current, name)?;
        if member.voter {
            return Err(format!("{name} votes already"));
        }
        if !self.holds_the_log(member.identity) {
            mark("promotion of a node without a log refused");
            return Err(format!(
                "{name} does not hold the log yet, as far as this leader has heard, and could not vote: see that it runs and is reached, and ask again; nothing was changed"
            ));
        }
        Ok(Step {
            membership: current.with_promoted(member.identity),
            subject: member.identity,
            checks: checks(force),
        })
    }

    fn step_to_remove(&self, name: &NodeName, force: Force) -> Result<Step, Unfit> {
        let current = self.members.current();
        let subject = named(current, name)?.identity;
        let members = current.members.iter().filter(|member| member.identity != subject);
        let members: Vec<Member> = members.cloned().collect();
        if !members.iter().any(|member| member.voter) {
            return Err("it is the only voter: without it there is no cluster".to_owned());
        }
        Ok(Step {
            membership: current.towards(members),
            subject,
            checks: checks(force),
        })
    }

    fn step_to_replace(&self, now: Time, name: &NodeName, force: Force) -> Result<Option<Step>, Unfit> {
        let current = self.members.current();
        let member = named(current, name)?;
        let old = member.identity;
        if let Some(pair) = current.replacing.iter().find(|pair| pair.old == old) {
            return Err(format!(
                "{name} is being replaced already, by node {}, which takes its place once it has caught up",
                pair.new
            ));
        }
        let theirs = self.candidate(now, name);
        let Some(theirs) = theirs else {
            return Ok(None);
        };
        // Who has its address has taken its place already, however short ago it was heard.
        let is_gone = theirs.address == member.address;
        if force == Force::No && !is_gone && self.is_alive(now, old) {
            return Err(Formed::is_alive_still(name));
        }
        self.check_address(theirs, Some(old))?;
        let mut membership = with_learner(current, theirs);
        membership.replacing.push(Replacement {
            new: theirs.identity,
            old,
        });
        Ok(Some(Step {
            membership,
            subject: theirs.identity,
            checks: ChangeChecks::All,
        }))
    }

    /// Why nobody was put in a member's place, though asked for.
    pub(super) fn why_not_replaced(&self, now: Time, name: &NodeName) -> String {
        let old = self.members.current().named(name);
        match old.is_some_and(|old| self.is_alive(now, old.identity)) {
            true => Formed::is_alive_still(name),
            false => self.nobody_knocked(name),
        }
    }

    fn is_alive_still(name: &NodeName) -> String {
        format!(
            "{name} is alive: stop it first, or add the new node under another name and remove {name} then; --force replaces it all the same"
        )
    }

    /// Why nobody was let in.
    pub(super) fn nobody_knocked(&self, name: &NodeName) -> String {
        let address = &self.config.introduction.address;
        format!(
            "no new node called {name} has knocked: start it on an empty data directory with `server --id {name} --join {address}` and ask again; nothing was changed"
        )
    }

    /// Has it told this leader that entries are durable there? Whoever has not may not be formed at all. Only a leader lets it
    /// in, so if its vote were needed for one, there would never be one again: that is not the operator's to risk.
    fn holds_the_log(&self, member: NodeId) -> bool {
        let progress = self.raft.progress(raft::NodeId(member.0));
        progress.is_some_and(|progress| progress.matched.is_some())
    }

    /// Has it answered this leader lately?
    pub(super) fn is_alive(&self, now: Time, member: NodeId) -> bool {
        let progress = self.raft.progress(raft::NodeId(member.0));
        let heard = progress.and_then(|progress| progress.last_heard);
        member == self.config.introduction.identity
            || heard.is_some_and(|heard| now.since(heard) < self.config.raft.election_timeout)
    }

    /// Two members at one address would get each other's messages; only who takes a member's place may have its address.
    fn check_address(&self, theirs: &Introduction, place_of: Option<NodeId>) -> Result<(), Unfit> {
        let taken = self
            .members
            .current()
            .everyone()
            .find(|member| member.address == theirs.address && Some(member.identity) != place_of);
        match taken {
            None => Ok(()),
            Some(member) => Err(format!(
                "{} is the address of the member {}; give the new node another one",
                theirs.address, member.name
            )),
        }
    }
}

fn with_learner(current: &Membership, theirs: &Introduction) -> Membership {
    let mut members = current.members.clone();
    members.push(learner(theirs));
    current.towards(members)
}

fn named<'a>(current: &'a Membership, name: &NodeName) -> Result<&'a Member, Unfit> {
    current.named(name).ok_or_else(|| {
        let names: Vec<_> = current.members.iter().map(|member| &*member.name.0).collect();
        format!("no member is called {name}; the members are {}", names.join(", "))
    })
}

fn checks(force: Force) -> ChangeChecks {
    match force {
        Force::Yes if !mutant("force_ignored") => ChangeChecks::SafetyAlone,
        Force::No | Force::Yes => ChangeChecks::All,
    }
}
